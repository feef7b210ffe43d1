// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_URING_H
#define SKEP_BLK_URING_H

#include "engine.h"

/*
 * io_uring: operations are SQEs on the loop's own ring, submitted with all others when the loop
 * next waits. `worker` is for BLKDISCARD and BLKSECDISCARD, needed where blk_uring_needs_worker()
 * says so. Before the loop starts.
 */
int blk_uring_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		   struct loop *worker, struct error *e);
bool blk_uring_needs_worker(const struct blk_image *image);

/* Whether the kernel has BLOCK_URING_CMD_DISCARD for this block device. Discards nothing. */
bool blk_uring_probe_discard(int fd);

#endif
