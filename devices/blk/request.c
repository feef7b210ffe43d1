// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests of virtio-blk (virtio 1.3, section 5.2.6), from descriptor chain to status byte.
 *
 * DOC: Theory of operation. What a chain says is copied and judged whole before anything is
 * submitted. How its buffers are cut into descriptors means nothing: the header is the first 16
 * device-readable bytes, the status is the last device-writable one.
 *
 * A request has at most one operation in flight, in its `io`:
 *
 *	IN, OUT               lane ──► move() ──► moved() ──► back into the lane, or finish()
 *	  by bounce buffer    lane ──► bounce_step() ──► bounced() ──► next piece, or finish()
 *	  OUT of zeros        like a WRITE_ZEROES that may unmap, with detect-zeroes=unmap
 *	DISCARD, WRITE_ZEROES,
 *	SECURE_ERASE          lane ──► range_step() ──► ranged() ──► back into the lane, or finish()
 *	FLUSH                 blk_flush_enter() ──► finish()
 *
 * What has to be stable waits for a sync before finish(), as a FLUSH does: blk_flush.c.
 *
 * Lanes limit how many requests are at work in them, or how many bytes. A large transfer goes in
 * pieces, a range in steps, between which the request goes to the end of its lane; so what discards
 * hold up is bounded by a few steps. A step takes along the discards that wait and go on where it
 * ends (`riders`).
 *
 * With werror=enospc-pause a request that finds no space on the host leaves its lane and is held
 * until it is tried again: reads go on, and discards, which make space.
 *
 * At reset (`stopping`, and the lanes are closed) no further operation is submitted, and nothing is
 * written to the guest.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "device.h"

#define HEADER ((uint32_t)sizeof(struct virtio_blk_outhdr))

/* Between tries of requests that wait for space: twice as long each time. */
#define HELD_MIN_NS (NSEC_PER_SEC / 64)
#define HELD_MAX_NS NSEC_PER_SEC

/* Where neither PUNCH_HOLE nor ZERO_RANGE work, zeros are written from here, this much at once.
 * Never written to, so it takes no memory. */
static uint8_t zeros[MIB] __attribute__((aligned(4096)));

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer, the queue's loop. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static uint64_t range_bytes(const struct blk_request *r)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < r->num; i++)
		bytes += (uint64_t)r->buffers[i].range.num_sectors << BLK_SECTOR_SHIFT;
	return bytes;
}

static void account(const struct blk_request *r, uint8_t status)
{
	struct blk_queue *q = r->queue;

	if (status != VIRTIO_BLK_S_OK) {
		count(&q->count.errors, 1);
		return;
	}
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		count(&q->count.reads, 1);
		count(&q->count.read_bytes, r->length);
		break;
	case VIRTIO_BLK_T_OUT:
		count(&q->count.writes, 1);
		count(&q->count.written_bytes, r->length);
		if (r->hole)
			count(&q->count.detected_zero_bytes, r->length);
		break;
	case VIRTIO_BLK_T_FLUSH:
		count(&q->count.flushes, 1);
		break;
	case VIRTIO_BLK_T_DISCARD:
		count(&q->count.discards, 1);
		count(&q->count.discarded_bytes, range_bytes(r));
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		count(&q->count.write_zeroes, 1);
		break;
	case VIRTIO_BLK_T_SECURE_ERASE:
		count(&q->count.secure_erases, 1);
		break;
	default:
		break;
	}
}

/* The used length counts bytes written from the start of the device-writable part (section
 * 2.7.8.2): the data, and only after all of it the status. */
static uint32_t used_length(const struct blk_request *r)
{
	bool in = r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID;
	uint32_t data = in ? (uint32_t)r->moved : 0;

	return data == r->in_bytes - 1 ? r->in_bytes : data;
}

/* The last request that a queue held is done, or given up. */
static void holds_none(struct blk_queue *q)
{
	q->held_ns = HELD_MIN_NS;
	if (atomic_fetch_sub(&q->blk->paused_queues, 1) == 1)
		log_guest("disk %s: goes on", q->blk->image->path);
}

