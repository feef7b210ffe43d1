// SPDX-License-Identifier: BSD-2-Clause
/* A kernel, a cache for it, and what the log says meanwhile. */
#ifndef SKEP_CACHE_FIXTURE_H
#define SKEP_CACHE_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/cache.h"
#include "boot/image.h"
#include "child.h"
#include "kernels.h"

#define MEMORY (64 * MIB)

/* Each test has a cache of its own: HOME/skep, and a kernel beside it. */
static char home[64], cache_dir[80], kernel[96];
static struct blob expected;

static inline void run(const char *format, const char *arg)
{
	char command[256];

	snprintf(command, sizeof(command), format, arg);
	assert_int_equal(system(command), 0);
}

static inline void write_kernel(uint32_t change, enum compression how)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){.relocs = RELOCS_3_TABLES}), b;

	blob_put(&v, 0x1000 + 0x5000, &change, sizeof(change));
	blob_free(&expected);
	expected = make_expected(&v);
	b = make_bzimage(&v, how);
	free(write_blob(home, "bzImage", &b));
	blob_free(&b);
	blob_free(&v);
}

static inline int setup(void **state)
{
	(void)state;
	snprintf(home, sizeof(home), "/tmp/test-cache-XXXXXX");
	if (!mkdtemp(home))
		return -1;
	snprintf(cache_dir, sizeof(cache_dir), "%s/skep", home);
	snprintf(kernel, sizeof(kernel), "%s/bzImage", home);
	setenv("XDG_CACHE_HOME", home, 1);
	write_kernel(1, C_LZ4);
	return 0;
}

static int real_stderr = -1;
static FILE *captured;

static inline void capture(void)
{
	fflush(stderr);
	captured = tmpfile();
	assert_non_null(captured);
	real_stderr = dup(2);
	dup2(fileno(captured), 2);
}

/* The number of lines logged since capture(), all of which the caller gets. */
static inline unsigned captured_lines(char *buf, size_t size)
{
	unsigned lines = 0;
	size_t n;

	dup2(real_stderr, 2);
	close(real_stderr);
	rewind(captured);
	n = fread(buf, 1, size - 1, captured);
	buf[n] = '\0';
	fclose(captured);
	captured = NULL;
	for (const char *p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

static inline void expect_one_line(const char *text)
{
	char log[2048];
	unsigned lines = captured_lines(log, sizeof(log));

	if (lines != 1 || !strstr(log, text))
		fail_msg("%u lines instead of one with \"%s\": %s", lines, text, log);
}

static inline void expect_silence(void)
{
	char log[2048];

	if (captured_lines(log, sizeof(log)))
		fail_msg("unexpected: %s", log);
}

/* A test that failed while it was capturing has its say yet. */
static inline int teardown(void **state)
{
	char log[2048];

	(void)state;
	if (captured) {
		captured_lines(log, sizeof(log));
		fputs(log, stderr);
	}
	run("rm -rf %s", home);
	return 0;
}

/* Boots as far as memory goes, and checks that all of the kernel is there and right. */
static inline void boot(bool use_cache)
{
	const struct boot_request request = {.kernel = kernel, .cache = use_cache};
	struct error e = {""};
	struct boot_files files;
	struct boot_entry entry;
	struct gmem mem;

	assert_int_equal(gmem_create(&mem, MEMORY, NULL), 0);
	if (boot_open(&files, &request, &e) || boot_load(&files, &request, &mem, "", &entry, &e))
		fail_msg("%s", e.msg);
	assert_memory_equal(mem.region[0].host + VMLINUX_BASE, expected.data, VMLINUX_SPAN);
	boot_close(&files);
	gmem_destroy(&mem);
}

/* Whether the next boot finds its kernel in the cache. */
static inline bool is_cached(void)
{
	const struct boot_request request = {.kernel = kernel, .cache = true};
	struct boot_files files;
	bool cached;

	assert_int_equal(boot_open(&files, &request, NULL), 0);
	cached = files.image->cached;
	boot_close(&files);
	return cached;
}

/* The entries whose names have `kind` in them; the last one's path. */
static inline unsigned count(const char *kind, char *ret_path, size_t size)
{
	DIR *dir = opendir(cache_dir);
	struct dirent *d;
	unsigned n = 0;

	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && strstr(d->d_name, kind)) {
			n++;
			if (ret_path)
				snprintf(ret_path, size, "%s/%s", cache_dir, d->d_name);
		}
	closedir(dir);
	return n;
}

#endif
