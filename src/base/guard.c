// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <stdatomic.h>

#include "base/guard.h"
#include "base/thread.h"
#include "base/util.h"

#define WAKE_SIGNAL (SIGRTMIN + 2)
#define GUARD_STACK (128 * KIB)

/* The signal that came, or 0. */
static int wait_until(const struct guard *guard, uint64_t until)
{
	uint64_t now = now_ns(), ns = until > now ? until - now : 0;
	struct timespec ts = {.tv_sec = (time_t)(ns / NSEC_PER_SEC),
			      .tv_nsec = (long)(ns % NSEC_PER_SEC)};
	sigset_t set = guard->signals;
	int sig;

	sigaddset(&set, WAKE_SIGNAL);
	sig = sigtimedwait(&set, NULL, until == GUARD_NEVER ? NULL : &ts);
	return sig < 0 || sig == WAKE_SIGNAL ? 0 : sig;
}

static void guard_main(void *arg)
{
	struct guard *guard = arg;
	int sig = 0;

	do
		sig = wait_until(guard, guard->look(guard, sig));
	while (sig || !atomic_load(&guard->quit));
	if (guard->left)
		guard->left(guard);
}

int guard_start(struct guard *guard, int (*setup)(void *arg), void *arg, struct error *e)
{
	const struct thread_start start = {.name = "guard",
					   .stack = GUARD_STACK,
					   .setup = setup,
					   .setup_arg = arg,
					   .main = guard_main,
					   .main_arg = guard};
	int r;

	atomic_store(&guard->quit, false);
	r = thread_start(&guard->thread, &start, e);
	guard->started = r == 0;
	return r;
}

void guard_wake(struct guard *guard)
{
	pthread_kill(guard->thread, WAKE_SIGNAL);
}

void guard_stop(struct guard *guard)
{
	if (!guard->started)
		return;
	atomic_store(&guard->quit, true);
	guard_wake(guard);
	pthread_join(guard->thread, NULL);
	guard->started = false;
}