void blk_request_finish(struct blk_request *r, uint8_t status)
{
	struct blk_queue *q = r->queue;

	if (r->held) {
		r->held = false;
		if (!--q->num_held)
			holds_none(q);
	}
	if (q->stopping)
		return;
	*(volatile uint8_t *)r->status = status;
	virtq_push(&q->vq->vq, r->head, used_length(r));
	q->pushed = true;
	account(r, status);
}

static uint8_t status_of(int64_t result)
{
	return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void submit(struct blk_request *r, void (*done)(struct blk_req *io, int64_t result))
{
	r->io.done = done;
	r->queue->engine->ops->submit(r->queue->engine, &r->io);
}

static const char *remedy(int64_t result)
{
	switch (result) {
	case -ENOSPC:
		return ": make room there, or see werror=enospc-pause";
	case -EDQUOT:
		return ": raise the quota, or see werror=enospc-pause";
	case -EFBIG:
		return ": raise the limit on files (`ulimit -f`, LimitFSIZE= in systemd's unit)";
	case -ENOMEM:
		return ": the host or the cgroup is short of memory";
	case -EIO:
		return ": see the host's kernel log";
	default:
		return "";
	}
}

/* The guest hears of an I/O error only: the first of each kind is told here. */
static void tell_failure(struct blk_request *r, int64_t result)
{
	static const char *const name[] = {
		[BLK_READ] = "a read",
		[BLK_WRITE] = "a write",
		[BLK_FLUSH] = "a flush",
		[BLK_DISCARD] = "a discard",
		[BLK_ZERO_PUNCH] = "a write of zeros",
		[BLK_ZERO_RANGE] = "a write of zeros",
		[BLK_SECURE_ERASE] = "a secure erase",
	};
	struct blk_device *blk = r->queue->blk;
	uint64_t code = (uint64_t)-result % 128, bit = 1ull << code % 64;

	/* Those that there is another way for are none, nor those that are held. */
	if (result == -EOPNOTSUPP || r->queue->stopping ||
	    ((result == -ENOSPC || result == -EDQUOT) && blk->wait_for_space) ||
	    atomic_fetch_or(&blk->told[code / 64], bit) & bit)
		return;
	log_warn("disk %s: %s failed on the host: %s%s", blk->image->path, name[r->io.op],
		 strerror((int)-result), remedy(result));
}

/* True when the same operation was submitted again. */
static bool retried(struct blk_request *r, int64_t result)
{
	if (result >= 0)
		return false;
	if ((result == -EAGAIN || result == -EINTR) && !r->queue->stopping &&
	    r->retries++ < BLK_MAX_RETRIES) {
		submit(r, r->io.done);
		return true;
	}
	tell_failure(r, result);
	return false;
}

/* Lanes. */

static void lane_run(struct blk_lane *lane)
{
	while (lane->first && lane->at_work < lane->max && !lane->waits) {
		struct blk_request *r = lane_take(lane);

		r->share = lane->step(r);
		lane->at_work += r->share;
	}
}

static void lane_enter(struct blk_lane *lane, struct blk_request *r)
{
	lane_append(lane, r);
	lane_run(lane);
}

static void enter_transfers(struct blk_request *r)
{
	lane_enter(&r->queue->transfers, r);
}

static void enter_bounced(struct blk_request *r)
{
	lane_enter(&r->queue->bounced, r);
}

static void enter_ranges(struct blk_request *r)
{
	lane_enter(&r->queue->ranges, r);
}

/* The turn of a request is over, which had this share; the next ones get it. */
static void lane_leave(struct blk_lane *lane, uint32_t share)
{
	lane->at_work -= share;
	lane_run(lane);
}

/* Requests that wait for space. */

/* True when the request is kept, to go on by `again`. */
static bool hold(struct blk_request *r, int64_t result, void (*again)(struct blk_request *r))
{
	struct blk_queue *q = r->queue;

	if ((result != -ENOSPC && result != -EDQUOT) || !q->blk->wait_for_space || q->stopping ||
	    r->type == VIRTIO_BLK_T_IN)
		return false;
	/* That is what a device that vanished says, too. */
	if (!blk_image_reaches(q->blk->image, r->io.offset + r->io.length))
		return false;
	r->again = again;
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
	lane_append(&q->held, r);
	return true;
}

void blk_requests_retry(struct blk_queue *q)
{
	struct blk_request *r = q->held.first, *next;

	lane_reset(&q->held, 0, NULL);
	for (; r; r = next) {
		next = r->next;
		r->again(r);
	}
}

/* FLUSH. */

static void flush(struct blk_request *r)
{
	const struct blk_image *image = r->queue->blk->image;

	if (image->readonly || image->unsafe)
		blk_request_finish(r, VIRTIO_BLK_S_OK);
	else
		blk_flush_enter(r);
}

/* What the request was to do to the image is done. */
static void carried_out(struct blk_request *r)
{
	if (r->stable)
		blk_flush_enter(r);
	else
		blk_request_finish(r, VIRTIO_BLK_S_OK);
}

static bool must_be_stable(const struct blk_request *r)
{
	const struct blk_device *blk = r->queue->blk;

	return atomic_load(&blk->writethrough) && !blk->image->unsafe;
}

/* IN and OUT. */

static void skip(struct blk_request *r, uint64_t bytes)
{
	while (bytes) {
		struct iovec *iov = &r->buffers->iov;
		size_t part = MIN(bytes, iov->iov_len);

		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		bytes -= part;
		if (!iov->iov_len) {
			r->buffers++;
			r->num--;
		}
	}
}

static void moved(struct blk_req *io, int64_t result)
{
	struct blk_request *r = container_of(io, struct blk_request, io);
	struct blk_lane *lane = &r->queue->transfers;
	uint32_t share = r->share;

	if (retried(r, result))
		return;
	if (result > 0 && (uint64_t)result <= io->length) {
		r->moved += (uint64_t)result;
		skip(r, (uint64_t)result);
		if (r->moved == r->length)
			carried_out(r);
		else
			lane_append(lane, r);
	} else if (!hold(r, result, enter_transfers)) {
		/* Nothing moved: the file ends before its size did when it was opened. */
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
	}
	lane_leave(lane, share);
}

/* The operation's one buffer is `bytes` at `buffer`. */
static void use_piece(struct blk_request *r, void *buffer, uint64_t bytes)
{
	r->piece = (struct iovec){buffer, (size_t)bytes};
	r->io.iov = &r->piece;
	r->io.num_iov = 1;
	r->io.length = bytes;
}

/* As many of the buffers as make a piece, or a part of the first. */
static uint32_t move(struct blk_request *r)
{
	const struct iovec *iov = &r->buffers->iov;
	uint64_t bytes = 0;
	unsigned n = 0;

	static_assert(sizeof(union blk_buffers) == sizeof(struct iovec), "an array of iovecs");
	while (n < r->num && iov[n].iov_len <= BLK_PIECE - bytes)
		bytes += iov[n++].iov_len;
	r->io.offset = r->offset + r->moved;
	r->io.length = bytes;
	r->io.iov = iov;
	r->io.num_iov = n;
	if (!n)
		use_piece(r, iov->iov_base, BLK_PIECE);
	submit(r, moved);
	return (uint32_t)r->io.length;
}

/* The same by way of a bounce buffer, for buffers that O_DIRECT does not take. */

static void bounced(struct blk_req *io, int64_t result)
{
	struct blk_request *r = container_of(io, struct blk_request, io);
	struct blk_queue *q = r->queue;

	if (retried(r, result))
		return;
	if (result > 0) {
		if (r->type == VIRTIO_BLK_T_IN && !q->stopping)
			iov_write(&r->buffers->iov, r->num, 0, io->iov->iov_base, (size_t)result);
		skip(r, (uint64_t)result);
		r->moved += (uint64_t)result;
	}
	q->bounces &= ~(1u << r->bounce);
	if (result > 0 && r->moved < r->length)
		lane_append(&q->bounced, r);
	else if (result > 0)
		carried_out(r);
	else if (!hold(r, result, enter_bounced))
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
	lane_leave(&q->bounced, 1);
}

static uint32_t bounce_step(struct blk_request *r)
{
	struct blk_queue *q = r->queue;
	unsigned slot = (unsigned)__builtin_ctz(~q->bounces);

	q->bounces |= 1u << slot;
	r->bounce = (uint8_t)slot;
	r->io.offset = r->offset + r->moved;
	use_piece(r, q->memory->bounce[slot], MIN(r->length - r->moved, BLK_BOUNCE_SIZE));
	if (r->type == VIRTIO_BLK_T_OUT)
		iov_read(&r->buffers->iov, r->num, 0, q->memory->bounce[slot],
			 (size_t)r->io.length);
	submit(r, bounced);
	return 1;
}

static bool needs_bounce(const struct blk_request *r)
{
	const struct blk_image *image = r->queue->blk->image;

	if (!image->direct)
		return false;
	for (unsigned i = 0; i < r->num; i++) {
		const struct iovec *iov = &r->buffers[i].iov;

		if ((uintptr_t)iov->iov_base % image->memory_align ||
		    iov->iov_len % image->logical_block)
			return true;
	}
	return false;
}

/* Where the request keeps `n` buffers or ranges. */
static union blk_buffers *buffers_for(struct blk_request *r, unsigned n)
{
	return n <= BLK_SMALL ? r->small : r->queue->memory->slot[r->head];
}

/* Copies `length` bytes' worth of `n` buffers, from `offset` on. */
static void take_buffers(struct blk_request *r, const struct iovec *iov, unsigned n, size_t offset,
			 size_t length)
{
	r->buffers = buffers_for(r, n);
	r->num = 0;
	for (; n && length; iov++, n--) {
		size_t part;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = MIN(iov->iov_len - offset, length);
		r->buffers[r->num++].iov = (struct iovec){(uint8_t *)iov->iov_base + offset, part};
		offset = 0;
		length -= part;
	}
}

/* A hole is worth it, and costs no reading and writing of its ends, in whole units only; nor are
 * gigabytes looked at in one go. */
static bool may_be_hole(const struct blk_request *r)
{
	const struct blk_queue *q = r->queue;
	uint32_t unit = q->blk->image->granularity;

	return q->blk->detect_zeroes && !q->no_punch && r->type == VIRTIO_BLK_T_OUT &&
	       r->length <= BLK_IN_FLIGHT && r->offset % unit == 0 && r->length % unit == 0;
}

/* What the guest writes there meanwhile is too late: each byte was zero when it was looked at. */
static bool is_zero(const struct blk_request *r)
{
	for (unsigned i = 0; i < r->num; i++)
		if (!mem_is_zero(r->buffers[i].iov.iov_base, r->buffers[i].iov.iov_len))
			return false;
	return true;
}

static void make_hole(struct blk_request *r)
{
	r->hole = true;
	r->buffers = r->small;
	r->buffers->range = (struct virtio_blk_discard_write_zeroes){
		.sector = r->offset >> BLK_SECTOR_SHIFT,
		.num_sectors = (uint32_t)(r->length >> BLK_SECTOR_SHIFT),
		.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
	};
	r->num = 1;
	enter_ranges(r);
}

static bool in_capacity(const struct blk_queue *q, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = q->blk->sectors;

	return sector <= capacity && sectors <= capacity - sector;
}

static void read_or_write(struct blk_request *r, const struct virtq_chain *chain, uint64_t sector)
{
	const struct blk_image *image = r->queue->blk->image;
	bool out = r->type == VIRTIO_BLK_T_OUT;
	uint32_t length = out ? chain->out_bytes - HEADER : chain->in_bytes - 1;

	if ((out && image->readonly) || length % BLK_SECTOR ||
	    !in_capacity(r->queue, sector, length >> BLK_SECTOR_SHIFT)) {
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->offset = sector << BLK_SECTOR_SHIFT;
	r->length = length;
	if (!length) {
		blk_request_finish(r, VIRTIO_BLK_S_OK);
		return;
	}
	/* O_DIRECT takes whole blocks; blk_size says so to the guest. */
	if (image->direct && (r->offset | length) % image->logical_block) {
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->io.op = out ? BLK_WRITE : BLK_READ;
	r->stable = out && must_be_stable(r);
	if (out)
		take_buffers(r, chain->iov, chain->num_out, HEADER, length);
	else
		take_buffers(r, chain->iov + chain->num_out, chain->num_in, 0, length);
	if (may_be_hole(r) && is_zero(r))
		make_hole(r);
	else if (needs_bounce(r))
		enter_bounced(r);
	else
		enter_transfers(r);
}

/* DISCARD, WRITE_ZEROES and SECURE_ERASE. */

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

/* -EOPNOTSUPP of one way to zero: true when there is another, which is taken from now on. */
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
		if (!hold(r, result, enter_ranges))
			blk_request_finish(r, status_of(result));
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
		lane_append(&q->ranges, r);
	else
		carried_out(r);
}

static void ranged(struct blk_req *io, int64_t result)
{
	struct blk_request *r = container_of(io, struct blk_request, io), *rider, *next;
	struct blk_queue *q = r->queue;
	uint64_t bytes = io->op == BLK_WRITE ? (uint64_t)result : MIN(io->length, range_left(r));

	if (retried(r, result))
		return;
	if (io->op == BLK_WRITE && result == 0)
		result = -EIO;
	if (result == -EOPNOTSUPP && another_way(q, io->op)) {
		result = 0;
		bytes = 0;
	}
	for (rider = r->riders; rider; rider = next) {
		next = rider->next;
		range_advance(rider, range_left(rider), result);
	}
	range_advance(r, bytes, result);
	if (!q->blk->image->device)
		blk_space_sample(q->blk);
	lane_leave(&q->ranges, 1);
	if (!q->ranges.at_work) {
		q->ranges_at_work = false;
		blk_space_end(q->blk);
	}
}

/* Discards that wait and go on where this one ends come along, as far as `limit`. */
static void take_riders(struct blk_request *r, uint64_t limit)
{
	struct blk_lane *lane = &r->queue->ranges;
	struct blk_request *next;

	while ((next = lane->first) && next->type == VIRTIO_BLK_T_DISCARD &&
	       range_start(next) == r->io.offset + r->io.length &&
	       range_left(next) <= limit - range_start(next)) {
		lane_take(lane);
		r->io.length += range_left(next);
		next->next = r->riders;
		r->riders = next;
	}
}

/*
 * Whether the guest reads: it did since the queue's last step, or within some steps before. Then
 * steps are short and go one after the other, for a read that comes meanwhile waits for what is at
 * work.
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

	/* Closed at reset it stays. */
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

/* Whether the step moves bytes: a block device that is told of zeros may write them. */
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
		wait = blk_rate_wait_step(&q->blk->rate, step_writes(r), now_ns());
	if (!wait)
		return true;
	q->ranges.waits = true;
	lane_prepend(&q->ranges, r);
	blk_wait_for_limits(q, wait);
	return false;
}

void blk_ranges_go_on(struct blk_queue *q)
{
	q->ranges.waits = false;
	lane_run(&q->ranges);
}

static uint32_t range_step(struct blk_request *r)
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
	r->riders = NULL;
	r->io.aside = r->queue->short_steps > 0;
	if (op == BLK_DISCARD)
		take_riders(r, limit);
	else if (op == BLK_WRITE)
		use_piece(r, zeros, r->io.length);
	if (step_is_limited(r))
		blk_rate_charge_step(&r->queue->blk->rate, r->io.length, step_writes(r), now_ns());
	submit(r, ranged);
	return 1;
}

