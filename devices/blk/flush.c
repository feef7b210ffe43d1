// SPDX-License-Identifier: BSD-2-Clause
/*
 * Stable storage: FLUSH, and writes while the disk is write-through (virtio 1.3, section 5.2.6.2).
 *
 * DOC: Theory of operation. The kernel reports lost data once per open file, to the first sync
 * after the loss; later ones succeed. All queues of a disk share the file, so they share the
 * result: one fdatasync is at work at a time, on whichever queue, and it counts for all requests
 * that came before it began. Those that come meanwhile wait for the next one together: a group
 * commit, which is also cheaper.
 *
 * Each sync has a number. At the end of a turn of its loop, a queue has its new requests wait for the
 * one that begins next (`flush_number`), and begins it if none is at work. When it is done the
 * other queues that wait are woken by their kicks.
 *
 * A failed sync may have lost any data written since the one before, and the kernel considers those
 * pages clean now: only the guest can write them again. So from then on nothing is stable until the
 * driver resets the device.
 *
 * Reset does not wait for a sync, which may take minutes and does not touch guest memory. That sync
 * goes on, and the next one waits for it.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "flush.h"
#include "request.h"

static void wake(struct blk_device *blk, uint64_t queues)
{
	for (; queues; queues &= queues - 1)
		virtio_queue_kick_later(&blk->dev, (unsigned)__builtin_ctzll(queues));
}

/* True when this is the first that failed. */
static bool note_result(struct blk_flush *f, int64_t result, uint64_t *waiting)
{
	bool first = false;

	pthread_mutex_lock(&f->lock);
	f->at_work = false;
	if (result >= 0) {
		f->done = f->begun;
	} else if (result != -ECANCELED && !f->error) {
		f->error = (int)result;
		first = true;
	}
	*waiting = f->waiting;
	pthread_mutex_unlock(&f->lock);
	return first;
}

static void synced(struct blk_req *io, int64_t result)
{
	struct blk_queue *q = container_of(io, struct blk_queue, sync);
	uint64_t waiting;

	if (result == -EAGAIN || result == -EINTR) {
		if (!q->stopping && q->sync_retries++ < BLK_MAX_RETRIES) {
			q->engine->ops->submit(q->engine, io);
			return;
		}
		if (q->stopping)
			result = -ECANCELED;
	}
	if (note_result(&q->blk->flush, result, &waiting))
		log_guest("disk %s: the host lost data that was written to it (%s): no FLUSH and "
			  "no write-through write succeeds until the guest resets the disk; see "
			  "the host's kernel log",
			  q->blk->image->path, strerror((int)-result));
	wake(q->blk, waiting & ~(1ull << q->vq->index));
}

static void begin(struct blk_queue *q)
{
	q->sync_retries = 0;
	q->sync = (struct blk_req){.op = BLK_FLUSH, .done = synced};
	q->engine->ops->submit(q->engine, &q->sync);
}

bool blk_flush_look(struct blk_queue *q)
{
	struct blk_flush *f = &q->blk->flush;
	uint64_t bit = 1ull << q->vq->index, done;
	struct blk_request *r;
	bool waits, begins;
	int error;

	if ((!q->unsynced.first && !q->flushes.first) || q->stopping)
		return false;
	pthread_mutex_lock(&f->lock);
	while ((r = fifo_take(&q->unsynced, struct blk_request, link))) {
		r->flush_number = q->flush_number = f->begun + 1;
		fifo_append(&q->flushes, &r->link);
	}
	error = f->error;
	done = error ? UINT64_MAX : f->done;
	waits = q->flush_number > done;
	begins = waits && !f->at_work;
	if (begins) {
		f->at_work = true;
		f->begun++;
	}
	f->waiting = waits ? f->waiting | bit : f->waiting & ~bit;
	pthread_mutex_unlock(&f->lock);
	while ((r = fifo_first(&q->flushes, struct blk_request, link)) && r->flush_number <= done) {
		fifo_take_link(&q->flushes);
		blk_request_finish(r, error ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	}
	if (begins)
		begin(q);
	return begins;
}

void blk_flush_forget(struct blk_device *blk)
{
	pthread_mutex_lock(&blk->flush.lock);
	blk->flush.error = 0;
	blk->flush.waiting = 0;
	pthread_mutex_unlock(&blk->flush.lock);
}
