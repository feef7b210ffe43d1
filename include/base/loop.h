// SPDX-License-Identifier: BSD-2-Clause
/*
 * Event loop: one thread that waits in one place for kicks, completions, timers and calls.
 *
 * DOC: Theory of operation. A loop has one of two engines behind the same interface: LOOP_URING
 * waits in io_uring_submit_and_wait(), where watched descriptors are multishot polls on fixed files
 * and disk requests are SQEs on the same ring; LOOP_EPOLL waits in epoll_wait(). A uring loop is
 * sealed when it starts: its ring accepts only the opcodes in loop_opcodes[], on registered
 * files (IORING_REGISTER_RESTRICTIONS), so everything it will ever touch is registered before. An
 * opcode that is not in the table, or not in this kernel, completes with -EACCES.
 *
 * Life: loop_new() -> loop_watch(), loop_register_file() ... -> loop_start() (its own thread) or
 * loop_run() (the calling thread) -> loop_quit(), loop_stop() -> loop_free().
 *
 * One rule: a loop's work runs on its thread, and on no other. That is the thread that created it,
 * until it starts; the one that runs it, until it has ended; then the one that joined it. So whoever
 * ends a loop knows that no other thread will call it, or post to it, any more; that is asserted.
 * A loop whose engine fails does not end: it tells loop_on_failure()'s function, and still runs
 * calls and posted work.
 */
#ifndef SKEP_LOOP_H
#define SKEP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/fifo.h"

struct loop;
struct io_uring_sqe;

enum loop_engine {
	LOOP_AUTO, /* io_uring where the host has it, else epoll */
	LOOP_URING,
	LOOP_EPOLL,
};

/* An operation in flight on the ring; embed it in a request. `done` runs on the loop's thread. */
struct loop_op {
	void (*done)(struct loop_op *op, int res, uint32_t cqe_flags);
};

/* A watched descriptor. Owned by the caller; outlives the loop unless loop_unwatch() ended it;
 * fields are the loop's. */
struct loop_fd {
	struct loop_op op;
	struct loop *loop;
	int fd;
	int slot;	 /* fixed file index, -1 under epoll */
	uint32_t events; /* EPOLLIN, EPOLLOUT: the same bits as POLL* */
	bool paused;
	bool armed;
	bool always;	  /* cannot be polled (a regular file): always ready */
	bool queued;	  /* in the loop's list of ready watches, with ... */
	uint32_t revents; /* ... these events */
	void (*ready)(struct loop_fd *w, uint32_t events);
	struct loop_fd *next, **at; /* in the loop's list of all watches */
	struct fifo_link ready_link;
};

/* A one-shot timer (a watched timerfd). */
struct loop_timer {
	struct loop_fd watch;
	void (*fired)(struct loop_timer *t);
};

/* Work that loop_post() runs on the loop's thread; owned by the caller until `fn` is called. */
struct loop_work {
	void (*fn)(struct loop_work *work);
	struct fifo_link link;
};

/*
 * Creates a loop; `name` (at most 15 bytes) names its thread. `entries` is the number of SQEs that
 * may be queued between two waits. LOOP_URING fails with a message where io_uring is denied or too
 * old (-ENOSYS, -EPERM, ...); LOOP_AUTO falls back to epoll, and then returns 0 with the reason in
 * *e.
 * Until the loop starts, the calling thread counts as its thread.
 */
int loop_new(struct loop **ret, const char *name, enum loop_engine engine, unsigned entries,
	     struct error *e);
void loop_free(
	struct loop *loop); /* NULL-safe; the loop must not be running; closes no watched fd */

bool loop_is_uring(const struct loop *loop);

/* Whether this is the loop's thread: for assertions. Any thread. */
bool loop_is_here(const struct loop *loop);

/* All that is ever submitted to a ring; what this kernel lacks is done in other ways. */
struct loop_opcode {
	uint8_t op;
	const char *name;
};
extern const struct loop_opcode loop_opcodes[]; /* the last has no name */

/* Makes `fd` a fixed file for SQEs (IOSQE_FIXED_FILE). Before the loop starts. Returns its index or
 * a negative errno; -ENOTSUP on an epoll loop. The loop does not own the descriptor. */
int loop_register_file(struct loop *loop, int fd);

/*
 * Pins memory, which is thereby all allocated, as fixed buffers for SQEs: up to LOOP_MAX_RANGES
 * ranges, in pieces of at most 1 GiB, which is what io_uring takes. Once, before the loop starts.
 * -ENOTSUP on an epoll loop; -ENOMEM, mostly because of RLIMIT_MEMLOCK, against which each loop
 * counts anew. With a message.
 */