/* Copies the ranges of the request and checks them all, each for itself; the status to end with, or
 * OK. A flag that is not known counts before all else (section 5.2.6.2). */
static uint8_t take_ranges(struct blk_request *r, const struct virtq_chain *chain)
{
	const struct blk_queue *q = r->queue;
	uint32_t bytes = chain->out_bytes - HEADER, size = sizeof(r->buffers->range);
	uint32_t flags =
		r->type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	/* Zeros of any length can be written. */
	uint32_t unit = flags ? 1 : q->blk->image->device_block >> BLK_SECTOR_SHIFT;
	uint32_t n = bytes / size;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (!bytes || bytes % size)
		return VIRTIO_BLK_S_IOERR;
	if (n > BLK_MAX_RANGES)
		return VIRTIO_BLK_S_UNSUPP;
	r->buffers = buffers_for(r, n);
	iov_read(chain->iov, chain->num_out, HEADER, r->buffers, bytes);
	for (uint32_t i = 0; i < n; i++) {
		struct virtio_blk_discard_write_zeroes *range = &r->buffers[i].range;

		range->sector = le64toh(range->sector);
		range->num_sectors = le32toh(range->num_sectors);
		range->flags = le32toh(range->flags);
		if (range->flags & ~flags)
			return VIRTIO_BLK_S_UNSUPP;
		if (range->num_sectors > BLK_MAX_RANGE_SECTORS ||
		    !in_capacity(q, range->sector, range->num_sectors))
			status = VIRTIO_BLK_S_IOERR;
		if ((range->sector | range->num_sectors) % unit)
			return VIRTIO_BLK_S_UNSUPP;
		/* An empty one is no work: what is kept are the others. */
		if (range->num_sectors)
			r->buffers[r->num++].range = *range;
	}
	return status;
}

