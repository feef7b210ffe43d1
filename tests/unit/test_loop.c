// SPDX-License-Identifier: BSD-2-Clause
/* Watches, pauses, hooks and timers. */
#include "loop_fixture.h"

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

static void do_pause(void *arg)
{
	loop_pause(arg);
}

static void do_resume(void *arg)
{
	loop_resume(arg);
}

static void resume_and_pause(void *arg)
{
	loop_resume(arg);
	loop_pause(arg);
}

static void test_paused_watch_is_silent(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = false};
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(loop_watch(loop, &c.watch, pipefd[0], EPOLLIN | EPOLLET, count), 0);
	loop_pause(&c.watch);
	assert_int_equal(write(pipefd[1], "x", 1), 1);
	start(loop);
	settle(loop);
	assert_int_equal(c.calls, 0);

	/* What came meanwhile is reported. */
	loop_call(loop, do_resume, &c.watch);
	await(&c.calls, 1);

	/* Back and forth within one turn. */
	loop_call(loop, do_pause, &c.watch);
	settle(loop);
	c.calls = 0;
	loop_call(loop, resume_and_pause, &c.watch);
	settle(loop);
	assert_int_equal(c.calls, 0);
	assert_int_equal(write(pipefd[1], "x", 1), 1);
	settle(loop);
	assert_int_equal(c.calls, 0);
	loop_call(loop, do_resume, &c.watch);
	await(&c.calls, 1);

	loop_stop(loop);
	loop_free(loop);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_pausing_and_resuming_at_once_reports(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = false};
	struct flip f = {&c.watch, 40}; /* more than the ring has entries */
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(loop_watch(loop, &c.watch, pipefd[0], EPOLLIN | EPOLLET, count), 0);
	assert_int_equal(write(pipefd[1], "x", 1), 1);
	start(loop);
	await(&c.calls, 1);
	for (unsigned i = 0; i < 100; i++) {
		settle(loop);
		c.calls = 0;
		loop_call(loop, flip, &f);
		await(&c.calls, 1);
	}
	loop_stop(loop);
	loop_free(loop);
	close(pipefd[0]);
	close(pipefd[1]);
}

static bool never_rests(struct loop_hook *hook)
{
	container_of(hook, struct turns, hook)->n++;
	return true;
}

static void test_a_hook_with_more_to_do_starves_nobody(void **state)
{
	struct loop *loop = new_loop(state);
	struct turns turns = {.hook = {.fn = never_rests}};
	struct counter c = {.drain = true};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN, count), 0);
	loop_add_hook(loop, &turns.hook);
	start(loop);
	for (unsigned i = 1; i <= 100; i++) {
		kick(fd);
		await(&c.calls, i);
		loop_call(loop, nothing, NULL);
	}
	await(&turns.n, 10000);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

struct writer {
	int fd;
	_Atomic bool stop;
};

static void *kick_all_the_time(void *arg)
{
	struct writer *w = arg;

	while (!w->stop)
		kick(w->fd);
	return NULL;
}

/* A poll that fires while it is being stopped must be stopped, and start again when resumed. */
static void test_pausing_a_busy_watch(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = true};
	struct writer w = {.fd = eventfd(0, EFD_NONBLOCK)};
	pthread_t thread;

	assert_int_equal(loop_watch(loop, &c.watch, w.fd, EPOLLIN, count), 0);
	start(loop);
	assert_int_equal(pthread_create(&thread, NULL, kick_all_the_time, &w), 0);
	for (int i = 0; i < 500; i++) {
		unsigned calls;

		loop_call(loop, do_pause, &c.watch);
		calls = c.calls;
		settle(loop);
		assert_int_equal(c.calls, calls);
		loop_call(loop, do_resume, &c.watch);
		await(&c.calls, calls + 1);
	}
	w.stop = true;
	pthread_join(thread, NULL);
	loop_stop(loop);
	loop_free(loop);
	close(w.fd);
}

/* epoll reports a hang-up whatever is asked for. */
static void test_hung_up_paused_pipe_does_not_spin(void **state)
{
	struct loop *loop = new_loop(state);
	struct turns turns = {0};
	struct counter c = {.drain = false};
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(loop_watch(loop, &c.watch, pipefd[0], EPOLLIN, count), 0);
	count_turns(loop, &turns);
	loop_pause(&c.watch);
	close(pipefd[1]);
	start(loop);
	settle(loop);
	usleep(20000);
	settle(loop);
	assert_int_equal(c.calls, 0);
	assert_true(turns.n < 20);
	loop_call(loop, do_resume, &c.watch);
	await(&c.calls, 1);
	assert_true(c.events & EPOLLHUP);
	loop_stop(loop);
	loop_free(loop);
	close(pipefd[0]);
}

static void count_to_ten(struct loop_fd *w, uint32_t events)
{
	struct counter *c = container_of(w, struct counter, watch);

	c->events |= events;
	if (++c->calls == 10)
		loop_pause(w);
}

