// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. A turn of the loop: the hooks commit batched work, the engine submits
 * and waits (one system call), completed operations call back, then watches that are ready call
 * back, posted work among them (`wake`). Watches are collected before any of them is handled, so
 * that one that is paused meanwhile is left alone, and loop_wait_ops() can wait inside a callback
 * without nesting callbacks of watches.
 *
 * A descriptor that cannot be polled (a regular file, /dev/null) is always ready, as poll(2) has
 * it: it is reported once a turn, and turns do not block while it is watched. io_uring does just
 * that; epoll_ctl() says EPERM, and then the watch is marked `always`.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/util.h"
#include "loop_engine.h"

#define LOOP_STACK (128 * KIB)

void loop_mark_ready(struct loop_fd *w, uint32_t events)
{
	if (w->paused)
		return;
	w->revents |= events;
	if (w->queued)
		return;
	w->queued = true;
	fifo_append(&w->loop->ready, &w->ready_link);
}

static void run_ready(struct loop *loop)
{
	struct loop_fd *w;

	while ((w = fifo_take(&loop->ready, struct loop_fd, ready_link))) {
		uint32_t events = w->revents;

		w->queued = false;
		w->revents = 0;
		if (events)
			w->ready(w, events);
	}
}

static struct loop_work *next_work(struct loop *loop)
{
	struct loop_work *work;

	pthread_mutex_lock(&loop->lock);
	work = fifo_take(&loop->work, struct loop_work, link);
	if (work)
		loop->num_work--;
	pthread_mutex_unlock(&loop->lock);
	return work;
}

/* Work that is posted meanwhile has to wait for the next turn, so endless posting starves nobody.
 * Taken one at a time, because a function may wait in loop_wait_ops() for one that is behind it. */
static void run_work(struct loop *loop)
{
	struct loop_work *work;
	size_t n;

	pthread_mutex_lock(&loop->lock);
	n = loop->num_work;
	pthread_mutex_unlock(&loop->lock);
	while (n-- && (work = next_work(loop)))
		work->fn(work);
}

/* Without the engine. */
static void wait_for_work(struct loop *loop)
{
	struct pollfd p = {.fd = loop->wake.fd, .events = POLLIN};
	uint64_t count;

	if (poll(&p, 1, -1) > 0)
		(void)!read(loop->wake.fd, &count, sizeof(count));
}

static void engine_failed(struct loop *loop, int r)
{
	struct error why;

	loop->failure = r;
	error_set(&why, r, "%s: the event loop has failed: %m", loop->name);
	if (loop->failed)
		loop->failed(loop->failed_ctx, why.msg);
	else
		log_error("%s", why.msg);
}

void loop_woken(struct loop_fd *w, uint32_t events)
{
	(void)events;
	loop_drain_eventfd(w);
	run_work(w->loop);
}

static void wake_up(struct loop *loop)
{
	eventfd_write(loop->wake.fd, 1);
}

bool loop_is_here(const struct loop *loop)
{
	return pthread_equal(loop->owner, pthread_self());
}

bool loop_is_uring(const struct loop *loop)
{
	return loop->engine->is_uring;
}

int loop_watch(struct loop *loop, struct loop_fd *w, int fd, uint32_t events,
	       void (*ready)(struct loop_fd *w, uint32_t events))
{
	int r;

	assert(loop_is_here(loop));
	*w = (struct loop_fd){.loop = loop, .fd = fd, .slot = -1, .events = events, .ready = ready};
	r = loop->engine->add(loop, w);
	if (r < 0)
		return r;
	loop->num_always += w->always;
	w->next = loop->watches;
	w->at = &loop->watches;
	if (w->next)
		w->next->at = &w->next;
	loop->watches = w;
	return 0;
}

void loop_drain_eventfd(struct loop_fd *w)
{
	uint64_t count;

	if (!loop_is_uring(w->loop) && !(w->events & EPOLLET))
		(void)!read(w->fd, &count, sizeof(count));
}

