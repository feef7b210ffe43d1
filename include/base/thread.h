// SPDX-License-Identifier: BSD-2-Clause
/* A thread that lives as long as its VM. */
#ifndef SKEP_THREAD_H
#define SKEP_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "base/error.h"

struct thread_start {
	const char *name; /* at most 15 bytes */
	size_t stack;	  /* bytes */
	int signal;	  /* the one that it takes; 0: none. All others are for the main thread */
	int (*setup)(
		void *arg); /* runs first on the thread, e.g. to enter the sandbox; NULL: nothing */
	void *setup_arg;
	void (*main)(void *arg);
	void *main_arg;
};

/*
 * Starts a thread, and waits until setup() has returned there. What is not 0 of it ends the thread,
 * and is returned; otherwise main() runs, and the caller joins *ret in the end. A negative errno
 * with a message, which is setup()'s if that left one in *e.
 */
int thread_start(pthread_t *ret, const struct thread_start *start, struct error *e);

#endif
