// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests of virtio-blk (virtio 1.3, section 5.2.6), from descriptor chain to status byte.
 *
 * DOC: Theory of operation. What a chain says is copied and judged whole before anything is
 * submitted. How its buffers are cut into descriptors means nothing: the header is the first 16
 * device-readable bytes, the status is the last device-writable one.
 *
 * A request has at most one operation in flight, in its `io`, and takes turns in a lane:
 *
 *	IN, OUT               transfer.c, directly or by bounce buffer
 *	  OUT of zeros        with detect-zeroes=unmap, like a WRITE_ZEROES that may unmap
 *	DISCARD, WRITE_ZEROES,
 *	SECURE_ERASE          ranges.c
 *
 * A turn is: step() prepares the operation, blk_lane_run() submits it, and when it is done the
 * request goes to the end of its lane or is finished. What has to be stable waits for a sync first,
 * as a FLUSH does: flush.c. What finds no space on the host waits for that: space.c.
 *
 * Lanes limit how many requests are at work in them, or how many bytes. A large transfer goes in
 * pieces, a range in steps, between which others have their turn; so what discards hold up is
 * bounded by a few steps.
 *
 * At reset (`stopping`, and the lanes are closed) no further operation is submitted, and nothing is
 * written to the guest.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "device.h"

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

/* The used length counts bytes from the start of the device-writable part (section 2.7.8.2): the
 * data, and the status only if all of the data was written. */
static uint32_t used_length(const struct blk_request *r)
{
	bool in = r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID;
	uint32_t data = in ? (uint32_t)r->moved : 0;

	return data == r->in_bytes - 1 ? r->in_bytes : data;
}

void blk_request_finish(struct blk_request *r, uint8_t status)
{
	struct blk_queue *q = r->queue;

	if (r->stable && status == VIRTIO_BLK_S_OK) {
		r->stable = false;
		blk_flush_enter(r);
		return;
	}
	if (r->held)
		blk_hold_ends(r);
	if (q->stopping)
		return;
	*(volatile uint8_t *)r->status = status;
	virtq_push(&q->vq->vq, r->head, used_length(r));
	q->pushed = true;
	account(r, status);
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

/* The guest only sees an I/O error: the log gets the first of each kind. */
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

	/* Not what can be done in another way, nor what is held. */
	if (result == -EOPNOTSUPP || r->queue->stopping ||
	    ((result == -ENOSPC || result == -EDQUOT) && blk->wait_for_space) ||
	    atomic_fetch_or(&blk->told[code / 64], bit) & bit)
		return;
	log_warn("disk %s: %s failed on the host: %s%s", blk->image->path, name[r->io.op],
		 strerror((int)-result), remedy(result));
}

bool blk_request_retried(struct blk_request *r, int64_t result)
{
	struct blk_queue *q = r->queue;

	if (result >= 0)
		return false;
	if ((result == -EAGAIN || result == -EINTR) && !q->stopping &&
	    r->retries++ < BLK_MAX_RETRIES) {
		q->engine->ops->submit(q->engine, &r->io);
		return true;
	}
	tell_failure(r, result);
	return false;
}

void blk_lane_run(struct blk_lane *lane)
{
	struct blk_request *r;

	while (lane->at_work < lane->max && !lane->waits &&
	       (r = fifo_take(&lane->waiting, struct blk_request, link))) {
		struct blk_engine *engine = r->queue->engine;

		r->share = lane->step(r);
		if (!r->share)
			break;
		lane->at_work += r->share;
		engine->ops->submit(engine, &r->io);
	}
}

bool blk_must_be_stable(const struct blk_queue *q)
{
	return atomic_load(&q->blk->writethrough) && !q->blk->image->unsafe;
}

union blk_buffers *blk_buffers_for(struct blk_request *r, unsigned n)
{
	return n <= BLK_SMALL ? r->small : r->queue->memory->slot[r->head];
}

void blk_use_piece(struct blk_request *r, void *buffer, uint64_t bytes)
{
	r->piece = (struct iovec){buffer, (size_t)bytes};
	r->io.iov = &r->piece;
	r->io.num_iov = 1;
	r->io.length = bytes;
}

bool blk_in_capacity(const struct blk_queue *q, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = q->blk->sectors;

	return sector <= capacity && sectors <= capacity - sector;
}

static void flush(struct blk_request *r)
{
	const struct blk_image *image = r->queue->blk->image;

	r->stable = !image->readonly && !image->unsafe;
	blk_request_finish(r, VIRTIO_BLK_S_OK);
}

static void get_id(struct blk_request *r, const struct virtq_chain *chain)
{
	const char *serial = r->queue->blk->serial;
	size_t room = MIN((size_t)chain->in_bytes - 1, BLK_SERIAL_LEN);

	r->moved = iov_write(chain->iov + chain->num_out, chain->num_in, 0, serial, room);
	blk_request_finish(r, VIRTIO_BLK_S_OK);
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
	r->moved = r->num = 0;
	r->current = r->retries = 0;
	r->hole = r->held = r->stable = false;
	if (iov_read(chain->iov, chain->num_out, 0, &header, BLK_HEADER) < BLK_HEADER) {
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
		*why = "request without a whole header";
		return -EBADMSG;
	}
	r->type = le32toh(header.type);
	if (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_OUT)
		blk_transfer_start(r, chain, le64toh(header.sector));
	else if (r->type == VIRTIO_BLK_T_FLUSH)
		flush(r);
	else if (r->type == VIRTIO_BLK_T_GET_ID)
		get_id(r, chain);
	else if (r->type == VIRTIO_BLK_T_DISCARD || r->type == VIRTIO_BLK_T_WRITE_ZEROES ||
		 r->type == VIRTIO_BLK_T_SECURE_ERASE)
		blk_ranges_start(r, chain);
	else
		blk_request_finish(r, VIRTIO_BLK_S_UNSUPP);
	return 0;
}

static void reset_lane(struct blk_lane *lane, uint64_t max, uint32_t (*step)(struct blk_request *r))
{
	*lane = (struct blk_lane){.max = max, .step = step};
}

void blk_requests_reset(struct blk_queue *q)
{
	reset_lane(&q->transfers, BLK_IN_FLIGHT, blk_transfer_step);
	reset_lane(&q->ranges, BLK_MAX_RANGES_AT_WORK, blk_range_step);
	reset_lane(&q->bounced, BLK_MAX_BOUNCES, blk_bounce_step);
	q->flushes = (struct fifo){0};
	q->bounces = 0;
	blk_held_reset(q);
}