static void test_unpollable_files_are_always_ready(void **state)
{
	const int file[] = {open("/dev/null", O_RDONLY), memfd_create("file", 0)};
	struct turns turns = {0};
	struct counter c[ARRAY_SIZE(file)] = {0};
	struct loop *loop = new_loop(state);
	unsigned n;

	count_turns(loop, &turns);
	for (size_t i = 0; i < ARRAY_SIZE(file); i++)
		assert_int_equal(loop_watch(loop, &c[i].watch, file[i], EPOLLIN, count_to_ten), 0);
	start(loop);
	for (size_t i = 0; i < ARRAY_SIZE(file); i++) {
		await(&c[i].calls, 10);
		assert_int_equal(c[i].events, EPOLLIN);
	}
	/* All paused: the loop sleeps again, and can be resumed. */
	settle(loop);
	usleep(5000);
	n = turns.n;
	usleep(10000);
	assert_int_equal(turns.n, n);
	assert_int_equal(c[1].calls, 10);
	loop_call(loop, do_resume, &c[1].watch);
	await(&c[1].calls, 100);
	loop_stop(loop);
	loop_free(loop);
	for (size_t i = 0; i < ARRAY_SIZE(file); i++)
		close(file[i]);
}

static void tick(struct loop_timer *t)
{
	container_of(t, struct ticker, timer)->fired++;
}

static void set_timer(void *arg)
{
	struct ticker *t = arg;

	loop_timer_set(&t->timer, t->ns);
}

static void set_timer_after_it_expired(void *arg)
{
	struct ticker *t = arg;

	loop_timer_set(&t->timer, 1);
	usleep(2000);
	loop_timer_set(&t->timer, t->ns);
}

static void test_timers(void **state)
{
	struct loop *loop = new_loop(state);
	struct ticker t;

	t.fired = 0;
	assert_int_equal(loop_timer_init(loop, &t.timer, tick), 0);
	start(loop);

	t.ns = 1000000;
	loop_call(loop, set_timer, &t);
	await(&t.fired, 1);
	usleep(5000); /* one shot */
	settle(loop);
	assert_int_equal(t.fired, 1);

	t.ns = 5000000;
	loop_call(loop, set_timer, &t);
	t.ns = 0; /* disarmed */
	loop_call(loop, set_timer, &t);
	usleep(10000);
	settle(loop);
	assert_int_equal(t.fired, 1);

	/* It had expired, but the loop had not seen that when it was set anew. */
	t.ns = 3600 * NSEC_PER_SEC;
	loop_call(loop, set_timer_after_it_expired, &t);
	settle(loop);
	assert_int_equal(t.fired, 1);
	t.ns = 1;
	loop_call(loop, set_timer, &t);
	await(&t.fired, 2);

	loop_stop(loop);
	loop_timer_close(&t.timer);
	loop_free(loop);
}

struct neighbour {
	struct counter c;
	struct neighbour *other;
};

/* Ends its own watch and its neighbour's, which was ready in the same turn. */
static void end_both(struct loop_fd *w, uint32_t events)
{
	struct neighbour *n = container_of(w, struct neighbour, c.watch);

	loop_unwatch(&n->other->c.watch);
	memset(&n->other->c.watch, 0xee, sizeof(n->other->c.watch));
	count(w, events);
	loop_unwatch(w);
	memset(w, 0xee, sizeof(*w));
}

static void test_a_watch_that_ends_is_not_reported(void **state)
{
	struct loop *loop = new_loop(state);
	struct neighbour n[2] = {{.other = &n[1]}, {.other = &n[0]}};
	struct counter last = {.drain = true};
	int fd[3];

	for (unsigned i = 0; i < 3; i++) {
		fd[i] = eventfd(1, EFD_NONBLOCK);
		assert_int_equal(loop_watch(loop, i < 2 ? &n[i].c.watch : &last.watch, fd[i],
					    EPOLLIN, i < 2 ? end_both : count),
				 0);
	}
	start(loop);
	await(&last.calls, 1);
	settle(loop);
	assert_int_equal(n[0].c.calls + n[1].c.calls, 1);
	kick(fd[2]);
	await(&last.calls, 2);
	loop_stop(loop);
	loop_free(loop);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
}

static void watch_for_output(void *arg)
{
	loop_watch_for(arg, EPOLLOUT);
	loop_watch_for(arg, EPOLLOUT);
}

static void watch_for_input(void *arg)
{
	loop_watch_for(arg, EPOLLIN);
}

static void test_a_watch_for_something_else(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = true};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN, count), 0);
	start(loop);
	settle(loop);
	assert_int_equal(c.calls, 0);
	loop_call(loop, watch_for_output, &c.watch);
	await(&c.calls, 1);
	loop_call(loop, watch_for_input, &c.watch);
	settle(loop);
	assert_int_equal(c.events, EPOLLOUT);
	kick(fd);
	while (!(c.events & EPOLLIN))
		usleep(1000);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_eventfd_wakes_the_loop),
		BOTH(test_edge_triggered_eventfd_needs_no_reading),
		BOTH(test_paused_watch_is_silent),
		BOTH(test_pausing_and_resuming_at_once_reports),
		BOTH(test_pausing_a_busy_watch),
		BOTH(test_a_hook_with_more_to_do_starves_nobody),
		BOTH(test_hung_up_paused_pipe_does_not_spin),
		BOTH(test_unpollable_files_are_always_ready),
		BOTH(test_timers),
		EPOLL(test_a_watch_that_ends_is_not_reported),
		EPOLL(test_a_watch_for_something_else),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
