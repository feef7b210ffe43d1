// SPDX-License-Identifier: BSD-2-Clause
/* Kernels made for tests: an ELF like Linux's vmlinux with relocations, and a bzImage around it. */
#ifndef SKEP_TEST_KERNELS_H
#define SKEP_TEST_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob {
	uint8_t *data; /* malloc'ed */
	size_t len;
};

void blob_free(struct blob *b);
/* Grows the blob with zeros to `offset + len` bytes as needed, and copies. Aborts out of memory. */
void blob_put(struct blob *b, size_t offset, const void *data, size_t len);

/* The kernel's segments, offsets from where it is linked. */
#define VMLINUX_BASE	0x1000000u
#define VMLINUX_VIRT	0xffffffff81000000ull
#define VMLINUX_ENTRY	0x40u
#define VMLINUX_TEXT	0u
#define VMLINUX_LEN	(2560u << 10) /* text: a pattern, with zeros from 1 MiB to 1.5 MiB */
#define VMLINUX_PERCPU	(3u << 20)    /* virtual address 0, as it was until Linux 6.14 */
#define VMLINUX_DATA	(4u << 20)    /* 64 KiB, then bss to 5 MiB */
#define VMLINUX_SCRATCH (6u << 20)    /* 2 MiB of zeros that are in the file */
#define VMLINUX_SPAN	(8u << 20)

/* The last three are none: a word out of the kernel, a table too many, something before them. */
enum relocs {
	RELOCS_NONE,
	RELOCS_3_TABLES,
	RELOCS_2_TABLES,
	RELOCS_OUTSIDE,
	RELOCS_4_TABLES,
	RELOCS_AFTER_JUNK,
};

/* Words that the relocations name. */
extern const uint32_t reloc64_offsets[3], reloc32_offsets[3], inverse_offsets[2];

struct vmlinux_spec {
	enum relocs relocs;
	bool pvh_note;
	bool no_linux_note; /* and low virtual addresses: as a kernel of another kind has them */
};
struct blob make_vmlinux(const struct vmlinux_spec *spec);

/* What the loaded image has at each byte, not moved; VMLINUX_SPAN bytes. */
struct blob make_expected(const struct blob *vmlinux);

enum compression { C_GZIP, C_BZIP2, C_LZMA, C_XZ, C_LZ4, C_ZSTD, C_LZO, C_COUNT };
extern const char *const compression_names[C_COUNT];

/* A bzImage of boot protocol 2.15 whose payload is `vmlinux`. C_LZO is not really compressed. */
struct blob make_bzimage(const struct blob *vmlinux, enum compression how);
#define BZIMAGE_SETUP_LEN      1024u /* its protected-mode code begins here */
#define BZIMAGE_PAYLOAD_OFFSET 0x400u

/* Writes DIR/NAME and returns its path, malloc'ed. Aborts on errors. */
char *write_blob(const char *dir, const char *name, const struct blob *b);

#endif
