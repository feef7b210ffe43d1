// SPDX-License-Identifier: BSD-2-Clause
/* What requests share, and how they end. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "request.h"
#include "space.h"

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
		fifo_append(&q->unsynced, &r->link);
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
