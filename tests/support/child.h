// SPDX-License-Identifier: BSD-2-Clause
/* Processes of their own, for tests that give up what cannot be had back: rights, system calls. */
#ifndef SKEP_TEST_CHILD_H
#define SKEP_TEST_CHILD_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>

/* Runs fn(arg) in a child process; what it returns, 0 when all was well, or -1 when a signal ended
 * it. */
int in_child(int (*fn)(const char *arg), const char *arg);
/* A mount namespace of this process's own, from which nothing spreads. 0 or -1. */
int own_mounts(void);
/* Install a seccomp filter; one under which system call `nr` does `action` (SECCOMP_RET_...). 0 or
 * a negative errno. */
int filter_install(struct sock_filter *code, size_t n);
int filter_syscall(unsigned nr, unsigned action);

/* For `fn`, which has a struct error `e`. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, e.msg);        \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

#endif
