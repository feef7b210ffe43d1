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

#include "ranges.h"
#include "request.h"
#include "start.h"
#include "transfer.h"

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
