// SPDX-License-Identifier: BSD-2-Clause
/* Lanes, in which requests take turns. */
#ifndef SKEP_BLK_LANE_H
#define SKEP_BLK_LANE_H

#include "disk.h"

/* The request's turn comes when those before it had theirs: at the next blk_lane_run(). */
static inline void blk_lane_append(struct blk_lane *lane, struct blk_request *r)
{
	r->lane = lane;
	fifo_append(&lane->waiting, &r->link);
}

/* Submits the next operations of as many requests as may be at work. */
void blk_lane_run(struct blk_lane *lane);
/* A turn that had this share is over, and the next requests get it. */
static inline void blk_lane_leave(struct blk_lane *lane, uint32_t share)
{
	lane->at_work -= share;
	blk_lane_run(lane);
}

#endif
