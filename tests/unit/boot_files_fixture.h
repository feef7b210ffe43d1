// SPDX-License-Identifier: BSD-2-Clause
/* Files that are no kernels and no initrds: each is refused with a message that says what it is. */
#ifndef SKEP_BOOT_FILES_FIXTURE_H
#define SKEP_BOOT_FILES_FIXTURE_H

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/image.h"
#include "child.h"
#include "kernels.h"

static char dir[] = "/tmp/test-boot-files-XXXXXX";

static inline void expect_open_error(const char *kernel, char *const *initrds, int code,
				     const char *text)
{
	const struct boot_request request = {.kernel = kernel, .initrds = initrds};
	struct error e = {""};
	struct boot_files files;
	int r = boot_open(&files, &request, &e);

	if (r != code || !strstr(e.msg, text))
		fail_msg("%s: %d \"%s\" instead of %d \"...%s...\"",
			 initrds[0] ? initrds[0] : kernel, r, e.msg, code, text);
	if (!initrds[0] || !initrds[1])
		assert_non_null(strstr(e.msg, initrds[0] ? initrds[0] : kernel));
	assert_null(files.image);
	boot_close(&files);
}

static inline void expect_error(const char *kernel, const char *initrd, int code, const char *text)
{
	char *const initrds[] = {(char *)(uintptr_t)initrd, NULL};

	expect_open_error(kernel, initrds, code, text);
}

static inline void expect_bzimage(struct blob *b, int code, const char *text)
{
	char *path = write_blob(dir, "bzimage", b);

	expect_error(path, NULL, code, text);
	free(path);
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