static void change_ranges(struct blk_request *r, const struct virtq_chain *chain, unsigned feature)
{
	const struct blk_device *blk = r->queue->blk;
	uint8_t status = take_ranges(r, chain);

	if (status != VIRTIO_BLK_S_UNSUPP && blk->image->readonly)
		status = VIRTIO_BLK_S_IOERR;
	else if (!virtio_has(&blk->dev, feature))
		status = VIRTIO_BLK_S_UNSUPP;
	r->stable = r->type != VIRTIO_BLK_T_DISCARD && must_be_stable(r);
	if (status == VIRTIO_BLK_S_OK && r->num)
		enter_ranges(r);
	else
		blk_request_finish(r, status);
}

static void get_id(struct blk_request *r, const struct virtq_chain *chain)
{
	const char *serial = r->queue->blk->serial;
	size_t room = MIN((size_t)chain->in_bytes - 1, BLK_SERIAL_LEN);

	r->moved = iov_write(chain->iov + chain->num_out, chain->num_in, 0, serial, room);
	blk_request_finish(r, VIRTIO_BLK_S_OK);
}

static void dispatch(struct blk_request *r, const struct virtq_chain *chain, uint64_t sector)
{
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		read_or_write(r, chain, sector);
		break;
	case VIRTIO_BLK_T_FLUSH:
		flush(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(r, chain);
		break;
	case VIRTIO_BLK_T_DISCARD:
		change_ranges(r, chain, VIRTIO_BLK_F_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		change_ranges(r, chain, VIRTIO_BLK_F_WRITE_ZEROES);
		break;
	case VIRTIO_BLK_T_SECURE_ERASE:
		change_ranges(r, chain, VIRTIO_BLK_F_SECURE_ERASE);
		break;
	default:
		blk_request_finish(r, VIRTIO_BLK_S_UNSUPP);
		break;
	}
}

int blk_request_start(struct blk_queue *q, const struct virtq_chain *chain, const char **why)
{
	struct blk_request *r = &q->memory->request[chain->head];
	struct virtio_blk_outhdr header;
	const struct iovec *last;

	if (!chain->in_bytes) {
		*why = "request without a status byte";
		return -EBADMSG;
	}
	last = &chain->iov[chain->num_out + chain->num_in - 1];
	r->queue = q;
	r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	r->head = chain->head;
	r->in_bytes = chain->in_bytes;
	r->type = UINT32_MAX;
	r->moved = 0;
	r->num = 0;
	r->current = 0;
	r->retries = 0;
	r->hole = r->held = false;
	if (iov_read(chain->iov, chain->num_out, 0, &header, HEADER) < HEADER) {
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
		*why = "request without a whole header";
		return -EBADMSG;
	}
	r->type = le32toh(header.type);
	dispatch(r, chain, le64toh(header.sector));
	return 0;
}

void blk_requests_reset(struct blk_queue *q)
{
	lane_reset(&q->transfers, BLK_IN_FLIGHT, move);
	lane_reset(&q->ranges, BLK_MAX_RANGES_AT_WORK, range_step);
	lane_reset(&q->bounced, BLK_MAX_BOUNCES, bounce_step);
	lane_reset(&q->held, 0, NULL);
	lane_reset(&q->flushes, 0, NULL);
	q->bounces = 0;
	if (q->num_held) {
		q->num_held = 0;
		holds_none(q);
	}
	q->held_ns = HELD_MIN_NS;
}
