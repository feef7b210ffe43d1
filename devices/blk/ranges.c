// SPDX-License-Identifier: BSD-2-Clause
/*
 * DISCARD, WRITE_ZEROES and SECURE_ERASE, step by step.
 *
 * DOC: Theory of operation. Waiting discards that begin where a step ends come along with it
 * (`riders`). A read waits for whoever holds the file's lock, so steps are short while the guest
 * reads.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "lane.h"
#include "ranges.h"
#include "request.h"
#include "space.h"

/* What is written where neither PUNCH_HOLE nor ZERO_RANGE works, this much at once. Nobody writes
 * here, so it takes no memory. */
static uint8_t zeros[MIB] __attribute__((aligned(4096)));

static uint64_t range_start(const struct blk_request *r)
{
	return (r->buffers[r->current].range.sector << BLK_SECTOR_SHIFT) + r->moved;
}

static uint64_t range_left(const struct blk_request *r)
{
	uint64_t sectors = r->buffers[r->current].range.num_sectors;

	return (sectors << BLK_SECTOR_SHIFT) - r->moved;
}

static enum blk_op range_op(const struct blk_request *r)
{
	const struct blk_queue *q = r->queue;

	if (r->type == VIRTIO_BLK_T_DISCARD)
		return BLK_DISCARD;
	if (r->type == VIRTIO_BLK_T_SECURE_ERASE)
		return BLK_SECURE_ERASE;
	if ((range_start(r) | range_left(r)) % q->blk->image->device_block)
		return BLK_WRITE;
	if (!q->no_punch && q->blk->discard && q->blk->image->zero_punch &&
	    r->buffers[r->current].range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		return BLK_ZERO_PUNCH;
	return q->no_zero ? BLK_WRITE : BLK_ZERO_RANGE;
}

/* One way to zero is not supported: true when there is another, which is used from now on. */
static bool another_way(struct blk_queue *q, enum blk_op op)
{
	static const uint8_t no;

	if (op == BLK_ZERO_PUNCH) {
		q->no_punch = true;
		virtio_dev_set_config(&q->blk->dev,
				      offsetof(struct virtio_blk_config, write_zeroes_may_unmap),
				      &no, sizeof(no));
	} else if (op == BLK_ZERO_RANGE) {
		q->no_zero = true;
	} else {
		return false;
	}
	return true;
}

/* `bytes` of the current range are done, or failed. */
static void range_advance(struct blk_request *r, uint64_t bytes, int64_t result)
{
	struct blk_queue *q = r->queue;

	if (result < 0) {
		if (!blk_hold(r, result))
			blk_request_finish(r, result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
								    : VIRTIO_BLK_S_IOERR);
		return;
	}
	r->moved += bytes;
	if (!range_left(r)) {
		r->moved = 0;
		r->current++;
	}
	if (q->stopping)
		return;
	if (r->current < r->num)
		blk_lane_append(&q->ranges, r);
	else
		blk_request_finish(r, VIRTIO_BLK_S_OK);
}

static void range_done(struct blk_req *io, int64_t result)
{
	struct blk_request *r = container_of(io, struct blk_request, io), *rider;
	struct blk_queue *q = r->queue;
	uint64_t bytes = io->op == BLK_WRITE ? (uint64_t)result : MIN(io->length, range_left(r));

	if (blk_request_retried(r, result))
		return;
	if (io->op == BLK_WRITE && result == 0)
		result = -EIO;
	if (result == -EOPNOTSUPP && another_way(q, io->op)) {
		result = 0;
		bytes = 0;
	}
	while ((rider = fifo_take(&r->riders, struct blk_request, link)))
		range_advance(rider, range_left(rider), result);
	range_advance(r, bytes, result);
	if (!q->blk->image->device)
		blk_space_sample(q->blk);
	blk_lane_leave(&q->ranges, 1);
	if (!q->ranges.at_work) {
		q->ranges_at_work = false;
		blk_space_end(q->blk);
	}
}

/* Waiting discards that begin where this one ends come along, up to `limit`. */
static void take_riders(struct blk_request *r, uint64_t limit)
{
	struct blk_lane *lane = &r->queue->ranges;
	struct blk_request *next;

	while ((next = fifo_first(&lane->waiting, struct blk_request, link)) &&
	       next->type == VIRTIO_BLK_T_DISCARD &&
	       range_start(next) == r->io.offset + r->io.length &&
	       range_left(next) <= limit - range_start(next)) {
		fifo_take_link(&lane->waiting);
		r->io.length += range_left(next);
		fifo_append(&r->riders, &next->link);
	}
}

/*
 * Whether the guest reads: it did since the queue's last step, or within some steps before. Then
 * steps are short, and one at a time, because a read waits for those at work.
 */
static bool guest_reads(struct blk_queue *q)
{
	const struct blk_device *blk = q->blk;
	uint64_t reads = 0;

	for (unsigned i = 0; i < blk->num_queues; i++)
		reads += atomic_load_explicit(&blk->queue[i].count.reads, memory_order_relaxed);
	if (reads != q->reads_seen)
		q->short_steps = BLK_SHORT_STEPS;
	else if (q->short_steps)
		q->short_steps--;
	q->reads_seen = reads;
	return q->short_steps > 0;
}

static uint64_t step_size(struct blk_queue *q, enum blk_op op)
{
	const struct blk_image *image = q->blk->image;
	bool reads = guest_reads(q);

	/* A lane closed for a reset stays closed. */
	if (q->ranges.max)
		q->ranges.max = reads ? 1 : BLK_MAX_RANGES_AT_WORK;
	if (op == BLK_WRITE)
		return sizeof(zeros);
	if (op == BLK_ZERO_RANGE && image->device)
		return BLK_ZERO_STEP;
	if (!reads || image->discard_step <= BLK_SHORT_STEP)
		return image->discard_step;
	return MAX(BLK_SHORT_STEP - BLK_SHORT_STEP % image->granularity, image->granularity);
}

/* Whether the step moves bytes: a block device may write the zeros of a ZERO_RANGE. */
static bool step_writes(const struct blk_request *r)
{
	return r->io.op == BLK_WRITE ||
	       (r->io.op == BLK_ZERO_RANGE && r->queue->blk->image->device);
}

/* Bytes that the guest wrote were charged when they came. */
static bool step_is_limited(const struct blk_request *r)
{
	return r->queue->blk->rate.limited && !r->hole;
}

/* False when the disk's limits make the lane wait, with this request first. */
static bool step_may_start(struct blk_request *r)
{
	struct blk_queue *q = r->queue;
	uint64_t wait = 0;

	if (step_is_limited(r))
		wait = rate_wait_step(&q->blk->rate, step_writes(r), now_ns());
	if (!wait)
		return true;
	q->ranges.waits = true;
	fifo_prepend(&q->ranges.waiting, &r->link);
	rate_timer_set(&q->rate_timer, wait);
	return false;
}

void blk_ranges_go_on(struct blk_queue *q)
{
	q->ranges.waits = false;
	blk_lane_run(&q->ranges);
}

uint32_t blk_range_step(struct blk_request *r)
{
	enum blk_op op = range_op(r);
	uint64_t start = range_start(r), step = step_size(r->queue, op);
	/* Steps end at multiples of their size, so that no block is cut in two. */
	uint64_t limit = start - start % step + step;

	r->io.op = op;
	r->io.offset = start;
	r->io.length = MIN(range_left(r), limit - start);
	if (!step_may_start(r))
		return 0;
	if (!r->queue->ranges_at_work) {
		r->queue->ranges_at_work = true;
		blk_space_begin(r->queue->blk);
	}
	r->riders = (struct fifo){0};
	r->io.aside = r->queue->short_steps > 0;
	if (op == BLK_DISCARD)
		take_riders(r, limit);
	else if (op == BLK_WRITE)
		blk_use_piece(r, zeros, r->io.length);
	if (step_is_limited(r))
		rate_charge_step(&r->queue->blk->rate, r->io.length, step_writes(r), now_ns());
	r->io.done = range_done;
	return 1;
}

/* Copies the ranges and checks each on its own; OK, or the status to end with. An unknown flag
 * takes precedence (section 5.2.6.2). */
static uint8_t take_ranges(struct blk_request *r, const struct virtq_chain *chain)
{
	const struct blk_queue *q = r->queue;
	uint32_t bytes = chain->out_bytes - BLK_HEADER, size = sizeof(r->buffers->range);
	uint32_t flags =
		r->type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	/* Zeros can be written at any length. */
	uint32_t unit = flags ? 1 : q->blk->image->device_block >> BLK_SECTOR_SHIFT;
	uint32_t n = bytes / size;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (!bytes || bytes % size)
		return VIRTIO_BLK_S_IOERR;
	if (n > BLK_MAX_RANGES)
		return VIRTIO_BLK_S_UNSUPP;
	r->buffers = blk_buffers_for(r, n);
	iov_read(chain->iov, chain->num_out, BLK_HEADER, r->buffers, bytes);
	for (uint32_t i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes *range = &r->buffers[i].range;

		range->sector = le64toh(range->sector);
		range->num_sectors = le32toh(range->num_sectors);
		range->flags = le32toh(range->flags);
		if (range->flags & ~flags)
			return VIRTIO_BLK_S_UNSUPP;
		if (range->num_sectors > BLK_MAX_RANGE_SECTORS ||
		    !blk_in_capacity(q, range->sector, range->num_sectors))
			status = VIRTIO_BLK_S_IOERR;
		if ((range->sector | range->num_sectors) % unit)
			return VIRTIO_BLK_S_UNSUPP;
		/* Empty ranges are left out. */
		if (range->num_sectors)
			r->buffers[r->num++].range = *range;
	}
	return status;
}

static unsigned feature_for(uint32_t type)
{
	if (type == VIRTIO_BLK_T_DISCARD)
		return VIRTIO_BLK_F_DISCARD;
	return type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_F_WRITE_ZEROES
						 : VIRTIO_BLK_F_SECURE_ERASE;
}

void blk_ranges_start(struct blk_request *r, const struct virtq_chain *chain)
{
	struct blk_queue *q = r->queue;
	uint8_t status = take_ranges(r, chain);

	if (status != VIRTIO_BLK_S_UNSUPP && q->blk->image->readonly)
		status = VIRTIO_BLK_S_IOERR;
	else if (!virtio_has(&q->blk->dev, feature_for(r->type)))
		status = VIRTIO_BLK_S_UNSUPP;
	if (status != VIRTIO_BLK_S_OK || !r->num) {
		blk_request_finish(r, status);
		return;
	}
	r->stable = r->type != VIRTIO_BLK_T_DISCARD && blk_must_be_stable(q);
	blk_lane_append(&q->ranges, r);
	blk_lane_run(&q->ranges);
}
