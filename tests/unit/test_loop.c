// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "log.h"
#include "loop.h"
#include "util.h"

/* Most tests run on both engines. */
static const enum loop_engine uring = LOOP_URING, epoll = LOOP_EPOLL;

static struct loop *new_loop(void **state)
{
	struct error e = {""};
	struct loop *loop = NULL;

	if (loop_new(&loop, "test", *(const enum loop_engine *)*state, 8, &e) < 0)
		fail_msg("%s", e.msg);
	return loop;
}

static void start(struct loop *loop)
{
	struct error e = {""};

	if (loop_start(loop, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* After this, whatever was ready before was handled. */
static void settle(struct loop *loop)
{
	for (int i = 0; i < 3; i++)
		loop_call(loop, nothing, NULL);
}

static void await(const _Atomic unsigned *counter, unsigned at_least)
{
	for (int ms = 0; *counter < at_least; ms++) {
		assert_true(ms < 20000);
		usleep(1000);
	}
}

static void kick(int fd)
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

static void count(struct loop_fd *w, uint32_t events)
{
	struct counter *c = container_of(w, struct counter, watch);

	if (c->drain)
		loop_drain_eventfd(w);
	c->events |= events;
	c->calls++;
}

static void test_eventfd_wakes_the_loop(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = true};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN, count), 0);
	start(loop);
	for (unsigned i = 1; i <= 1000; i++) {
		kick(fd);
		await(&c.calls, i);
	}
	settle(loop);
	assert_int_equal(c.calls, 1000);
	assert_int_equal(c.events, EPOLLIN);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

static void test_edge_triggered_eventfd_needs_no_reading(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = false};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN | EPOLLET, count), 0);
	kick(fd); /* before the start: reported all the same */
	start(loop);
	await(&c.calls, 1);
	for (unsigned i = 2; i <= 100; i++) {
		kick(fd);
		await(&c.calls, i);
	}
	settle(loop);
	assert_int_equal(c.calls, 100);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

int main(void)
{
#define BOTH(f)                                                                                    \
	{#f "/uring", f, NULL, NULL, (void *)&uring},                                              \
	{                                                                                          \
#f "/epoll", f, NULL, NULL, (void *)&epoll                                         \
	}
	const struct CMUnitTest tests[] = {
		BOTH(test_eventfd_wakes_the_loop),
		BOTH(test_edge_triggered_eventfd_needs_no_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
