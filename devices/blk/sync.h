// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_SYNC_H
#define SKEP_BLK_SYNC_H

#include "engine.h"

/* Sync: system calls on the loop's thread, in commit; `worker` may be NULL and is for flushes, and
 * for those `aside`. */
int blk_sync_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		  struct loop *worker, struct error *e);

/* The system call for one operation, restarted on EINTR; what blk_req.result says. */
int64_t blk_sync_run(const struct blk_image *image, const struct blk_req *req);

/* Hands the request to the engine's worker: for what should not block the loop's thread. */
void blk_worker_submit(struct blk_engine *engine, struct blk_req *req);

/* Waits for all that the ring or the worker has; the worker begins nothing more. */
void blk_worker_drain(struct blk_engine *engine);

/* fallocate(2)'s mode for BLK_DISCARD on a file, BLK_ZERO_PUNCH and BLK_ZERO_RANGE. */
int blk_fallocate_mode(enum blk_op op);

#endif
