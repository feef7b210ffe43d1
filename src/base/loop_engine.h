// SPDX-License-Identifier: BSD-2-Clause
/* What the files of a loop share; nobody else includes this. The engines call loop.c, which calls
 * them through the table; loop_new.c, above them, chooses. */
#ifndef SKEP_LOOP_ENGINE_H
#define SKEP_LOOP_ENGINE_H

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/loop.h"

#define LOOP_BUFFER ((size_t)1 << 30) /* the most that io_uring takes as one fixed buffer */

struct loop_engine_ops {
	bool is_uring;
	int (*open)(struct loop *loop, unsigned entries, struct error *e);
	void (*close)(struct loop *loop);
	/* On the thread that will run the loop: no descriptor can be added to a ring after. */
	int (*seal)(struct loop *loop, struct error *e);
	/* On the same thread, when the loop has ended: lets go of descriptors and memory. NULL: it
	 * has none. */
	void (*release)(struct loop *loop);
	/* A new watch; 0 or a negative errno. */
	int (*add)(struct loop *loop, struct loop_fd *w);
	/* Wants reports, or none. */
	void (*arm)(struct loop_fd *w);
	void (*disarm)(struct loop_fd *w);
	/* Submits what is queued, waits when `block`, completes ops, marks watches as ready. */
	int (*wait)(struct loop *loop, bool block);
	/* The same for loop_wait_ops(): blocks until an op completes or work is posted. NULL: there
	 * are no ops. */
	int (*wait_ops)(struct loop *loop);
};

extern const struct loop_engine_ops loop_engine_uring;
extern const struct loop_engine_ops loop_engine_epoll;

enum loop_state { LOOP_NEW, LOOP_RUNNING, LOOP_ENDED };

struct loop {
	const struct loop_engine_ops *engine;
	char name[16];
	struct loop_fd *watches; /* all; last added first */
	unsigned num_always;	 /* of those that cannot be polled */
	struct fifo ready;	 /* watches: reported, not yet handled */
	struct fifo hooks;

	pthread_mutex_t lock; /* of what follows, up to `wake` */
	pthread_cond_t called;
	enum loop_state state;
	_Atomic pthread_t owner; /* who made the loop, then who runs it, then who joined it */
	struct fifo work;
	size_t num_work;

	struct loop_fd wake; /* an eventfd: work was posted, or quit */
	_Atomic bool quit;
	int failure; /* why the engine does not work any more, a negative errno; 0: it does */
	void (*failed)(void *ctx, const char *why);
	void *failed_ctx;

	pthread_t thread; /* of loop_start() */
	bool has_thread;

	int epoll_fd;

	struct io_uring ring;
	bool sealed;
	int *files;
	unsigned num_files;
	struct iovec memory[LOOP_MAX_RANGES]; /* fixed buffers of LOOP_BUFFER each, in order */
	unsigned num_memory;
	struct io_uring_cqe *stash; /* taken off a full ring, not yet handled */
	unsigned stash_head, stash_tail;
};

/* An engine saw `events` on `w`; its callback runs after everything that is ready was collected. */
void loop_mark_ready(struct loop_fd *w, uint32_t events);
/* Of loop->wake: runs what was posted. */
void loop_woken(struct loop_fd *wake, uint32_t events);

#endif
