// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_SPACE_H
#define SKEP_BLK_SPACE_H

#include "disk.h"

/* True when the request found no space, and waits for that in place of failing. */
bool blk_hold(struct blk_request *r, int64_t result);
/* It waits no more. */
void blk_hold_ends(struct blk_request *r);

/* Requests that wait for space: what all of the queue's do is tried again; they are forgotten. */
void blk_held_retry(struct blk_queue *q);
void blk_held_reset(struct blk_queue *q);

/* Ranges of the queue are at work from now on, or not any more; one more of their steps is done.
 * What the image shrank by meanwhile is what discards gave back. */
void blk_space_begin(struct blk_device *blk);
void blk_space_sample(struct blk_device *blk);
void blk_space_end(struct blk_device *blk);

#endif
