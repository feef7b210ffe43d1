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
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

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

/* After this, whatever was ready before was handled. (The first call may run in a turn that began
 * before, the second one just before its neighbours.) */
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

struct flip {
	struct loop_fd *watch;
	int times;
};

static void flip(void *arg)
{
	struct flip *f = arg;

	for (int i = 0; i < f->times; i++) {
		loop_pause(f->watch);
		loop_resume(f->watch);
	}
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

struct turns {
	struct loop_hook hook;
	_Atomic unsigned n;
};

static void turn(struct loop_hook *hook)
{
	container_of(hook, struct turns, hook)->n++;
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
	struct turns turns = {.hook = {.fn = turn}};
	struct counter c = {.drain = false};
	int pipefd[2];

	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(loop_watch(loop, &c.watch, pipefd[0], EPOLLIN, count), 0);
	loop_add_hook(loop, &turns.hook);
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
	struct turns turns = {.hook = {.fn = turn}};
	struct counter c[ARRAY_SIZE(file)] = {0};
	struct loop *loop = new_loop(state);
	unsigned n;

	loop_add_hook(loop, &turns.hook);
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

struct ticker {
	struct loop_timer timer;
	_Atomic unsigned fired;
	uint64_t ns;
};

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

/* What follows is for the ring alone. */

#define OPS 1000

struct ops {
	struct loop *loop;
	int slot;
	unsigned pending, left, in_sqe, done_in_sqe, wrong;
	struct one {
		struct loop_op op;
		struct ops *all;
		uint8_t byte, want;
	} one[OPS];
};

static void op_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct one *o = container_of(op, struct one, op);

	(void)cqe_flags;
	o->all->pending--;
	o->all->done_in_sqe += o->all->in_sqe;
	if (res != 1 || o->byte != o->want)
		o->all->wrong++;
}

static void submit_ops(void *arg)
{
	struct ops *ops = arg;

	ops->pending = OPS;
	for (unsigned i = 0; i < OPS; i++) {
		struct one *o = &ops->one[i];
		struct io_uring_sqe *sqe;

		*o = (struct one){.op = {.done = op_done}, .all = ops, .want = (uint8_t)i};
		ops->in_sqe = 1;
		sqe = loop_sqe(ops->loop);
		ops->in_sqe = 0;
		io_uring_prep_read(sqe, ops->slot, &o->byte, 1, i);
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | (i % 7 ? 0 : IOSQE_ASYNC));
		io_uring_sqe_set_data(sqe, &o->op);
	}
}

static void submit_and_drain(void *arg)
{
	struct ops *ops = arg;

	submit_ops(ops);
	loop_wait_ops(ops->loop, &ops->pending);
}

static void look_at_pending(void *arg)
{
	((struct ops *)arg)->left = ((struct ops *)arg)->pending;
}

/* A thousand in flight on a ring of 8 entries and 64 completions. */
static void test_ops_beyond_the_rings_size(void **state)
{
	struct loop *loop = new_loop(state);
	struct ops *ops = calloc(1, sizeof(*ops));
	int fd = memfd_create("ops", MFD_CLOEXEC);

	assert_non_null(ops);
	for (unsigned i = 0; i < OPS; i++)
		assert_int_equal(pwrite(fd, &(uint8_t){(uint8_t)i}, 1, i), 1);
	ops->loop = loop;
	ops->slot = loop_register_file(loop, fd);
	assert_true(ops->slot >= 0);
	start(loop);
	assert_int_equal(loop_register_file(loop, fd), -EBUSY); /* sealed */
	for (int i = 0; i < 20; i++) {
		loop_call(loop, submit_and_drain, ops);
		assert_int_equal(ops->pending, 0);
		assert_int_equal(ops->wrong, 0);
		assert_int_equal(ops->done_in_sqe, 0);
	}
	/* And without waiting for them: the turns complete them. */
	loop_call(loop, submit_ops, ops);
	for (int ms = 0; ms == 0 || ops->left; ms++) {
		assert_true(ms < 20000);
		usleep(1000);
		loop_call(loop, look_at_pending, ops);
	}
	assert_int_equal(ops->wrong, 0);
	loop_stop(loop);
	loop_free(loop);
	close(fd);
	free(ops);
}

