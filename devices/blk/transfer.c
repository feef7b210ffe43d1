// SPDX-License-Identifier: BSD-2-Clause
/*
 * IN and OUT, in pieces; those whose buffers O_DIRECT does not take go through bounce buffers.
 */
#include <assert.h>
#include <errno.h>

#include "lane.h"
#include "request.h"
#include "space.h"
#include "transfer.h"

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

/* What was read is copied out of the bounce buffer, which others can have now. */
static void leave_bounce(struct blk_request *r, int64_t result)
{
	struct blk_queue *q = r->queue;

	if (result > 0 && r->type == VIRTIO_BLK_T_IN && !q->stopping)
		iov_write(&r->buffers->iov, r->num, 0, r->io.iov->iov_base, (size_t)result);
	q->bounces &= ~(1u << r->bounce);
}

static void transfer_done(struct blk_req *io, int64_t result)
{
	struct blk_request *r = container_of(io, struct blk_request, io);
	struct blk_lane *lane = r->lane;
	uint32_t share = r->share;

	if (blk_request_retried(r, result))
		return;
	if (lane == &r->queue->bounced)
		leave_bounce(r, result);
	if (result > 0 && (uint64_t)result <= io->length) {
		r->moved += (uint64_t)result;
		skip(r, (uint64_t)result);
		if (r->moved == r->length)
			blk_request_finish(r, VIRTIO_BLK_S_OK);
		else
			blk_lane_append(lane, r);
	} else if (!blk_hold(r, result)) {
		/* Nothing moved: the file is shorter than when it was opened. */
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
	}
	blk_lane_leave(lane, share);
}

/* As many of the buffers as make a piece, or a part of the first. */
uint32_t blk_transfer_step(struct blk_request *r)
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
	r->io.done = transfer_done;
	if (!n)
		blk_use_piece(r, iov->iov_base, BLK_PIECE);
	return (uint32_t)r->io.length;
}

uint32_t blk_bounce_step(struct blk_request *r)
{
	struct blk_queue *q = r->queue;
	unsigned slot = (unsigned)__builtin_ctz(~q->bounces);

	q->bounces |= 1u << slot;
	r->bounce = (uint8_t)slot;
	r->io.offset = r->offset + r->moved;
	blk_use_piece(r, q->memory->bounce[slot], MIN(r->length - r->moved, BLK_BOUNCE_SIZE));
	if (r->type == VIRTIO_BLK_T_OUT)
		iov_read(&r->buffers->iov, r->num, 0, q->memory->bounce[slot],
			 (size_t)r->io.length);
	r->io.done = transfer_done;
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

/* Copies those of the `n` buffers that hold `length` bytes from `offset` on. */
static void take_buffers(struct blk_request *r, const struct iovec *iov, unsigned n, size_t offset,
			 size_t length)
{
	r->buffers = blk_buffers_for(r, n);
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

/* Only whole units: less would save nothing, and the file system would rewrite the ends. And no
 * gigabytes are looked at in one go. */
static bool may_be_hole(const struct blk_request *r)
{
	const struct blk_queue *q = r->queue;
	uint32_t unit = q->blk->image->granularity;

	return q->blk->detect_zeroes && !q->no_punch && r->type == VIRTIO_BLK_T_OUT &&
	       r->length <= BLK_IN_FLIGHT && r->offset % unit == 0 && r->length % unit == 0;
}

/* What the guest writes meanwhile comes too late: each byte was zero when it was read. */
static bool holds_zeros(const struct blk_request *r)
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
}

void blk_transfer_start(struct blk_request *r, const struct virtq_chain *chain, uint64_t sector)
{
	struct blk_queue *q = r->queue;
	const struct blk_image *image = q->blk->image;
	struct blk_lane *lane;
	bool out = r->type == VIRTIO_BLK_T_OUT;
	uint32_t length = out ? chain->out_bytes - BLK_HEADER : chain->in_bytes - 1;

	r->offset = sector << BLK_SECTOR_SHIFT;
	r->length = length;
	/* O_DIRECT takes whole blocks; the guest knows from blk_size. */
	if ((out && image->readonly) || length % BLK_SECTOR ||
	    !blk_in_capacity(q, sector, length >> BLK_SECTOR_SHIFT) ||
	    (image->direct && (r->offset | length) % image->logical_block)) {
		blk_request_finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!length) {
		blk_request_finish(r, VIRTIO_BLK_S_OK);
		return;
	}
	r->io.op = out ? BLK_WRITE : BLK_READ;
	r->stable = out && blk_must_be_stable(q);
	if (out)
		take_buffers(r, chain->iov, chain->num_out, BLK_HEADER, length);
	else
		take_buffers(r, chain->iov + chain->num_out, chain->num_in, 0, length);
	lane = needs_bounce(r) ? &q->bounced : &q->transfers;
	if (may_be_hole(r) && holds_zeros(r)) {
		make_hole(r);
		lane = &q->ranges;
	}
	blk_lane_append(lane, r);
	blk_lane_run(lane);
}
