// SPDX-License-Identifier: BSD-2-Clause
/* Loops in unit tests: one test for both engines, what has run so far, and turns that are counted.
 * After <cmocka.h>. */
#ifndef SKEP_TEST_LOOPS_H
#define SKEP_TEST_LOOPS_H

#include "base/loop.h"
#include "base/util.h"

/* What cmocka hands to a test. */
static const enum loop_engine uring = LOOP_URING, epoll = LOOP_EPOLL;

#define URING(f)                                                                                   \
	{                                                                                          \
#f "/uring", f, NULL, NULL, (void *)&uring                                         \
	}
#define EPOLL(f)                                                                                   \
	{                                                                                          \
#f "/epoll", f, NULL, NULL, (void *)&epoll                                         \
	}
#define BOTH(f) URING(f), EPOLL(f)

static inline void nothing(void *arg)
{
	(void)arg;
}

/* After this, whatever was ready before was handled. (The first call may run in a turn that began
 * before, the second one just before its neighbours.) */
static inline void settle(struct loop *loop)
{
	for (int i = 0; i < 4; i++)
		loop_call(loop, nothing, NULL);
}

struct turns {
	struct loop_hook hook;
	_Atomic unsigned n;
};

static inline bool turn(struct loop_hook *hook)
{
	container_of(hook, struct turns, hook)->n++;
	return false;
}

/* Before the loop starts. */
static inline void count_turns(struct loop *loop, struct turns *turns)
{
	turns->hook.fn = turn;
	loop_add_hook(loop, &turns->hook);
}

#endif
