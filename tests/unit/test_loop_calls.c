// SPDX-License-Identifier: BSD-2-Clause
/* Calls and work from other threads; how a loop begins and ends. */
#include <sys/prctl.h>

#include "loop_fixture.h"

static void note_thread(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

struct caller {
	struct loop *loop;
	pthread_t ran_on;
	_Atomic unsigned returned;
};

static void *call_from_thread(void *arg)
{
	struct caller *c = arg;

	loop_call(c->loop, note_thread, &c->ran_on);
	c->returned = 1;
	return NULL;
}

static void test_calls_run_on_the_loops_thread(void **state)
{
	struct loop *loop = new_loop(state);
	struct caller early = {.loop = loop};
	pthread_t self = pthread_self(), on, thread;

	/* Who builds the VM needs not wait for a loop that does not run yet; who runs it must. */
	loop_call(loop, note_thread, &on);
	assert_true(pthread_equal(on, self));
	assert_int_equal(pthread_create(&thread, NULL, call_from_thread, &early), 0);
	usleep(5000);
	assert_int_equal(early.returned, 0);

	start(loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(pthread_equal(early.ran_on, thread));
	assert_false(pthread_equal(early.ran_on, self));
	loop_call(loop, note_thread, &on);
	assert_true(pthread_equal(on, early.ran_on));

	loop_stop(loop);
	loop_call(loop, note_thread, &on);
	assert_true(pthread_equal(on, self));
	loop_free(loop);
}

struct nested {
	struct loop *loop;
	bool inner;
};

static void inner_call(void *arg)
{
	((struct nested *)arg)->inner = true;
}

static void outer_call(void *arg)
{
	struct nested *n = arg;

	loop_call(n->loop, inner_call, n);
}

static void test_call_from_the_loop_runs_inline(void **state)
{
	struct loop *loop = new_loop(state);
	struct nested n = {.loop = loop};

	start(loop);
	loop_call(loop, outer_call, &n);
	assert_true(n.inner);
	loop_stop(loop);
	loop_free(loop);
}

#define POSTERS 4
#define POSTS	2000

struct item {
	struct loop_work work;
	struct poster *from;
	unsigned seq;
};

struct poster {
	struct loop *loop;
	struct item item[POSTS];
	unsigned next; /* on the loop */
	unsigned out_of_order;
};

static void posted(struct loop_work *work)
{
	struct item *item = container_of(work, struct item, work);

	if (item->seq != item->from->next++)
		item->from->out_of_order++;
}

static void *post_many(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 0; i < POSTS; i++) {
		p->item[i] = (struct item){.work = {.fn = posted}, .from = p, .seq = i};
		loop_post(p->loop, &p->item[i].work);
		if (i % 64 == 0)
			loop_call(p->loop, nothing, NULL);
	}
	loop_call(p->loop, nothing, NULL);
	return NULL;
}

static void test_posted_work_runs_in_order(void **state)
{
	struct loop *loop = new_loop(state);
	struct poster *p = calloc(POSTERS, sizeof(*p));
	pthread_t thread[POSTERS];

	assert_non_null(p);
	start(loop);
	for (unsigned i = 0; i < POSTERS; i++) {
		p[i].loop = loop;
		assert_int_equal(pthread_create(&thread[i], NULL, post_many, &p[i]), 0);
	}
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(p[i].next, POSTS);
		assert_int_equal(p[i].out_of_order, 0);
	}
	loop_stop(loop);
	loop_free(loop);
	free(p);
}

struct repost {
	struct loop_work work;
	struct loop *loop;
	_Atomic bool stop;
};

static void post_again(struct loop_work *work)
{
	struct repost *r = container_of(work, struct repost, work);

	if (!r->stop)
		loop_post(r->loop, work);
}

static void test_endless_work_starves_nobody(void **state)
{
	struct loop *loop = new_loop(state);
	struct repost r = {.work = {.fn = post_again}, .loop = loop};
	struct counter c = {.drain = true};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN, count), 0);
	start(loop);
	loop_post(loop, &r.work);
	usleep(1000);
	kick(fd);
	await(&c.calls, 1);
	r.stop = true;
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

static void *call_until_told(void *arg)
{
	struct caller *c = arg;

	while (!c->returned)
		loop_call(c->loop, nothing, NULL);
	return NULL;
}

/* Nobody is left waiting when the loop ends under the callers. */
static void test_calls_survive_the_end_of_the_loop(void **state)
{
	for (int i = 0; i < 50; i++) {
		struct loop *loop = new_loop(state);
		struct caller c = {.loop = loop};
		pthread_t thread[2];

		start(loop);
		for (unsigned t = 0; t < ARRAY_SIZE(thread); t++)
			pthread_create(&thread[t], NULL, call_until_told, &c);
		usleep(500);
		loop_stop(loop);
		usleep(100);
		c.returned = 1;
		for (unsigned t = 0; t < ARRAY_SIZE(thread); t++)
			pthread_join(thread[t], NULL);
		loop_free(loop);
	}
}

