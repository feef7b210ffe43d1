// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_REQUEST_H
#define SKEP_BLK_REQUEST_H

#include "disk.h"

/* The request's work is done: if that is to be `stable`, it waits for a sync, and otherwise gets
 * its status and its used entry. Not while the queue stops. */
void blk_request_finish(struct blk_request *r, uint8_t status);
/* An operation of the request ended with `result`. True when it was submitted again. */
bool blk_request_retried(struct blk_request *r, int64_t result);

/* Parts that requests share. */
bool blk_in_capacity(const struct blk_queue *q, uint64_t sector, uint64_t sectors);
/* Whether what the driver writes now is to be stable when it is done. */
bool blk_must_be_stable(const struct blk_queue *q);
/* Where the request keeps `n` buffers or ranges. */
union blk_buffers *blk_buffers_for(struct blk_request *r, unsigned n);
/* The operation's one buffer is `bytes` at `buffer`. */
void blk_use_piece(struct blk_request *r, void *buffer, uint64_t bytes);

#endif
