// SPDX-License-Identifier: BSD-2-Clause
/*
 * A request of the guest, and the lanes in which requests take turns. For devices/blk/ alone.
 */
#ifndef SKEP_BLK_REQUEST_H
#define SKEP_BLK_REQUEST_H

#include <linux/virtio_blk.h>

#include "base/fifo.h"
#include "base/util.h"
#include "engine.h"
#include "virtio/virtq.h"

struct blk_queue;

#define BLK_HEADER ((uint32_t)sizeof(struct virtio_blk_outhdr))

/* How often an operation is tried again that failed for no lasting reason. */
#define BLK_MAX_RETRIES 16u
/* Buffers of a request that need no more memory than the request itself. */
#define BLK_SMALL 8u

union blk_buffers {
	struct iovec iov;
	struct virtio_blk_discard_write_zeroes range;
};

/* One request of the guest; its place in the table is its head descriptor. */
struct blk_request {
	struct blk_req io; /* the operation in flight for it */
	struct blk_queue *queue;
	struct blk_lane *lane;	 /* in which it takes turns */
	struct fifo_link link;	 /* in a lane, among riders, or with those that wait */
	struct fifo riders;	 /* discards that go on where this one ends, in the same step */
	uint8_t *status;	 /* in guest memory */
	uint64_t offset, length; /* IN, OUT: of the whole, bytes */
	uint64_t moved;		 /* IN, OUT: bytes done; ranges: bytes done of the current one */
	uint32_t type;
	uint32_t in_bytes; /* device-writable, the status byte included */
	uint16_t head;
	uint16_t current;      /* range at work */
	unsigned num;	       /* buffers or ranges */
	uint8_t retries;       /* of transient errors */
	uint32_t share;	       /* of the `max` of its lane, while it is at work there */
	uint8_t bounce;	       /* index of the bounce buffer */
	bool hole;	       /* OUT of zeros that is carried out as a WRITE_ZEROES */
	bool held;	       /* found no space; not done since */
	bool stable;	       /* a sync is still to come before it is finished */
	uint64_t flush_number; /* of the sync that it waits for */
	struct iovec piece;    /* a bounce buffer, zeros, or a part of the first of `buffers` */
	union blk_buffers *buffers; /* what is left to do; small, or the head's slot */
	union blk_buffers small[BLK_SMALL];
};

/* Limits how many requests are at work, or how many bytes; the others wait in their order. */
struct blk_lane {
	struct fifo waiting;
	uint64_t at_work, max; /* their shares; the last one may be too much; max 0: closed */
	bool waits;	       /* for the disk's limits */
	/* Prepares the request's next operation. Its share, or 0: it waits after all. */
	uint32_t (*step)(struct blk_request *r);
};

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

/* Starts the request in `chain`, whose descriptors are in memory->scratch. 0, or -EBADMSG when the
 * driver broke the protocol; where there is a status byte, it says so. */
int blk_request_start(struct blk_queue *q, const struct virtq_chain *chain, const char **why);
/* The request's work is done: if that is to be `stable`, it waits for a sync, and otherwise gets
 * its status and its used entry. Not while the queue stops. */
void blk_request_finish(struct blk_request *r, uint8_t status);
/* An operation of the request ended with `result`. True when it was submitted again. */
bool blk_request_retried(struct blk_request *r, int64_t result);
/* Sets up the lanes of an idle queue. */
void blk_requests_reset(struct blk_queue *q);

/* Parts that requests share. */
bool blk_in_capacity(const struct blk_queue *q, uint64_t sector, uint64_t sectors);
/* Whether what the driver writes now is to be stable when it is done. */
bool blk_must_be_stable(const struct blk_queue *q);
/* Where the request keeps `n` buffers or ranges. */
union blk_buffers *blk_buffers_for(struct blk_request *r, unsigned n);
/* The operation's one buffer is `bytes` at `buffer`. */
void blk_use_piece(struct blk_request *r, void *buffer, uint64_t bytes);

/* IN and OUT. */
void blk_transfer_start(struct blk_request *r, const struct virtq_chain *chain, uint64_t sector);
uint32_t blk_transfer_step(struct blk_request *r);
uint32_t blk_bounce_step(struct blk_request *r);

/* DISCARD, WRITE_ZEROES and SECURE_ERASE. */
void blk_ranges_start(struct blk_request *r, const struct virtq_chain *chain);
uint32_t blk_range_step(struct blk_request *r);
/* The ranges that wait for the disk's limits look again. */
void blk_ranges_go_on(struct blk_queue *q);

/* What waits for a sync is finished after one that begins later, or failed. */
void blk_flush_enter(struct blk_request *r);

/* True when the request found no space, and waits for that in place of failing. */
bool blk_hold(struct blk_request *r, int64_t result);
/* It waits no more. */
void blk_hold_ends(struct blk_request *r);

#endif
