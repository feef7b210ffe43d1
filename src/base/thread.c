// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/thread.h"
#include "base/util.h"

struct thread {
	const struct thread_start *start;
	sem_t ready;
	int result; /* of setup() */
};

static void *run(void *arg)
{
	struct thread *t = arg;
	const struct thread_start start = *t->start;
	int r;

	prctl(PR_SET_NAME, start.name);
	r = t->result = start.setup ? start.setup(start.setup_arg) : 0;
	sem_post(&t->ready); /* now *t may be gone */
	if (r == 0)
		start.main(start.main_arg);
	return NULL;
}

/*
 * Blocks signals on the calling thread, whose mask a new thread inherits: all but `except` and
 * those that a thread causes itself; blocked, these would kill the process without the handler that
 * restores the terminal.
 */
static void block_signals(int except, sigset_t *old)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGABRT, SIGTRAP};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&set, own[i]);
	if (except)
		sigdelset(&set, except);
	pthread_sigmask(SIG_SETMASK, &set, old);
}

int thread_start(pthread_t *ret, const struct thread_start *start, struct error *e)
{
	struct thread t = {.start = start};
	pthread_attr_t attr;
	sigset_t old;
	int r;

	if (e)
		e->msg[0] = '\0';
	sem_init(&t.ready, 0, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, start->stack);
	block_signals(start->signal, &old);
	r = -pthread_create(ret, &attr, run, &t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return error_set(e, r, "%s: cannot start its thread: %m%s", start->name,
				 error_task_remedy(r));
	while (sem_wait(&t.ready) < 0 && errno == EINTR)
		;
	sem_destroy(&t.ready);
	if (!t.result)
		return 0;
	pthread_join(*ret, NULL);
	if (e && !e->msg[0])
		error_set(e, t.result, "%s: cannot set up its thread: %m", start->name);
	return t.result;
}