static void quit_when_fired(struct loop_timer *t)
{
	container_of(t, struct ticker, timer)->fired++;
	loop_quit(t->watch.loop);
}

static void test_loop_runs_on_the_calling_thread(void **state)
{
	struct loop *loop = new_loop(state);
	struct ticker t;

	t.fired = 0;
	assert_int_equal(loop_timer_init(loop, &t.timer, quit_when_fired), 0);
	loop_timer_set(&t.timer, 1000000);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(t.fired, 1);
	assert_int_equal(loop_run(loop), -EBUSY); /* once only */
	loop_timer_close(&t.timer);
	loop_free(loop);
}

static int refuse(void *arg)
{
	(void)arg;
	return -EPERM;
}

static void test_failed_setup_ends_the_loop(void **state)
{
	struct loop *loop = new_loop(state);
	struct error e = {"stale"};
	pthread_t on;

	assert_int_equal(loop_start(loop, refuse, NULL, &e), -EPERM);
	assert_string_equal(e.msg, "test: cannot set up its thread: Operation not permitted");
	loop_call(loop, note_thread, &on);
	assert_true(pthread_equal(on, pthread_self()));
	loop_free(loop);
}

struct thread_facts {
	sigset_t mask;
	char name[16];
};

static int learn(void *arg)
{
	struct thread_facts *f = arg;

	pthread_sigmask(SIG_SETMASK, NULL, &f->mask);
	prctl(PR_GET_NAME, f->name);
	return 1;
}

static void test_thread_leaves_signals_to_others(void **state)
{
	struct loop *loop = new_loop(state);
	struct thread_facts f;
	sigset_t mine;

	assert_int_equal(loop_start(loop, learn, &f, NULL), 1);
	assert_string_equal(f.name, "test");
	assert_true(sigismember(&f.mask, SIGTERM));
	assert_true(sigismember(&f.mask, SIGWINCH));
	/* A crash must still reach the handler that restores the terminal. */
	assert_false(sigismember(&f.mask, SIGSEGV));
	assert_false(sigismember(&f.mask, SIGSYS));
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	assert_false(sigismember(&mine, SIGTERM));
	loop_stop(loop);
	loop_free(loop);
}

struct late {
	struct loop *loop;
	struct loop_work work;
	unsigned pending;
	unsigned watch_calls; /* when the wait was over */
	struct counter *counter;
	pthread_t worker;
};

static void late_done(struct loop_work *work)
{
	container_of(work, struct late, work)->pending = 0;
}

static void *late_worker(void *arg)
{
	struct late *l = arg;

	usleep(5000);
	loop_post(l->loop, &l->work);
	return NULL;
}

static void wait_for_worker(void *arg)
{
	struct late *l = arg;

	kick(l->counter->watch.fd);
	l->pending = 1;
	assert_int_equal(pthread_create(&l->worker, NULL, late_worker, l), 0);
	loop_wait_ops(l->loop, &l->pending);
	l->watch_calls = l->counter->calls;
	/* Once more, with work that was posted before the wait begins. */
	l->pending = 1;
	loop_post(l->loop, &l->work);
	loop_wait_ops(l->loop, &l->pending);
}

static void test_draining_handles_work_but_no_watches(void **state)
{
	struct loop *loop = new_loop(state);
	struct counter c = {.drain = true};
	struct late l = {.loop = loop, .work = {.fn = late_done}, .counter = &c};
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_watch(loop, &c.watch, fd, EPOLLIN, count), 0);
	start(loop);
	loop_call(loop, wait_for_worker, &l);
	assert_int_equal(l.pending, 0);
	assert_int_equal(l.watch_calls, 0);
	await(&c.calls, 1);
	pthread_join(l.worker, NULL);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_calls_run_on_the_loops_thread),
		BOTH(test_call_from_the_loop_runs_inline),
		BOTH(test_posted_work_runs_in_order),
		BOTH(test_endless_work_starves_nobody),
		BOTH(test_calls_survive_the_end_of_the_loop),
		BOTH(test_loop_runs_on_the_calling_thread),
		BOTH(test_failed_setup_ends_the_loop),
		BOTH(test_thread_leaves_signals_to_others),
		BOTH(test_draining_handles_work_but_no_watches),
	};

	return cmocka_run_group_tests_name("loop_calls", tests, NULL, NULL);
}
