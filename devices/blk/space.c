// SPDX-License-Identifier: BSD-2-Clause
/*
 * Space on the host: requests that wait for some, and what discards gave back.
 *
 * DOC: Theory of operation. With werror=enospc-pause a request that finds no space leaves its lane
 * and is held until it is tried again: reads go on, and discards, which make space.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "lane.h"
#include "space.h"

/* Between two tries; doubles each time. */
#define HELD_MIN_NS (NSEC_PER_SEC / 64)
#define HELD_MAX_NS NSEC_PER_SEC

/* The last request that a queue held is done, or given up. */
static void holds_none(struct blk_queue *q)
{
	q->held_ns = HELD_MIN_NS;
	if (atomic_fetch_sub(&q->blk->paused_queues, 1) == 1)
		log_guest("disk %s: goes on", q->blk->image->path);
}

void blk_hold_ends(struct blk_request *r)
{
	r->held = false;
	if (!--r->queue->num_held)
		holds_none(r->queue);
}

bool blk_hold(struct blk_request *r, int64_t result)
{
	struct blk_queue *q = r->queue;

	if ((result != -ENOSPC && result != -EDQUOT) || !q->blk->wait_for_space || q->stopping ||
	    r->type == VIRTIO_BLK_T_IN)
		return false;
	/* A device that vanished says the same. */
	if (!blk_image_reaches(q->blk->image, r->io.offset + r->io.length))
		return false;
	r->retries = 0;
	if (!r->held) {
		r->held = true;
		if (!q->num_held++ && !atomic_fetch_add(&q->blk->paused_queues, 1)) {
			atomic_fetch_add(&q->blk->space_pauses, 1);
			log_guest("disk %s: no space is left on the host (%s): writes wait until "
				  "there is",
				  q->blk->image->path, strerror((int)-result));
		}
	}
	if (!q->held.first) {
		loop_timer_set(&q->held_timer, q->held_ns);
		q->held_ns = MIN(q->held_ns * 2, HELD_MAX_NS);
	}
	fifo_append(&q->held, &r->link);
	return true;
}

void blk_held_retry(struct blk_queue *q)
{
	struct fifo held = q->held;
	struct blk_request *r;

	q->held = (struct fifo){0};
	while ((r = fifo_take(&held, struct blk_request, link))) {
		blk_lane_append(r->lane, r);
		blk_lane_run(r->lane);
	}
}

void blk_held_reset(struct blk_queue *q)
{
	q->held = (struct fifo){0};
	if (q->num_held) {
		q->num_held = 0;
		holds_none(q);
	}
	q->held_ns = HELD_MIN_NS;
}

void blk_space_begin(struct blk_device *blk)
{
	pthread_mutex_lock(&blk->space.lock);
	if (!blk->space.at_work++)
		blk->space.last = blk_image_allocated(blk->image);
	pthread_mutex_unlock(&blk->space.lock);
}

void blk_space_sample(struct blk_device *blk)
{
	int64_t now;

	pthread_mutex_lock(&blk->space.lock);
	now = blk_image_allocated(blk->image);
	if (now < blk->space.last)
		blk->space.returned += blk->space.last - now;
	blk->space.last = now;
	pthread_mutex_unlock(&blk->space.lock);
}

void blk_space_end(struct blk_device *blk)
{
	pthread_mutex_lock(&blk->space.lock);
	blk->space.at_work--;
	pthread_mutex_unlock(&blk->space.lock);
}
