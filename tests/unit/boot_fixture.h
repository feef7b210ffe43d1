// SPDX-License-Identifier: BSD-2-Clause
/* Kernels that the test makes, and guest memory to put them in. */
#ifndef SKEP_BOOT_FIXTURE_H
#define SKEP_BOOT_FIXTURE_H

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/image.h"
#include "kernels.h"
#include "kvm/layout.h"

#define CMDLINE "console=hvc0 root=/dev/vda"
#define RSDP	GPA(0xe1230)
#define MEMORY	(64 * MIB)

static char dir[] = "/tmp/test-boot-XXXXXX";

/* One boot, from files to the entry. */
struct boot {
	struct gmem mem;
	struct boot_request request;
	struct boot_files files;
	struct boot_entry entry;
	struct error e;
};

static inline int boot(struct boot *b, const char *cmdline, uint64_t memory)
{
	int r;

	b->e.msg[0] = '\0';
	assert_int_equal(gmem_create(&b->mem, memory, NULL), 0);
	r = boot_open(&b->files, &b->request, &b->e);
	if (r)
		fail_msg("%s", b->e.msg);
	r = boot_load(&b->files, &b->request, &b->mem, cmdline, &b->entry, &b->e);
	if (!r)
		r = boot_finish(&b->files, &b->mem, cmdline, RSDP, &b->entry, &b->e);
	return r;
}

static inline void must_boot(struct boot *b, const char *cmdline, uint64_t memory)
{
	if (boot(b, cmdline, memory))
		fail_msg("%s", b->e.msg);
}

static inline void done(struct boot *b)
{
	boot_close(&b->files);
	boot_close(&b->files); /* again is no harm */
	gmem_destroy(&b->mem);
}

static inline void *at(const struct boot *b, uint64_t addr)
{
	void *p;

	assert_int_equal(gmem_slice(&b->mem, GPA(addr), 1, &p), 0);
	return p;
}

static inline uint64_t get(const struct boot *b, uint64_t addr, size_t len)
{
	uint64_t v = 0;
	void *p;

	assert_int_equal(gmem_slice(&b->mem, GPA(addr), len, &p), 0);
	memcpy(&v, p, len);
	return v;
}

static inline char *make_file(const struct vmlinux_spec *spec, int how, const char *name)
{
	struct blob v = make_vmlinux(spec), b = {NULL, 0};
	char *path;

	if (how >= 0)
		b = make_bzimage(&v, (enum compression)how);
	path = write_blob(dir, name, how >= 0 ? &b : &v);
	blob_free(&b);
	blob_free(&v);
	return path;
}

static inline struct blob expected_image(const struct vmlinux_spec *spec)
{
	struct blob v = make_vmlinux(spec), b = make_expected(&v);

	blob_free(&v);
	return b;
}

static inline int setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	return mkdtemp(dir) ? 0 : -1;
}

static inline int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

#endif
