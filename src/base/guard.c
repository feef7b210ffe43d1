// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/guard.h"
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

static void *guard_thread(void *arg)
{
	struct guard *guard = arg;
	int r, sig = 0;

	prctl(PR_SET_NAME, "guard");
	r = guard->setup_result = guard->setup ? guard->setup(guard->setup_arg) : 0;
	sem_post(&guard->ready);
	if (r)
		return NULL;
	do
		sig = wait_until(guard, guard->look(guard, sig));
	while (sig || !atomic_load(&guard->quit));
	return NULL;
}

int guard_start(struct guard *guard, int (*setup)(void *arg), void *arg, struct error *e)
{
	pthread_attr_t attr;
	sigset_t old;
	int r;

	sem_init(&guard->ready, 0, 0);
	guard->setup = setup;
	guard->setup_arg = arg;
	atomic_store(&guard->quit, false);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, GUARD_STACK);
	block_signals(0, &old);
	r = -pthread_create(&guard->thread, &attr, guard_thread, guard);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return error_set(e, r, "cannot start a thread: %s%s", strerror(-r),
				 error_task_remedy(r));
	guard->started = true;
	while (sem_wait(&guard->ready) < 0 && errno == EINTR)
		;
	r = guard->setup_result;
	if (r) {
		guard_stop(guard);
		return error_set(e, r, "guard: cannot set up its thread: %s", strerror(-r));
	}
	return 0;
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
