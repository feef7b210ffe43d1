// SPDX-License-Identifier: BSD-2-Clause
/*
 * A thread that waits for signals and for points in time, and for nothing else.
 *
 * DOC: Whatever the other threads are stuck in (a dead file server, a reader that has stopped, a
 * system call that takes a minute), this one can still end the process: it opens nothing, takes no
 * lock that others hold while they wait, and starts before anything slow.
 */
#ifndef SKEP_GUARD_H
#define SKEP_GUARD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define GUARD_NEVER UINT64_MAX

struct guard {
	/* Set by the owner: the signals to wait for, and what is called on the thread. `sig` is the
	 * signal, or 0: at the start, after guard_wake(), and at the time that the last call
	 * returned (like now_ns(); GUARD_NEVER: none). */
	sigset_t signals;
	uint64_t (*look)(struct guard *guard, int sig);
	void (*left)(struct guard *guard); /* what the thread does last; NULL: nothing */

	pthread_t thread;
	bool started;
	_Atomic bool quit;
};

/* Starts the thread; setup(arg), unless NULL, runs first on it, and must return 0. The caller, and
 * all threads created since, have `signals` blocked. */
int guard_start(struct guard *guard, int (*setup)(void *arg), void *arg, struct error *e);

/* Has look() called. Any thread, while the guard runs. */
void guard_wake(struct guard *guard);

/* Ends and joins the thread; what it did not take stays pending. No-op when it does not run. */
void guard_stop(struct guard *guard);

#endif
