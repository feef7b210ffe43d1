// SPDX-License-Identifier: BSD-2-Clause
/*
 * Kernel files of all kinds, up to the entry into the guest. What is accepted must lie in guest
 * memory, above the first MiB; what is refused must come with a message.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/magic.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/image.h"
#include "kvm/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY	   (64 * MIB)
#define SETUP_LEN  1024u
#define ENTRY_MAX  (256u << 10)
#define UNPACK_MAX (256u << 10)

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

static struct gmem mem;
static int file_fd, image_fd; /* what is given, and what image_build() makes of it */

static void set_up(void)
{
	if (mem.num_regions)
		return;
	log_set_level(LOG_ERROR);
	CHECK(gmem_create(&mem, MEMORY, NULL) == 0);
	file_fd = memfd_create("file", MFD_CLOEXEC);
	image_fd = memfd_create("image", MFD_CLOEXEC);
	CHECK(file_fd >= 0 && image_fd >= 0);
}

static void set_file(int fd, const void *data, size_t size)
{
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(pwrite(fd, data, size, 0) == (ssize_t)size);
}

static void check_first_mib(void)
{
	const uint8_t *low = mem.region[0].host;

	CHECK(low[0] == 0 && memcmp(low, low + 1, LAYOUT_HIGH_RAM - 1) == 0);
}

/* Takes the kernel over. */
static void load(struct kernel_image *kernel, int fd)
{
	const struct boot_request request = {.kernel = "fuzz", .kaslr = true};
	struct boot_image image = {.kernel = kernel};
	struct boot_files files = {
		.kernel_fd = fd, .initrd_fd = -1, .cache_fd = -1, .image = &image};
	struct error e = {""};
	struct boot_entry entry;
	int r;

	r = boot_load(&files, &request, &mem, "quiet", &entry, &e);
	check_first_mib();
	CHECK(r <= 0 && (r == 0) == (e.msg[0] == '\0'));
	if (!r) {
		CHECK(image.base >= LAYOUT_HIGH_RAM && image.base + kernel->h.span <= MEMORY);
		CHECK(entry.ip.v >= image.base && entry.ip.v < image.base + kernel->h.span);
		r = boot_finish(&files, &mem, "quiet", GPA(LAYOUT_ACPI), &entry, &e);
		CHECK(r == 0 || r == -E2BIG);
	}
	madvise(mem.region[0].host, MEMORY, MADV_DONTNEED);
	free(kernel);
}

static void build(const uint8_t *data, size_t size)
{
	struct kernel_image *kernel;
	struct error e = {""};
	int r;

	CHECK(ftruncate(image_fd, 0) == 0);
	r = image_build(data, size, image_fd, &e);
	CHECK(r <= 0 && (r == 0) == (e.msg[0] == '\0'));
	if (r)
		return;
	/* What was built is read back, whatever it was built from. */
	r = image_read(image_fd, &kernel);
	CHECK(r == 0 || r == -EBADMSG);
	if (!r)
		load(kernel, image_fd);
}

static void fuzz_file(const uint8_t *data, size_t size)
{
	const struct image_source src = {.mem = data, .size = size};
	struct kernel_image *kernel;
	struct file_identity id;
	struct error e = {""};
	int r = -1;

	image_identify(&src, &id);
	CHECK(id.what[0] != '\0');
	if (id.type == FILE_ELF)
		r = image_from_elf(&src, &kernel, &e);
	else if (id.type == FILE_BZIMAGE)
		r = image_from_bzimage(&src, &kernel, &e);
	else
		return;
	CHECK((r == 0) == (e.msg[0] == '\0'));
	if (!r) {
		set_file(file_fd, data, size);
		load(kernel, file_fd);
	}
	if (id.type == FILE_BZIMAGE)
		build(data, size);
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* The input is the vmlinux, in a bzImage whose payload is one LZ4 block of literals. */
static void fuzz_vmlinux(const uint8_t *data, size_t size)
{
	size_t payload = SETUP_LEN + 16, at = payload + 9, left, len;
	uint8_t *b = calloc(1, payload + size + size / 255 + 64);

	CHECK(b);
	memcpy(b + payload, MAGIC_LZ4_LEGACY, 4);
	if (size < 15) {
		b[payload + 8] = (uint8_t)(size << 4);
	} else {
		b[payload + 8] = 0xf0;
		for (left = size - 15; left >= 255; left -= 255)
			b[at++] = 255;
		b[at++] = (uint8_t)left;
	}
	memcpy(b + at, data, size);
	at += size;
	put32(b + payload + 4, (uint32_t)(at - payload - 8));
	put32(b + at, (uint32_t)size);
	len = at + 4;
	b[0x1f1] = 1;
	memcpy(b + 0x1fe, "\x55\xaa\xeb\x6aHdrS\x0f\x02", 10);
	b[0x211] = 1;
	put32(b + 0x22c, 0x7fffffff);
	put32(b + 0x230, 0x200000);
	b[0x234] = 1;
	b[0x236] = 1;
	put32(b + 0x248, (uint32_t)(payload - SETUP_LEN));
	put32(b + 0x24c, (uint32_t)(len - payload));
	build(b, len);
	free(b);
}

static void fuzz_payload(const uint8_t *data, size_t size)
{
	struct error e = {""};
	uint32_t out_len;
	uint8_t *out;
	int r;

	if (size < 4)
		return;
	memcpy(&out_len, data, 4);
	out_len %= UNPACK_MAX;
	out = malloc(out_len + 1); /* exactly as long, so that an overrun is seen */
	CHECK(out);
	r = payload_unpack(data + 4, size - 4, out, out_len, &e);
	CHECK(r <= 0 && (r == 0) == (e.msg[0] == '\0'));
	free(out);
}

/* The input is an entry of the cache whose checksums are right, as someone could make it who can
 * write there, or a decompressor that was taken over. */
static void fuzz_entry(const uint8_t *data, size_t size)
{
	struct kernel_image *image = calloc(1, ENTRY_MAX), *back;
	int r;

	CHECK(image);
	memcpy(image, data, MIN(size, ENTRY_MAX));
	image->h.magic = IMAGE_MAGIC;
	image->h.file_size = ENTRY_MAX;
	image->h.num_pieces %= 64;
	for (unsigned i = 0; i < image->h.num_pieces; i++) {
		struct image_piece *p = &image->piece[i];

		if (p->file_offset < ENTRY_MAX && p->len <= ENTRY_MAX - p->file_offset)
			p->checksum = image_checksum((uint8_t *)image + p->file_offset, p->len);
	}
	image->h.checksum = 0;
	image->h.checksum = image_checksum(image, sizeof(*image) + image->h.num_pieces *
									   sizeof(image->piece[0]));
	set_file(file_fd, image, ENTRY_MAX);
	r = image_read(file_fd, &back);
	CHECK(r == 0 || r == -EBADMSG);
	if (!r)
		load(back, file_fd);
	free(image);
}

/* The first byte chooses. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const modes[])(const uint8_t *, size_t) = {fuzz_file, fuzz_vmlinux,
								 fuzz_payload, fuzz_entry};
	uint8_t *copy;

	set_up();
	if (!size)
		return 0;
	copy = malloc(size); /* not size - 1: that may be 0 */
	CHECK(copy);
	memcpy(copy, data + 1, size - 1);
	modes[data[0] % ARRAY_SIZE(modes)](copy, size - 1);
	free(copy);
	return 0;
}