void loop_pause(struct loop_fd *w)
{
	assert(loop_is_here(w->loop));
	if (w->paused)
		return;
	w->paused = true;
	w->revents = 0; /* resuming reports them again if they still hold */
	if (!w->always)
		w->loop->engine->disarm(w);
}

void loop_resume(struct loop_fd *w)
{
	assert(loop_is_here(w->loop));
	if (!w->paused)
		return;
	w->paused = false;
	if (!w->always)
		w->loop->engine->arm(w);
}

void loop_watch_for(struct loop_fd *w, uint32_t events)
{
	assert(loop_is_here(w->loop));
	if (w->events == events)
		return;
	loop_pause(w);
	w->events = events;
	loop_resume(w);
}

void loop_unwatch(struct loop_fd *w)
{
	struct loop *loop = w->loop;

	assert(loop_is_here(w->loop));
	loop_pause(w);
	loop->num_always -= w->always;
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	if (w->queued)
		fifo_remove(&loop->ready, &w->ready_link);
}

/* The timer is read on both engines: it may have been set anew meanwhile, and not be due yet. */
static void timer_ready(struct loop_fd *w, uint32_t events)
{
	struct loop_timer *t = container_of(w, struct loop_timer, watch);
	uint64_t count;

	(void)events;
	if (read(w->fd, &count, sizeof(count)) == sizeof(count))
		t->fired(t);
}

int loop_timer_init(struct loop *loop, struct loop_timer *t, void (*fired)(struct loop_timer *t))
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), r;

	t->watch.fd = -1;
	t->fired = fired;
	if (fd < 0)
		return -errno;
	r = loop_watch(loop, &t->watch, fd, EPOLLIN, timer_ready);
	if (r < 0) {
		close(fd);
		t->watch.fd = -1;
	}
	return r;
}

void loop_timer_set(struct loop_timer *t, uint64_t ns_from_now)
{
	struct itimerspec its = {
		.it_value = {.tv_sec = (time_t)(ns_from_now / NSEC_PER_SEC),
			     .tv_nsec = (long)(ns_from_now % NSEC_PER_SEC)},
	};

	assert(loop_is_here(t->watch.loop));
	timerfd_settime(t->watch.fd, 0, &its, NULL);
}

void loop_timer_close(struct loop_timer *t)
{
	if (t->watch.fd >= 0)
		close(t->watch.fd);
	t->watch.fd = -1;
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
	assert(loop->state == LOOP_NEW && loop_is_here(loop));
	fifo_append(&loop->hooks, &hook->link);
}

void loop_wait_ops(struct loop *loop, const unsigned *pending)
{
	for (;;) {
		int r = 0;

		assert(loop_is_here(loop));
		run_work(loop);
		if (!*pending)
			return;
		if (loop->failure || !loop->engine->wait_ops)
			wait_for_work(loop);
		else
			r = loop->engine->wait_ops(loop);
		if (r < 0)
			engine_failed(loop, r);
	}
}

void loop_on_failure(struct loop *loop, void (*fn)(void *ctx, const char *why), void *ctx)
{
	loop->failed = fn;
	loop->failed_ctx = ctx;
}

static void append_work(struct loop *loop, struct loop_work *work)
{
	loop->num_work++;
	fifo_append(&loop->work, &work->link);
}

void loop_post(struct loop *loop, struct loop_work *work)
{
	pthread_mutex_lock(&loop->lock);
	assert(loop->state != LOOP_ENDED);
	append_work(loop, work);
	pthread_mutex_unlock(&loop->lock);
	wake_up(loop);
}