#define LOOP_MAX_RANGES 2u
int loop_register_memory(struct loop *loop, const struct iovec *ranges, unsigned n,
			 struct error *e);
/* The index of the fixed buffer that has all of the `len` bytes at `p`, or -1. */
int loop_find_buffer(const struct loop *loop, const void *p, size_t len);

/*
 * Watches `fd` and calls `ready` on the loop's thread. Before the loop starts, or (epoll only) on
 * its thread. An eventfd need not be read on a uring loop: multishot poll reports each write;
 * `ready` must therefore treat calls as "look now" and may be called spuriously.
 * loop_drain_eventfd() reads it where the engine is level-triggered and does nothing where it is
 * not; with EPOLLET in `events` epoll is edge-triggered, too. Eventfds must be EFD_NONBLOCK.
 * What cannot be polled (a regular file, /dev/null) is reported at every turn until it is paused.
 */
int loop_watch(struct loop *loop, struct loop_fd *w, int fd, uint32_t events,
	       void (*ready)(struct loop_fd *w, uint32_t events));
void loop_drain_eventfd(struct loop_fd *w);

/* Changes what is waited for; ends the watch, which may then be freed, also in its own `ready`.
 * Epoll only, on the loop's thread, or when it does not run. */
void loop_watch_for(struct loop_fd *w, uint32_t events);
void loop_unwatch(struct loop_fd *w);

/* Stop and resume reports of a watch (back-pressure). What holds when it is resumed is reported, on
 * both engines. On the loop's thread, or before it starts. */
void loop_pause(struct loop_fd *w);
void loop_resume(struct loop_fd *w);

/* Timers: init before the loop starts, set on the loop's thread; 0 ns disarms. */
int loop_timer_init(struct loop *loop, struct loop_timer *t, void (*fired)(struct loop_timer *t));
void loop_timer_set(struct loop_timer *t, uint64_t ns_from_now);
void loop_timer_close(struct loop_timer *t); /* after the loop stopped */

/*
 * The next SQE, to prepare with IOSQE_FIXED_FILE and then io_uring_sqe_set_data(sqe, op). It is
 * submitted with all others when the loop next waits: one system call a batch. Submits at once to
 * make room when the queue is full; never NULL. Loop thread, uring loops only.
 */
struct io_uring_sqe *loop_sqe(struct loop *loop);

/* Submits what is queued and handles completions until *pending is 0. For draining at reset.
 * Handles loop_ops and posted work; watches that become ready meanwhile are reported after. Where
 * the engine has failed, operations never complete, and it does not return: the kernel may still
 * write to their buffers. Loop thread. */
void loop_wait_ops(struct loop *loop, const unsigned *pending);

/* Hooks that run at each turn of the loop, after all that was ready was handled and before it
 * waits: where batched work is committed. True: there is more to do, so the turn does not wait, but
 * what else is ready has its turn first. Before the loop starts. */
struct loop_hook {
	bool (*fn)(struct loop_hook *hook);
	struct fifo_link link;
};
void loop_add_hook(struct loop *loop, struct loop_hook *hook);

/* Runs fn(arg) on the loop's thread and waits for it; inline when called there. Before the loop
 * starts, other threads than the one that made it wait. Any thread, until the loop has ended; the
 * caller holds no lock that a loop callback takes. */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Queues work for the loop's thread; does not wait. Any thread, until the loop has ended. */
void loop_post(struct loop *loop, struct loop_work *work);

/* fn(ctx, why) runs on the loop's thread when its engine has failed for good. Without one it is
 * logged. Before the loop starts. */
void loop_on_failure(struct loop *loop, void (*fn)(void *ctx, const char *why), void *ctx);

/* Starts a thread that seals the loop, calls setup(arg) there (e.g. to enter the sandbox) and runs.
 * Returns once the ring is sealed and setup was called; what is not 0 of that ends the loop, and
 * is returned. */
int loop_start(struct loop *loop, int (*setup)(void *arg), void *arg, struct error *e);

/* The same on the calling thread, until loop_quit(). A negative errno when it could not start, or
 * its engine failed. */
int loop_run(struct loop *loop);
/* The loop ends, once what was posted has run. Any thread, the last one that calls it. */
void loop_quit(struct loop *loop);

/* Ends and joins the thread of loop_start(); the caller's is the loop's thread from then on. No-op
 * when it does not run. */
void loop_stop(struct loop *loop);

#endif
