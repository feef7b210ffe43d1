// SPDX-License-Identifier: BSD-2-Clause
/*
 * Places kernel and initrd in guest memory.
 *
 * DOC: Both are copied, by pread(2) straight into guest memory, and never mapped. Measured with
 * Debian's cloud kernel (29 MiB of it are not zero) from the page cache: copying takes 2.5 ms with
 * checksums, mmap and memcpy() 3.0 ms, and the copy keeps the guest's huge pages, without which a
 * boot costs 20 to 50 ms more. A mapping would share little anyway: relocations and the kernel's
 * own patching write to most pages.
 *
 * A kernel that was unpacked here and has relocations is moved like its own decompressor would
 * have done it (arch/x86/boot/compressed/kaslr.c): the virtual address within 1 GiB, the physical
 * one within the memory below the initrd, each in steps of the kernel's alignment and independent
 * of the other. Steps of 2 MiB cost no huge page more than the link address does.
 *
 * The initrd lies as high as the kernel allows, where the guest's early allocations come from too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "boot_image.h"
#include "layout.h"
#include "log.h"
#include "util.h"

#define PAGE 4096u

/* linux/Documentation/arch/x86/boot.rst: what a kernel without a header says of itself. */
#define DEFAULT_INITRD_MAX 0x7fffffffull

#define LANES 8u

static inline uint64_t mix(uint64_t h, uint64_t word)
{
	h ^= word;
	return (h << 31 | h >> 33) * 0x9e3779b185ebca87ull;
}

/* Each step is a bijection of the lane's state, so one changed word always shows. Lanes, so that
 * the multiplications overlap: memory is the limit, not this. */
uint64_t image_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t lane[LANES], word[LANES], sum = len;
	size_t at = 0;

	for (unsigned i = 0; i < LANES; i++)
		lane[i] = 0x9e3779b97f4a7c15ull * (i + 1);
	for (; len - at >= sizeof(word); at += sizeof(word)) {
		memcpy(word, p + at, sizeof(word));
		for (unsigned i = 0; i < LANES; i++)
			lane[i] = mix(lane[i], word[i]);
	}
	memset(word, 0, sizeof(word));
	if (len > at)
		memcpy(word, p + at, len - at);
	for (unsigned i = 0; i < LANES; i++)
		sum = mix(mix(sum, lane[i]), word[i]);
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
	       h->checked && !h->unpacks && h->setup_len <= sizeof(h->setup) &&
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

/* Reads a piece's bytes to where they belong and checks them. */
static int read_piece(const struct kernel_image *image, const struct image_piece *p, int fd,
		      void *dst)
{
	ssize_t n = pread_full(fd, dst, p->len, p->file_offset);

	if (n < 0)
		return (int)n;
	if ((size_t)n != p->len)
		return -EBADMSG;
	if (image->h.checked && image_checksum(dst, p->len) != p->checksum)
		return -EBADMSG;
	return 0;
}

static int relocate(const struct image_header *h, const struct image_piece *p,
		    const uint32_t *offset, uint8_t *kernel, uint64_t delta)
{
	uint64_t width = p->kind == PIECE_RELOC64 ? 8 : 4;
	uint64_t max = h->span - width;
	uint32_t low = (uint32_t)(p->kind == PIECE_RELOC32_INVERSE ? 0 - delta : delta);
	size_t n = p->len / sizeof(*offset);

	for (size_t i = 0; i < n; i++) {
		uint32_t word;
		uint64_t wide;

		if (offset[i] > max)
			return -EBADMSG;
		if (width == 8) {
			memcpy(&wide, kernel + offset[i], sizeof(wide));
			wide += delta;
			memcpy(kernel + offset[i], &wide, sizeof(wide));
		} else {
			memcpy(&word, kernel + offset[i], sizeof(word));
			word += low;
			memcpy(kernel + offset[i], &word, sizeof(word));
		}
	}
	return 0;
}