struct call {
	struct loop_work work;
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

static void run_call(struct loop_work *work)
{
	struct call *call = container_of(work, struct call, work);
	struct loop *loop = call->loop;

	call->fn(call->arg);
	pthread_mutex_lock(&loop->lock);
	call->done = true;
	pthread_cond_broadcast(&loop->called);
	pthread_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {.work = {.fn = run_call}, .loop = loop, .fn = fn, .arg = arg};

	pthread_mutex_lock(&loop->lock);
	if (loop_is_here(loop)) {
		pthread_mutex_unlock(&loop->lock);
		fn(arg);
		return;
	}
	assert(loop->state != LOOP_ENDED);
	append_work(loop, &call.work);
	wake_up(loop);
	while (!call.done)
		pthread_cond_wait(&loop->called, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

static void set_state(struct loop *loop, enum loop_state state)
{
	pthread_mutex_lock(&loop->lock);
	loop->state = state;
	loop->owner = pthread_self();
	pthread_mutex_unlock(&loop->lock);
}

/* What was queued before still runs, so that nobody is left waiting. */
static void end(struct loop *loop)
{
	bool ended = false;

	while (!ended) {
		run_work(loop);
		pthread_mutex_lock(&loop->lock);
		ended = !loop->work.first;
		if (ended)
			loop->state = LOOP_ENDED;
		pthread_mutex_unlock(&loop->lock);
	}
	if (loop->engine->release)
		loop->engine->release(loop);
}

static void turn(struct loop *loop)
{
	bool block = true;
	int r;

	for (struct fifo_link *l = loop->hooks.first; l; l = l->next) {
		struct loop_hook *hook = container_of(l, struct loop_hook, link);

		block = !hook->fn(hook) && block;
	}
	for (struct loop_fd *w = loop->num_always ? loop->watches : NULL; w; w = w->next) {
		if (!w->always || w->paused)
			continue;
		loop_mark_ready(w, w->events);
		block = false;
	}
	r = loop->engine->wait(loop, block);
	run_ready(loop);
	if (r < 0)
		engine_failed(loop, r);
}

static int run(struct loop *loop)
{
	while (!loop->failure && !atomic_load(&loop->quit))
		turn(loop);
	while (!atomic_load(&loop->quit)) {
		wait_for_work(loop);
		run_work(loop);
	}
	end(loop);
	return loop->failure;
}

int loop_run(struct loop *loop)
{
	struct error e;
	int r;

	if (loop->state != LOOP_NEW)
		return -EBUSY;
	r = loop->engine->seal(loop, &e);
	if (r < 0) {
		log_error("%s: %s", loop->name, e.msg);
		return r;
	}
	set_state(loop, LOOP_RUNNING);
	return run(loop);
}

void loop_quit(struct loop *loop)
{
	atomic_store(&loop->quit, true);
	wake_up(loop);
}

struct setup {
	struct loop *loop;
	int (*fn)(void *arg);
	void *arg;
	struct error *e;
};

static int set_up(void *arg)
{
	const struct setup *s = arg;
	int r;

	set_state(s->loop, LOOP_RUNNING);
	r = s->loop->engine->seal(s->loop, s->e);
	if (!r && s->fn)
		r = s->fn(s->arg);
	if (r)
		end(s->loop);
	return r;
}

static void loop_main(void *arg)
{
	run(arg);
}

int loop_start(struct loop *loop, int (*setup)(void *arg), void *arg, struct error *e)
{
	struct setup s = {.loop = loop, .fn = setup, .arg = arg, .e = e};
	const struct thread_start start = {.name = loop->name,
					   .stack = LOOP_STACK,
					   .setup = set_up,
					   .setup_arg = &s,
					   .main = loop_main,
					   .main_arg = loop};
	int r;

	if (loop->state != LOOP_NEW)
		return error_set(e, -EBUSY, "%s: the event loop has already been started",
				 loop->name);
	r = thread_start(&loop->thread, &start, e);
	loop->has_thread = r == 0;
	if (r && loop->state == LOOP_ENDED)
		loop->owner = pthread_self();
	return r;
}

void loop_stop(struct loop *loop)
{
	if (!loop || !loop->has_thread)
		return;
	loop_quit(loop);
	pthread_join(loop->thread, NULL);
	loop->has_thread = false;
	loop->owner = pthread_self();
}
