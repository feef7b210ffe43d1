// SPDX-License-Identifier: BSD-2-Clause
/* A loop on either engine, and a watch that counts. */
#ifndef SKEP_LOOP_FIXTURE_H
#define SKEP_LOOP_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "loops.h"
#include "patience.h"

static inline struct loop *new_loop(void **state)
{
	struct error e = {""};
	struct loop *loop = NULL;

	if (loop_new(&loop, "test", *(const enum loop_engine *)*state, 8, &e) < 0)
		fail_msg("%s", e.msg);
	return loop;
}

static inline void start(struct loop *loop)
{
	struct error e = {""};

	if (loop_start(loop, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

static inline void await(const _Atomic unsigned *counter, unsigned at_least)
{
	uint64_t end = patience_end();

	while (*counter < at_least) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
}

static inline void kick(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

struct counter {
	struct loop_fd watch;
	_Atomic unsigned calls;
	_Atomic uint32_t events;
	bool drain;
};

static inline void count(struct loop_fd *w, uint32_t events)
{
	struct counter *c = container_of(w, struct counter, watch);

	if (c->drain)
		loop_drain_eventfd(w);
	c->events |= events;
	c->calls++;
}

struct ticker {
	struct loop_timer timer;
	_Atomic unsigned fired;
	uint64_t ns;
};

/* Pauses and resumes a watch in one turn. */
struct flip {
	struct loop_fd *watch;
	int times;
};

static inline void flip(void *arg)
{
	struct flip *f = arg;

	for (int i = 0; i < f->times; i++) {
		loop_pause(f->watch);
		loop_resume(f->watch);
	}
}

#endif