/* An ELF may have pages of zeros too. Only a piece that is all zeros is left out, since less would
 * save no huge page; most pieces show in their first page that they are not. */
static bool piece_is_zero(const struct image_piece *p, int fd)
{
	uint8_t page[PAGE];

	for (uint64_t at = 0; at < p->len; at += sizeof(page)) {
		size_t len = MIN(p->len - at, sizeof(page));

		if (pread_full(fd, page, len, p->file_offset + at) != (ssize_t)len || page[0] ||
		    memcmp(page, page + 1, len - 1))
			return false;
	}
	return true;
}

int image_load(const struct kernel_image *image, int fd, const struct gmem *mem, uint64_t base,
	       int64_t delta)
{
	_cleanup_free_ uint32_t *offset = malloc(IMAGE_RELOC_LEN);
	void *kernel;
	int r;

	if (!offset)
		return -ENOMEM;
	r = gmem_slice(mem, GPA(base), image->h.span, &kernel);
	for (unsigned i = 0; !r && i < image->h.num_pieces; i++) {
		const struct image_piece *p = &image->piece[i];

		if (p->kind == PIECE_DATA && (image->h.checked || !piece_is_zero(p, fd)))
			r = read_piece(image, p, fd, (uint8_t *)kernel + p->offset);
	}
	for (unsigned i = 0; !r && delta && i < image->h.num_pieces; i++) {
		const struct image_piece *p = &image->piece[i];

		if (p->kind == PIECE_DATA)
			continue;
		r = read_piece(image, p, fd, offset);
		if (!r)
			r = relocate(&image->h, p, offset, kernel, (uint64_t)delta);
	}
	return r;
}

/* ----- where things go ----- */

static bool has_word(const char *cmdline, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = cmdline; (p = strstr(p, word)); p += len)
		if ((p == cmdline || p[-1] <= ' ') && (!p[len] || p[len] <= ' '))
			return true;
	return false;
}

/* `min` plus a multiple of `step`, at most `max`, each as likely. */
static int random_address(uint64_t min, uint64_t max, uint64_t step, uint64_t *ret)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	*ret = max > min ? min + r % ((max - min) / step + 1) * step : min;
	return 0;
}

static void initrd_limit(const struct image_header *h, uint64_t low_end, uint64_t *ret)
{
	struct setup_header setup;
	uint64_t max = DEFAULT_INITRD_MAX;

	if (h->protocol == BOOT_PVH)
		max = UINT32_MAX;
	if (h->setup_len) {
		memcpy(&setup, h->setup, sizeof(setup));
		max = setup.initrd_addr_max;
	}
	*ret = MIN(low_end, max + 1);
}

static int no_room(const struct boot_image *b, const struct gmem *mem, struct error *e)
{
	uint64_t kernel = b->kernel->h.base + b->kernel->h.span;
	uint64_t need = ALIGN_UP(kernel + ALIGN_UP(b->initrd_size, PAGE), 2 * MIB);

	if (b->initrd_size)
		return error_set(e, -ENOMEM,
				 "the kernel takes guest memory up to %" PRIu64
				 " MiB and the initrd %" PRIu64 " MiB, and the VM has %" PRIu64
				 " MiB: give it more with --memory (%" PRIu64
				 "M holds them, and to run it takes more)",
				 ALIGN_UP(kernel, MIB) / MIB, ALIGN_UP(b->initrd_size, MIB) / MIB,
				 gmem_size(mem) / MIB, need / MIB);
	return error_set(e, -ENOMEM,
			 "the kernel takes guest memory up to %" PRIu64
			 " MiB, and the VM has %" PRIu64
			 " MiB: give it more with --memory (%" PRIu64
			 "M holds it, and to run it takes more)",
			 ALIGN_UP(kernel, MIB) / MIB, gmem_size(mem) / MIB, need / MIB);
}

/* Sets base, initrd_base and kaslr, and the distance that virtual addresses are moved by. */
static int place(struct boot_image *b, const struct gmem *mem, bool kaslr, int64_t *ret_delta,
		 struct error *e)
{
	const struct image_header *h = &b->kernel->h;
	uint64_t end, virt;
	int r;

