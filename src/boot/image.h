// SPDX-License-Identifier: BSD-2-Clause
/*
 * A kernel image: the form in which kernels are kept, and from which they are loaded.
 *
 * Private to boot, its tests and its fuzz target. A kernel image says which pieces of a file go
 * where in guest memory, and what to add to which words when the kernel is moved. The file is the
 * kernel itself (an ELF, a bzImage that unpacks itself in the guest) or the unpacked kernel that
 * image_build() made, which begins with the image's own header and pieces, as they are in memory:
 * the cache is read by the host that wrote it.
 *
 * Addresses are physical, lengths and offsets in bytes.
 */
#ifndef SKEP_BOOT_IMAGE_H
#define SKEP_BOOT_IMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "boot/boot.h"
#include "kvm/gmem.h"

/* In the name of every cache entry. Change it with anything below, and with what image_build()
 * writes. */
#define IMAGE_VERSION 3u
#define IMAGE_MAGIC   0x314e524b50454b53ull /* "SKEPKRN1" */

#define IMAGE_MAX_PIECES 8192u
#define IMAGE_MAX_PIECE	 (256u << 10)	/* bytes: in the CPU's cache from copying to checking */
#define IMAGE_MAX_SPAN	 (1ull << 30)	/* Linux: KERNEL_IMAGE_SIZE */
#define IMAGE_MAX_FILE	 (1ull << 30)	/* kernels and initrds larger than this are none */
#define IMAGE_MAX_KERNEL (512ull << 20) /* a kernel, packed or unpacked */
#define IMAGE_RELOC_LEN	 (64u << 10)	/* bytes of relocations in a piece, at most */

enum image_piece_kind {
	PIECE_DATA,
	/* Arrays of uint32_t, offsets in the image: what the kernel's virtual addresses were moved
	 * by is added to the words there. */
	PIECE_RELOC32,
	PIECE_RELOC32_INVERSE, /* subtracted */
	PIECE_RELOC64,
};

struct image_piece {
	uint64_t file_offset;
	uint64_t checksum; /* image_checksum(); see image_header.checked */
	uint32_t offset;   /* PIECE_DATA: in the image */
	uint32_t len;
	uint32_t kind; /* enum image_piece_kind */
	uint32_t zero;
};

struct image_header {
	uint64_t magic;
	uint64_t checksum;  /* of header and pieces, with this field 0 */
	uint64_t file_size; /* 0: not the kind of file that begins with this header */
	uint64_t base;	    /* where offset 0 was linked to be loaded */
	uint64_t span;	    /* from offset 0 to the end, bss and all */
	uint64_t align;	    /* of the load address; 0: only `base` will do */
	uint64_t virt;	    /* virtual address of offset 0, when there are relocations; else 0 */
	uint64_t entry;	    /* offset of the entry point */
	uint32_t protocol;  /* enum boot_protocol */
	uint32_t num_pieces;
	uint32_t checked;   /* pieces have checksums */
	uint32_t unpacks;   /* a bzImage that unpacks itself, KASLR included */
	uint32_t foreign;   /* not Linux, whatever the protocol */
	uint32_t setup_len; /* bytes of `setup`, 0: an ELF has none */
	uint8_t setup[132]; /* struct setup_header */
};

struct kernel_image {
	struct image_header h;
	struct image_piece piece[];
};

/* A file, or the part of memory that holds one. */
struct image_source {
	int fd;		    /* used when mem is NULL */
	const uint8_t *mem; /* owned by the caller */
	uint64_t size;
};

/* Reads the whole range: 0, -EIO or another errno, -ENODATA when it runs out of the source. */
int image_source_read(const struct image_source *src, uint64_t offset, void *buf, size_t len);

/* What a file is, by its first bytes and a few more. */
enum file_type { FILE_BZIMAGE, FILE_ELF, FILE_MAYBE_INITRD, FILE_OTHER };
struct file_identity {
	enum file_type type;
	char what[160]; /* "a gzip file"; empty for a bzImage that can be booted */
	char hint[160]; /* "unpack it first (zcat)"; may be empty */
};
/* Never fails: what cannot be read is "unknown". */
void image_identify(const struct image_source *src, struct file_identity *ret);

/* Whether what a file begins with (its first 0x206 bytes) is a Linux setup header. */
bool is_bzimage(const uint8_t *head);
/* The setup header of a bzImage, zeroed beyond the file's own. -EINVAL with a message when it
 * is no bzImage that can be entered in 64-bit mode. */
int bzimage_header(const struct image_source *src, struct setup_header *ret, struct error *e);
/* Where its protected-mode code begins. */
uint64_t bzimage_code_offset(const struct setup_header *h);

/* An image for the bzImage to be loaded as it is and to unpack itself. Freed by the caller. */
int image_from_bzimage(const struct image_source *src, struct kernel_image **ret, struct error *e);
/* An image for the ELF in `src`, its segments one to one. Freed by the caller. */
int image_from_elf(const struct image_source *src, struct kernel_image **ret, struct error *e);
/* The end of what the ELF's headers describe, in the file; 0 when they are broken. */
uint64_t elf_end(const struct image_source *src);

/* The compression of a bzImage's payload by its first bytes; NULL: none that is known here. */
const char *payload_format(const uint8_t *in, size_t len);
/* Unpacks it into exactly `out_len` bytes. -EBADMSG with a message when it is damaged. */
int payload_unpack(const uint8_t *in, size_t len, uint8_t *out, size_t out_len, struct error *e);

/*
 * Unpacks the bzImage in memory and writes its kernel image to `fd`, an empty file, at offset 0.
 * -EBADMSG or -EINVAL with a message when the file is damaged, else what writing said.
 */
int image_build(const uint8_t *file, size_t size, int fd, struct error *e);

/*
 * The same in a child process that can do nothing but compute and write to `fd`, and whose memory
 * is gone with it. After image_build_start() one of the others is called, once; until then `file`
 * stays as it is. image_build_finish() waits: -ECHILD when the child died.
 */
struct image_build {
	pid_t pid;
	struct report *report;
};
int image_build_start(struct image_build *ret, const uint8_t *file, size_t size, int fd,
		      struct error *e);
int image_build_finish(struct image_build *job, struct error *e);
void image_build_cancel(struct image_build *job);

/* Not cryptographic: finds damage, not malice. */
uint64_t image_checksum(const void *data, size_t len);

/* Reads header and pieces that image_build() wrote and checks all that loading relies on.
 * -EBADMSG when they are damaged. Freed by the caller. */
int image_read(int fd, struct kernel_image **ret);

/* What boot_open() found, and where boot_load() put it. */
struct boot_image {
	struct kernel_image *kernel;
	uint64_t initrd_size; /* 0: none */
	bool cached;	      /* cache_fd is an entry found in the cache: may be damaged */
	/* by boot_load() */
	uint64_t base, initrd_base;
	bool kaslr; /* it was moved, or is to move itself */
};

/* Throws the cache's entry for this kernel away and makes it anew. */
int boot_rebuild(struct boot_files *files, const struct boot_request *request, struct error *e);

#endif