struct forbidden {
	struct loop_op op;
	struct loop *loop;
	void (*prepare)(struct io_uring_sqe *sqe);
	unsigned pending;
	int res;
};

static void forbidden_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct forbidden *f = container_of(op, struct forbidden, op);

	(void)cqe_flags;
	f->res = res;
	f->pending = 0;
}

static void submit_forbidden(void *arg)
{
	struct forbidden *f = arg;
	struct io_uring_sqe *sqe = loop_sqe(f->loop);

	f->prepare(sqe);
	io_uring_sqe_set_data(sqe, &f->op);
	f->pending = 1;
	loop_wait_ops(f->loop, &f->pending);
}

static void prepare_openat(struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static void prepare_read_of_plain_fd(struct io_uring_sqe *sqe)
{
	static char byte;

	io_uring_prep_read(sqe, STDIN_FILENO, &byte, 1, 0);
}

static void prepare_sendmsg(struct io_uring_sqe *sqe)
{
	io_uring_prep_sendmsg(sqe, 0, NULL, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

static void test_ring_refuses_what_is_not_needed(void **state)
{
	static void (*const prepare[])(struct io_uring_sqe * sqe) = {
		prepare_openat, prepare_read_of_plain_fd, prepare_sendmsg};
	struct loop *loop = new_loop(state);

	start(loop);
	for (size_t i = 0; i < ARRAY_SIZE(prepare); i++) {
		struct forbidden f = {
			.op = {.done = forbidden_done}, .loop = loop, .prepare = prepare[i]};

		loop_call(loop, submit_forbidden, &f);
		assert_int_equal(f.res, -EACCES);
	}
	loop_stop(loop);
	loop_free(loop);
}

/* Installs a filter under which system call `nr` does `action`. */
static int filter(unsigned nr, unsigned action)
{
	struct sock_filter prog[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog fprog = {ARRAY_SIZE(prog), prog};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &fprog))
		return -errno;
	return 0;
}

static int deny_register(void *arg)
{
	(void)arg;
	return filter(__NR_io_uring_register, SECCOMP_RET_KILL_PROCESS);
}

/* The loop needs io_uring_register(2) neither after its start nor to be freed. */
static int use_loop_without_register(void)
{
	enum loop_engine engine = LOOP_URING;
	void *state = &engine;
	struct loop *loop = new_loop(&state);
	struct counter c = {.drain = false};
	struct flip f = {&c.watch, 20};
	int fd = eventfd(0, EFD_NONBLOCK);

	if (loop_watch(loop, &c.watch, fd, EPOLLIN, count) ||
	    loop_start(loop, deny_register, NULL, NULL) || deny_register(NULL))
		return 1;
	kick(fd);
	await(&c.calls, 1);
	loop_call(loop, flip, &f);
	await(&c.calls, 2);
	loop_stop(loop);
	loop_free(loop);
	return 0;
}

/* Runs `fn` in a process of its own, since filters cannot be taken back. */
static void in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_sealed_loop_needs_no_register(void **state)
{
	(void)state;
	in_child(use_loop_without_register);
}

/* The fall-back must do the same work. 0 when it did and the message has `why` in it. */
static int auto_falls_back(const char *why)
{
	struct counter c = {.drain = true};
	struct error e = {""};
	struct loop *loop;

	if (loop_new(&loop, "test", LOOP_URING, 8, &e) >= 0 || !strstr(e.msg, why)) {
		fprintf(stderr, "# unexpected: \"%s\"\n", e.msg);
		return 1;
	}
	e.msg[0] = '\0';
	if (loop_new(&loop, "test", LOOP_AUTO, 8, &e) < 0 || loop_is_uring(loop) ||
	    !strstr(e.msg, why) || loop_register_file(loop, 0) != -ENOTSUP)
		return 2;
	if (loop_watch(loop, &c.watch, eventfd(0, EFD_NONBLOCK), EPOLLIN, count) ||
	    loop_start(loop, NULL, NULL, NULL) < 0)
		return 3;
	kick(c.watch.fd);
	await(&c.calls, 1);
	loop_stop(loop);
	loop_free(loop);
	return 0;
}

static int hidden_by_seccomp(void)
{
	return filter(__NR_io_uring_setup, SECCOMP_RET_ERRNO | ENOSYS)
		       ? 9
		       : auto_falls_back("not in this kernel, or a seccomp filter hides it");
}

static int denied_by_seccomp(void)
{
	return filter(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM)
		       ? 9
		       : auto_falls_back("denied by a seccomp filter");
}

/* The sysctl is the whole host's, so a file of this process's own stands in for it. */
static int denied_by_sysctl(void)
{
	char path[] = "/tmp/skep-test-sysctl-XXXXXX";
	int fd = mkstemp(path), r;

	if (fd < 0 || write(fd, "2\n", 2) != 2 || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/proc", NULL, MS_REC | MS_PRIVATE, NULL))
		return 8;
	r = mount(path, "/proc/sys/kernel/io_uring_disabled", NULL, MS_BIND, NULL);
	unlink(path);
	if (r || filter(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM))
		return 9;
	return auto_falls_back("kernel.io_uring_disabled=2");
}

static int restrictions_denied(void)
{
	return filter(__NR_io_uring_register, SECCOMP_RET_ERRNO | EPERM)
		       ? 9
		       : auto_falls_back("cannot restrict an io_uring");
}

static void test_denials_are_named_and_survived(void **state)
{
	(void)state;
	in_child(hidden_by_seccomp);
	in_child(denied_by_seccomp);
	in_child(restrictions_denied);
}

static void test_sysctl_is_named(void **state)
{
	(void)state;
	if (access("/proc/sys/kernel/io_uring_disabled", F_OK)) {
		print_message("# this kernel has no kernel.io_uring_disabled\n");
		skip();
	}
	if (geteuid()) {
		print_message("# a mount needs root\n");
		skip();
	}
	in_child(denied_by_sysctl);
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
#define URING(f)                                                                                   \
	{                                                                                          \
#f "/uring", f, NULL, NULL, (void *)&uring                                         \
	}
#define EPOLL(f)                                                                                   \
	{                                                                                          \
#f "/epoll", f, NULL, NULL, (void *)&epoll                                         \
	}
#define BOTH(f) URING(f), EPOLL(f)
	const struct CMUnitTest tests[] = {
		BOTH(test_eventfd_wakes_the_loop),
		BOTH(test_edge_triggered_eventfd_needs_no_reading),
		BOTH(test_paused_watch_is_silent),
		BOTH(test_pausing_and_resuming_at_once_reports),
		BOTH(test_pausing_a_busy_watch),
		BOTH(test_hung_up_paused_pipe_does_not_spin),
		BOTH(test_unpollable_files_are_always_ready),
		BOTH(test_timers),
		BOTH(test_calls_run_on_the_loops_thread),
		BOTH(test_call_from_the_loop_runs_inline),
		BOTH(test_posted_work_runs_in_order),
		BOTH(test_endless_work_starves_nobody),
		BOTH(test_calls_survive_the_end_of_the_loop),
		BOTH(test_loop_runs_on_the_calling_thread),
		BOTH(test_failed_setup_ends_the_loop),
		BOTH(test_thread_leaves_signals_to_others),
		BOTH(test_draining_handles_work_but_no_watches),
		EPOLL(test_a_watch_that_ends_is_not_reported),
		EPOLL(test_a_watch_for_something_else),
		URING(test_ops_beyond_the_rings_size),
		URING(test_ring_refuses_what_is_not_needed),
		cmocka_unit_test(test_sealed_loop_needs_no_register),
		cmocka_unit_test(test_denials_are_named_and_survived),
		cmocka_unit_test(test_sysctl_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