	initrd_limit(h, gmem_low_end(mem), &end);
	if (b->initrd_size) {
		if (b->initrd_size > end)
			return no_room(b, mem, e);
		end = ALIGN_DOWN(end - b->initrd_size, (uint64_t)PAGE);
		b->initrd_base = end;
	} else {
		end = gmem_low_end(mem);
	}
	b->base = h->base;
	b->kaslr = kaslr && (h->unpacks || (h->align && h->virt));
	*ret_delta = 0;
	if (h->base + h->span > end)
		return no_room(b, mem, e);
	if (!b->kaslr || h->unpacks)
		return 0;
	/* Virtual addresses begin at KERNEL_MAP + base, as image_from_elf() saw to. */
	r = random_address(h->base, end - h->span, h->align, &b->base);
	if (!r)
		r = random_address(h->base, IMAGE_MAX_SPAN - h->span, h->align, &virt);
	if (r)
		return error_set(e, r, "getrandom: %s; --no-kaslr does without", strerror(-r));
	*ret_delta = (int64_t)(virt - h->base);
	return 0;
}

static int load_initrd(const struct boot_files *files, const struct boot_request *request,
		       const struct gmem *mem, struct error *e)
{
	const struct boot_image *b = files->image;
	void *dst;
	ssize_t n;
	int r;

	if (!b->initrd_size)
		return 0;
	r = gmem_slice(mem, GPA(b->initrd_base), b->initrd_size, &dst);
	if (r)
		return r;
	n = pread_full(files->initrd_fd, dst, b->initrd_size, 0);
	if (n < 0)
		return error_set(e, (int)n, "initrd %s: cannot be read: %s", request->initrd,
				 strerror((int)-n));
	if ((uint64_t)n != b->initrd_size)
		return error_set(e, -EIO, "initrd %s: became shorter while it was read",
				 request->initrd);
	return 0;
}

static int load_kernel(struct boot_files *files, const struct boot_request *request,
		       const struct gmem *mem, bool kaslr, struct error *e)
{
	struct boot_image *b = files->image;
	int64_t delta;
	void *kernel;
	int r;

	r = place(b, mem, kaslr, &delta, e);
	if (r)
		return r;
	r = image_load(b->kernel, files->cache_fd >= 0 ? files->cache_fd : files->kernel_fd, mem,
		       b->base, delta);
	if (r == -EBADMSG && b->cached) {
		/* What is there already goes: the kernel may be placed elsewhere now. */
		if (!gmem_slice(mem, GPA(b->base), b->kernel->h.span, &kernel))
			madvise(kernel, b->kernel->h.span, MADV_DONTNEED);
		r = boot_rebuild(files, request, e);
		return r ? r : load_kernel(files, request, mem, kaslr, e);
	}
	if (r == -EBADMSG)
		return error_set(e, r, "kernel %s: became shorter while it was read",
				 request->kernel);
	if (r)
		return error_set(e, r, "kernel %s: cannot be read: %s", request->kernel,
				 strerror(-r));
	log_debug("kernel at 0x%" PRIx64 "%s, moved by 0x%" PRIx64, b->base,
		  b->kernel->h.unpacks ? " (unpacks itself)" : "", (uint64_t)delta);
	return 0;
}

int boot_load(struct boot_files *files, const struct boot_request *request, const struct gmem *mem,
	      const char *cmdline, struct boot_entry *ret, struct error *e)
{
	struct boot_image *b = files->image;
	int r;

	r = load_kernel(files, request, mem, request->kaslr && !has_word(cmdline, "nokaslr"), e);
	if (!r)
		r = load_initrd(files, request, mem, e);
	if (r)
		return r;
	*ret = (struct boot_entry){
		.protocol = (enum boot_protocol)b->kernel->h.protocol,
		.ip = GPA(b->base + b->kernel->h.entry),
	};
	return 0;
}
