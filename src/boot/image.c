// SPDX-License-Identifier: BSD-2-Clause
/*
 * The form in which kernels are kept: reading it, and knowing that it is whole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "image.h"
#include "kvm/layout.h"

int image_source_read(const struct image_source *src, uint64_t offset, void *buf, size_t len)
{
	ssize_t n;

	if (offset > src->size || len > src->size - offset)
		return -ENODATA;
	if (src->mem) {
		memcpy(buf, src->mem + offset, len);
		return 0;
	}
	n = pread_full(src->fd, buf, len, offset);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ENODATA;
}

/* Two 64-bit words: what any x86-64 adds at once. */
typedef uint64_t words __attribute__((vector_size(16)));

static inline uint64_t mix(uint64_t h, uint64_t word)
{
	h ^= word;
	return (h << 31 | h >> 33) * 0x9e3779b185ebca87ull;
}

/*
 * Fletcher's sums over four lanes of 64-bit words: `a` of the words, `b` of all that `a` was, so
 * that a change, an exchange and a shift all show. At 50 GB/s on words that were just copied it is
 * hardly seen beside the copying.
 */
uint64_t image_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	words w[2], a[2] = {{0}, {0}}, b[2] = {{0}, {0}};
	uint64_t sum = len;
	size_t at = 0;

	for (; len - at >= sizeof(w); at += sizeof(w)) {
		memcpy(w, p + at, sizeof(w));
		a[0] += w[0];
		a[1] += w[1];
		b[0] += a[0];
		b[1] += a[1];
	}
	memset(w, 0, sizeof(w));
	if (len > at)
		memcpy(w, p + at, len - at);
	for (unsigned i = 0; i < 4; i++) {
		sum = mix(sum, a[i / 2][i % 2]);
		sum = mix(sum, b[i / 2][i % 2]);
		sum = mix(sum, w[i / 2][i % 2]);
	}
	return sum;
}

static bool piece_is_valid(const struct image_header *h, const struct image_piece *p)
{
	if (!p->len || p->file_offset > h->file_size || p->len > h->file_size - p->file_offset)
		return false;
	if (p->kind == PIECE_DATA)
		return p->offset <= h->span && p->len <= h->span - p->offset;
	return h->virt && p->kind <= PIECE_RELOC64 && p->len <= IMAGE_RELOC_LEN && p->len % 4 == 0;
}

static bool header_is_valid(const struct image_header *h)
{
	return h->magic == IMAGE_MAGIC && h->num_pieces <= IMAGE_MAX_PIECES && h->span >= 8 &&
	       h->span <= IMAGE_MAX_SPAN && h->base >= LAYOUT_HIGH_RAM &&
	       h->base <= GMEM_HOLE_START && h->entry < h->span && h->protocol == BOOT_LINUX64 &&
	       h->checked && !h->unpacks && !h->foreign && h->setup_len <= sizeof(h->setup) &&
	       h->setup_len == sizeof(struct setup_header) && !(h->align & (h->align - 1)) &&
	       h->align <= GIB;
}

int image_read(int fd, struct kernel_image **ret)
{
	_cleanup_free_ struct kernel_image *image = NULL;
	struct image_header h;
	struct stat st;
	uint64_t sum;
	size_t len;

	if (pread_full(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || fstat(fd, &st) ||
	    !header_is_valid(&h) || (uint64_t)st.st_size != h.file_size)
		return -EBADMSG;
	len = sizeof(*image) + h.num_pieces * sizeof(image->piece[0]);
	image = malloc(len);
	if (!image)
		return -ENOMEM;
	if (pread_full(fd, image, len, 0) != (ssize_t)len || memcmp(&h, &image->h, sizeof(h)))
		return -EBADMSG;
	sum = h.checksum;
	image->h.checksum = 0;
	if (image_checksum(image, len) != sum)
		return -EBADMSG;
	for (unsigned i = 0; i < h.num_pieces; i++)
		if (!piece_is_valid(&h, &image->piece[i]))
			return -EBADMSG;
	*ret = image;
	image = NULL;
	return 0;
}
