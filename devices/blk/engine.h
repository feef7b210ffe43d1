// SPDX-License-Identifier: BSD-2-Clause
/*
 * Engines: they carry out operations on an image. Two do so themselves, by io_uring or by system
 * calls; the overlay's sends each operation to one of two others. Offsets and lengths are bytes.
 */
#ifndef SKEP_BLK_ENGINE_H
#define SKEP_BLK_ENGINE_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/fifo.h"
#include "base/loop.h"
#include "image.h"

enum blk_op {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,	  /* fdatasync */
	BLK_DISCARD,	  /* file: PUNCH_HOLE; device: BLOCK_URING_CMD_DISCARD or BLKDISCARD */
	BLK_ZERO_PUNCH,	  /* PUNCH_HOLE, which reads as zeros on both */
	BLK_ZERO_RANGE,	  /* ZERO_RANGE: stays allocated */
	BLK_SECURE_ERASE, /* BLKSECDISCARD, of devices only */
};

/*
 * One operation on the image. The caller fills the first part; the struct and the iovecs live until
 * `done`, which fires exactly once, on the loop's thread, and never inside submit. `result` is the
 * bytes moved (maybe fewer than `length`; 0 at end of file), 0 for the others, or a negative errno.
 */
struct blk_req {
	enum blk_op op;
	bool aside; /* BLK_DISCARD and those after it: no read should wait for it */
	uint64_t offset, length;
	const struct iovec *iov; /* BLK_READ, BLK_WRITE */
	unsigned num_iov;
	void (*done)(struct blk_req *req, int64_t result);

	/* The overlay's: what it takes the place of while an engine has the request. */
	struct {
		void (*done)(struct blk_req *req, int64_t result);
		const struct iovec *iov;
		unsigned num_iov;
		uint64_t length;
	} whole;
	struct iovec part;

	/* The engine's. */
	struct blk_engine *engine; /* while it is pending */
	struct fifo_link link;
	struct loop_op ring;
	struct loop_work work;
	int64_t result;
};

struct blk_engine {
	const struct blk_engine_ops *ops;
	const struct blk_image *image;
	struct loop *loop;
	struct loop *worker; /* has a thread of its own; NULL: there is none */
	unsigned pending;    /* requests that the ring or the worker has, and drain waits for */
	atomic_bool draining;
};

/* The ring or the worker has a request from now on, or not any more. Drain waits for all but a
 * flush, which has nothing to do with guest memory and may take long. */
static inline void blk_engine_began(struct blk_engine *engine, struct blk_req *req)
{
	req->engine = engine;
	engine->pending += req->op != BLK_FLUSH;
}

static inline void blk_engine_ended(const struct blk_req *req)
{
	req->engine->pending -= req->op != BLK_FLUSH;
}

/* All on the loop's thread but for close(). */
struct blk_engine_ops {
	void (*submit)(struct blk_engine *engine, struct blk_req *req);
	/* Carries out one submitted request on the loop's thread; false when none is left for that.
	 * NULL: the loop submits them all. */
	bool (*commit)(struct blk_engine *engine);
	/* Returns when every request is done, but for a BLK_FLUSH that has begun; those not yet
	 * begun end with -ECANCELED. */
	void (*drain)(struct blk_engine *engine);
	void (*close)(struct blk_engine *engine); /* nothing is in flight */
};

/* A new engine, which is the first member of a struct of `size` bytes, zeroed. NULL with a message:
 * out of memory. */
void *blk_engine_new(size_t size, const struct blk_engine_ops *ops, const struct blk_image *image,
		     struct loop *loop, struct loop *worker, struct error *e);
void blk_engine_free(struct blk_engine *engine);

/* The system call for one operation, restarted on EINTR; what blk_req.result says. */
int64_t blk_sync_run(const struct blk_image *image, const struct blk_req *req);

/* Hands the request to the engine's worker: for what should not block the loop's thread. */
void blk_worker_submit(struct blk_engine *engine, struct blk_req *req);

/* Waits for all that the ring or the worker has; the worker begins nothing more. */
void blk_worker_drain(struct blk_engine *engine);

/* fallocate(2)'s mode for BLK_DISCARD on a file, BLK_ZERO_PUNCH and BLK_ZERO_RANGE. */
int blk_fallocate_mode(enum blk_op op);

#endif
