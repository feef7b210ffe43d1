// SPDX-License-Identifier: BSD-2-Clause
/*
 * bzImages: the setup header, and an image of one that unpacks itself (boot.rst).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "image.h"
#include "kvm/layout.h"

/* boot.rst, "64-bit boot protocol": from the load address. */
#define BZIMAGE_ENTRY 0x200u

bool is_bzimage(const uint8_t *head)
{
	return head[0x1fe] == 0x55 && head[0x1ff] == 0xaa && !memcmp(head + 0x202, "HdrS", 4);
}

int bzimage_header(const struct image_source *src, struct setup_header *ret, struct error *e)
{
	uint8_t head[0x1f1 + sizeof(*ret)] = {0};
	size_t len;

	memset(ret, 0, sizeof(*ret));
	if (image_source_read(src, 0, head, MIN(src->size, sizeof(head))) || !is_bzimage(head))
		return error_set(e, -EINVAL, "is not a bzImage");
	/* The jump over the header says where it ends (boot.rst, "jump"). */
	len = 0x202u + head[0x201] - 0x1f1u;
	memcpy(ret, head + 0x1f1, MIN(len, sizeof(*ret)));
	if (!ret->setup_sects)
		ret->setup_sects = 4;
	if (!(ret->loadflags & LOADED_HIGH))
		return error_set(e, -EINVAL, "is a zImage: skep takes a bzImage or vmlinux");
	if (ret->version < 0x20c || !(ret->xloadflags & XLF_KERNEL_64))
		return error_set(e, -EINVAL,
				 "is a bzImage (boot protocol %u.%02u) without a 64-bit entry: a "
				 "32-bit kernel, or one older than Linux 3.8; skep runs x86-64 "
				 "kernels",
				 ret->version >> 8, ret->version & 0xffu);
	if (bzimage_code_offset(ret) >= src->size)
		return error_set(e, -EINVAL,
				 "is a truncated bzImage: its code begins at byte %llu of %llu",
				 (unsigned long long)bzimage_code_offset(ret),
				 (unsigned long long)src->size);
	return 0;
}

uint64_t bzimage_code_offset(const struct setup_header *h)
{
	return (h->setup_sects + 1u) * 512ull;
}

int image_from_bzimage(const struct image_source *src, struct kernel_image **ret, struct error *e)
{
	struct setup_header setup;
	struct kernel_image *image;
	uint64_t start, len;
	int r;

	r = bzimage_header(src, &setup, e);
	if (r)
		return r;
	start = bzimage_code_offset(&setup);
	len = MIN(src->size - start, setup.syssize * 16ull);
	if (len <= BZIMAGE_ENTRY || setup.init_size < len || setup.init_size > IMAGE_MAX_SPAN ||
	    setup.pref_address < LAYOUT_HIGH_RAM || setup.pref_address > GMEM_HOLE_START)
		return error_set(e, -EINVAL,
				 "is a broken bzImage: %llu bytes of code, to run in %u bytes at "
				 "0x%llx",
				 (unsigned long long)len, setup.init_size,
				 (unsigned long long)setup.pref_address);
	image = calloc(1, sizeof(*image) + sizeof(image->piece[0]));
	if (!image)
		return error_set(e, -ENOMEM, "out of memory");
	image->h = (struct image_header){
		.magic = IMAGE_MAGIC,
		.base = setup.pref_address,
		.span = setup.init_size,
		.entry = BZIMAGE_ENTRY,
		.protocol = BOOT_LINUX64,
		.num_pieces = 1,
		.unpacks = 1,
		.setup_len = sizeof(setup),
	};
	memcpy(image->h.setup, &setup, sizeof(setup));
	image->piece[0] = (struct image_piece){
		.file_offset = start,
		.len = (uint32_t)len,
		.kind = PIECE_DATA,
	};
	*ret = image;
	return 0;
}
