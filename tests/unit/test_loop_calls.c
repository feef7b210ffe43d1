// SPDX-License-Identifier: BSD-2-Clause
/* Calls and work from other threads; how a loop begins and ends. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/loop_engine.h"
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

static void wait_for_caller(void *arg)
{
	struct caller *c = arg;

	c->returned = 1; /* the loop is busy */
	while (c->returned < 2)
		usleep(1000);
}

static void *call_and_wait(void *arg)
{
	struct caller *c = arg;

	loop_call(c->loop, wait_for_caller, c);
	return NULL;
}

/* Until a call waits for its turn. */
static void await_queued(struct loop *loop)
{
	uint64_t end = patience_end();
	size_t queued = 0;

	while (!queued) {
		assert_true(now_ns() < end);
		usleep(1000);
		pthread_mutex_lock(&loop->lock);
		queued = loop->num_work;
		pthread_mutex_unlock(&loop->lock);
	}
}

/* Who called before is served, on the loop's thread. */
static void test_calls_are_served_when_the_loop_ends(void **state)
{
	struct loop *loop = new_loop(state);
	struct caller busy = {.loop = loop}, c = {.loop = loop};
	pthread_t thread[2], on;

	start(loop);
	loop_call(loop, note_thread, &on);
	pthread_create(&thread[0], NULL, call_and_wait, &busy);
	await(&busy.returned, 1);
	pthread_create(&thread[1], NULL, call_from_thread, &c);
	await_queued(loop);
	loop_quit(loop);
	busy.returned = 2;
	for (unsigned t = 0; t < ARRAY_SIZE(thread); t++)
		pthread_join(thread[t], NULL);
	assert_true(pthread_equal(c.ran_on, on));
	loop_stop(loop);
	loop_free(loop);
}

/* In a child, whose thread that made a call is none of the loop's. */
static void expect_abort(struct loop *loop, void *(*fn)(void *arg))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct caller c = {.loop = loop};
		pthread_t thread;

		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		pthread_create(&thread, NULL, fn, &c);
		pthread_join(thread, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void never(struct loop_work *work)
{
	(void)work;
}

static void *hook_from_thread(void *arg)
{
	struct caller *c = arg;
	struct loop_hook hook = {.fn = NULL};

	loop_add_hook(c->loop, &hook);
	return NULL;
}

static void *timer_from_thread(void *arg)
{
	struct caller *c = arg;
	struct loop_timer timer = {.watch = {.loop = c->loop, .fd = -1}};

	loop_timer_set(&timer, 1);
	return NULL;
}

static void *watch_from_thread(void *arg)
{
	struct caller *c = arg;
	struct loop_fd watch;

	loop_watch(c->loop, &watch, STDIN_FILENO, EPOLLIN, NULL);
	return NULL;
}

/* What is a loop's is for its thread, which is the one that made it until it starts. */
static void test_work_of_a_loop_on_another_thread_is_a_bug(void **state)
{
	struct loop *loop = new_loop(state);

	expect_abort(loop, hook_from_thread);
	expect_abort(loop, timer_from_thread);
	expect_abort(loop, watch_from_thread);
	loop_free(loop);
}

static void *post_from_thread(void *arg)
{
	struct caller *c = arg;
	struct loop_work work = {.fn = never};

	loop_post(c->loop, &work);
	return NULL;
}

/* What is a loop's does not run on another thread because the loop has ended. */
static void test_no_thread_calls_a_loop_that_has_ended(void **state)
{
	struct loop *loop = new_loop(state);

	start(loop);
	loop_stop(loop);
	expect_abort(loop, call_from_thread);
	expect_abort(loop, post_from_thread);
	loop_free(loop);
}

struct broken {
	struct loop *loop;
	unsigned pending;
	struct loop_work work;
	_Atomic unsigned failures, returned, late;
};

static void break_engine(void *arg)
{
	struct loop *loop = arg;

	loop->ring.enter_ring_fd = loop->epoll_fd = -1;
	loop->ring.int_flags = 0; /* no registered descriptor */
}

static void count_failure(void *ctx, const char *why)
{
	struct broken *b = ctx;

	assert_non_null(strstr(why, "test: the event loop has failed: "));
	b->failures++;
}

static void wait_for_ops(void *arg)
{
	struct broken *b = arg;

	loop_wait_ops(b->loop, &b->pending);
	b->returned++;
}

static void *drain(void *arg)
{
	struct broken *b = arg;

	loop_call(b->loop, wait_for_ops, b);
	return NULL;
}

static void complete(struct loop_work *work)
{
	struct broken *b = container_of(work, struct broken, work);

	b->late = b->returned;
	b->pending = 0;
}

/*
 * Calls go on, on the loop's thread, and a drain does not return: what is in flight may still be
 * written to memory.
 */
static void test_failed_engine_still_serves_and_drains(void **state)
{
	struct loop *loop = new_loop(state);
	struct broken b = {.loop = loop, .pending = 1, .work = {.fn = complete}};
	pthread_t thread, on, then;
	int fd;

	loop_on_failure(loop, count_failure, &b);
	start(loop);
	loop_call(loop, note_thread, &on);
	fd = loop->epoll_fd;
	loop_call(loop, break_engine, loop);
	await(&b.failures, 1);
	loop_call(loop, note_thread, &then);
	assert_true(pthread_equal(on, then));
	pthread_create(&thread, NULL, drain, &b);
	usleep(5000);
	loop_post(loop, &b.work);
	pthread_join(thread, NULL);
	assert_int_equal(b.returned, 1);
	assert_int_equal(b.late, 0);
	assert_int_equal(b.failures, 1);
	loop->epoll_fd = fd;
	loop->ring.enter_ring_fd = loop->ring.ring_fd;
	loop_stop(loop);
	loop_free(loop);
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
		BOTH(test_calls_are_served_when_the_loop_ends),
		BOTH(test_no_thread_calls_a_loop_that_has_ended),
		BOTH(test_work_of_a_loop_on_another_thread_is_a_bug),
		BOTH(test_failed_engine_still_serves_and_drains),
		BOTH(test_loop_runs_on_the_calling_thread),
		BOTH(test_failed_setup_ends_the_loop),
		BOTH(test_thread_leaves_signals_to_others),
		BOTH(test_draining_handles_work_but_no_watches),
	};

	return cmocka_run_group_tests_name("loop_calls", tests, NULL, NULL);
}
