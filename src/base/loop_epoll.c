// SPDX-License-Identifier: BSD-2-Clause
/* The engine for hosts without io_uring, and for the control loop. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "loop_engine.h"

static int epoll_open(struct loop *loop, unsigned entries, struct error *e)
{
	(void)entries;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return error_set(e, -errno, "cannot create an epoll descriptor: %m");
	return 0;
}

static void epoll_close(struct loop *loop)
{
	close(loop->epoll_fd);
}

static int epoll_seal(struct loop *loop, struct error *e)
{
	(void)loop;
	(void)e;
	return 0;
}

static int epoll_add(struct loop *loop, struct loop_fd *w)
{
	struct epoll_event ev = {.events = w->events, .data = {.ptr = w}};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, w->fd, &ev) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	w->always = true;
	return 0;
}

static void epoll_arm(struct loop_fd *w)
{
	int r = epoll_add(w->loop, w);

	if (r < 0)
		log_error("%s: descriptor %d is no longer watched: %s", w->loop->name, w->fd,
			  strerror(-r));
}

/* Removed, because a hang-up is reported whatever the mask is. */
static void epoll_disarm(struct loop_fd *w)
{
	epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
}

static int epoll_engine_wait(struct loop *loop, bool block)
{
	struct epoll_event ev[32];
	int n = epoll_wait(loop->epoll_fd, ev, ARRAY_SIZE(ev), block ? -1 : 0);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		loop_mark_ready(ev[i].data.ptr, ev[i].events);
	return 0;
}

const struct loop_engine_ops loop_engine_epoll = {
	.open = epoll_open,
	.close = epoll_close,
	.seal = epoll_seal,
	.add = epoll_add,
	.arm = epoll_arm,
	.disarm = epoll_disarm,
	.wait = epoll_engine_wait,
};
