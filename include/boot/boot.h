// SPDX-License-Identifier: BSD-2-Clause
/*
 * From kernel and initrd files to guest memory and an entry point.
 *
 * Formats: ELF vmlinux, bzImage (payload decompressed here and cached, or in the guest through the
 * 64-bit entry when it is unknown), ELF with a PVH note. Protocols: Linux 64-bit boot protocol
 * (Documentation/arch/x86/boot.rst) and PVH (xen/include/public/arch-x86/hvm/start_info.h).
 */
#ifndef SKEP_BOOT_H
#define SKEP_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kvm/gmem.h"

struct boot_files {
	int kernel_fd;
	int initrd_fd; /* -1: none; a memfd when it is made of several, or came by a pipe */
	int cache_fd;  /* the unpacked kernel: an entry of the cache or a memfd, -1: kernel_fd will
			  do */
	/* private to boot */
	struct boot_image *image;
};

struct boot_request {
	const char *kernel;   /* path, for messages */
	char *const *initrds; /* paths, NULL at the end; NULL: none */
	bool kaslr;
	bool cache;
};

enum boot_protocol { BOOT_LINUX64, BOOT_PVH };

/* How the first vCPU enters. */
struct boot_entry {
	enum boot_protocol protocol;
	bool is_linux;
	uint64_t initrd_size; /* bytes, 0: none */
	gpa_t ip;	      /* LINUX64: 64-bit entry; PVH: 32-bit entry */
	gpa_t params;	      /* LINUX64: boot_params for RSI; PVH: hvm_start_info for EBX */
};

/*
 * Opens and identifies the files (pipes are read to their end), and unpacks the kernel or finds it
 * in the cache: everything that needs the file system, before the sandbox. When a file is no
 * kernel, the message says what it is.
 */
int boot_open(struct boot_files *ret, const struct boot_request *request, struct error *e);
void boot_close(struct boot_files *files); /* idempotent */

/*
 * Places kernel and initrd in guest memory, once per VM. May run on its own thread while the VM is
 * created, before the sandbox: it notices a damaged entry of the cache, and rebuilds it. Touches
 * nothing below LAYOUT_HIGH_RAM. `cmdline` may have `nokaslr`. `request` is boot_open()'s.
 */
int boot_load(struct boot_files *files, const struct boot_request *request, const struct gmem *mem,
	      const char *cmdline, struct boot_entry *ret, struct error *e);

/*
 * Writes the command line, boot_params or hvm_start_info with the memory map, the GDT, and for
 * LINUX64 the page tables; sets entry->params. After boot_load(). `rsdp` is where acpi_build() put
 * the RSDP. -E2BIG with a message when the kernel takes no command line of this length.
 */
int boot_finish(const struct boot_files *files, const struct gmem *mem, const char *cmdline,
		gpa_t rsdp, struct boot_entry *entry, struct error *e);

#endif
