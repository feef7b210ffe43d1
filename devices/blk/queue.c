// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk's virtqueue at work: kicks, turns of the loop, start and stop.
 *
 * DOC: Theory of operation. A kick pops and submits everything that is available; completions push
 * used entries; the hook at the end of the loop's turn publishes them with at most one interrupt,
 * so everything is a batch. With the sync engine the hook also carries out the requests, for a
 * slice of time per turn; discards, which may take long, have a thread of their own. With `poll`
 * the hook then looks at the virtqueue again, turn after turn without waiting, until there has been
 * no work for a while; kicks are off until then.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "engines.h"
#include "flush.h"
#include "lane.h"
#include "queue.h"
#include "ranges.h"
#include "space.h"
#include "start.h"
#include "transfer.h"

/* The sync engine works this long before it lets the loop look at its other descriptors, and
 * shows the guest what is done. */
#define SYNC_SLICE_NS 50000u

/* False when the disk's limits keep requests waiting in the virtqueue. */
static bool may_start(struct blk_queue *q)
{
	uint64_t wait = q->blk->rate.limited ? rate_wait(&q->blk->rate, now_ns()) : 0;

	q->limited = wait != 0;
	if (wait)
		rate_timer_set(&q->rate_timer, wait);
	return !wait;
}

static void charge(struct blk_queue *q, const struct virtq_chain *chain)
{
	uint64_t bytes = (uint64_t)chain->in_bytes + chain->out_bytes;
	uint64_t frame = sizeof(struct virtio_blk_outhdr) + 1;

	if (q->blk->rate.limited)
		rate_charge(&q->blk->rate, bytes - MIN(bytes, frame), now_ns());
}

void blk_kick(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &blk_of(dev)->queue[index];
	struct virtq *vq = &q->vq->vq;
	struct virtq_chain chain = {.iov = q->memory->scratch, .max_iov = VIRTQ_MAX_SIZE};
	unsigned budget = BLK_KICK_BUDGET, transfers = BLK_KICK_TRANSFERS;
	const char *why = "";

	if (q->stopping)
		return;
	q->kick_again = q->limited = false;
	if (q->ranges.waits)
		blk_ranges_go_on(q);
	do {
		int r = 0;

		virtq_disable_kicks(vq);
		while (budget && transfers) {
			/* Kicks stay off: the timer looks again. */
			if (!may_start(q))
				return;
			r = virtq_pop(vq, &chain, &why);
			if (r <= 0)
				break;
			budget--;
			transfers -= MAX(chain.in_bytes, chain.out_bytes) > BLK_SECTOR;
			q->worked = true;
			charge(q, &chain);
			r = blk_request_start(q, &chain, &why);
			if (r < 0)
				break;
		}
		if (r < 0) {
			virtio_dev_fail(dev, "queue %u: %s", index, why);
			return;
		}
		if (!budget || !transfers) {
			q->kick_again = true;
			return;
		}
		/* Its poll comes at the end of the turn. */
		q->kicks_off = q->poll.window != 0;
	} while (q->kicks_off ? virtq_available(vq) : virtq_enable_kicks(vq));
}

static void waited(struct loop_timer *t)
{
	struct blk_queue *q = container_of(t, struct blk_queue, rate_timer.timer);

	q->rate_timer.due = 0;
	if (virtio_queue_active(&q->blk->dev, q->vq->index))
		blk_kick(&q->blk->dev, q->vq->index);
}

/* True when there is more. */
static bool commit(struct blk_queue *q)
{
	uint64_t start = 0;

	while (q->engine->ops->commit(q->engine)) {
		uint64_t now = now_ns();

		if (!start)
			start = now;
		if (now - start >= SYNC_SLICE_NS)
			return true;
	}
	return false;
}

/* Looks for work instead of waiting for it: true as long as it should go on looking. */
static bool poll_queue(struct blk_queue *q)
{
	struct virtq *vq = &q->vq->vq;
	uint64_t now;

	if (!q->poll.max || q->limited)
		return false;
	now = now_ns();
	if (q->worked)
		blk_poll_worked(&q->poll, now);
	q->worked = false;
	if (blk_poll_lasts(&q->poll, now)) {
		if (!q->kicks_off)
			virtq_disable_kicks(vq);
		q->kicks_off = true;
		q->kick_again = virtq_available(vq);
		return true;
	}
	if (q->kicks_off)
		q->kick_again = virtq_enable_kicks(vq);
	q->kicks_off = false;
	return q->kick_again;
}

static bool turn_ends(struct loop_hook *hook)
{
	struct blk_queue *q = container_of(hook, struct blk_queue, hook);
	bool more = false;

	if (q->kick_again && virtio_queue_active(&q->blk->dev, q->vq->index))
		blk_kick(&q->blk->dev, q->vq->index);
	blk_flush_look(q);
	if (q->engine->ops->commit) {
		more = commit(q);
		more = blk_flush_look(q) || more;
	}
	if (q->pushed) {
		q->pushed = false;
		q->worked = true;
		virtio_queue_publish(&q->blk->dev, q->vq->index);
	}
	if (q->stopping || !virtio_queue_active(&q->blk->dev, q->vq->index))
		return more;
	return more || q->kick_again || poll_queue(q);
}

static void reset_lane(struct blk_lane *lane, uint64_t max, uint32_t (*step)(struct blk_request *r))
{
	*lane = (struct blk_lane){.max = max, .step = step};
}

/* The queue is idle, with empty lanes. */
static void reset_requests(struct blk_queue *q)
{
	reset_lane(&q->transfers, BLK_IN_FLIGHT, blk_transfer_step);
	reset_lane(&q->ranges, BLK_MAX_RANGES_AT_WORK, blk_range_step);
	reset_lane(&q->bounced, BLK_MAX_BOUNCES, blk_bounce_step);
	q->unsynced = q->flushes = (struct fifo){0};
	q->bounces = 0;
	blk_held_reset(q);
}

void blk_start_queue(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &blk_of(dev)->queue[index];

	q->stopping = q->pushed = q->worked = false;
	q->kick_again = q->kicks_off = q->limited = false;
	q->poll.window = 0;
	reset_requests(q);
}

void blk_stop_queue(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &blk_of(dev)->queue[index];

	q->stopping = true;
	q->transfers.max = q->ranges.max = q->bounced.max = 0;
	rate_timer_set(&q->rate_timer, 0);
	if (q->blk->wait_for_space)
		loop_timer_set(&q->held_timer, 0);
	q->engine->ops->drain(q->engine);
	reset_requests(q);
}

/* Registers guest memory with the ring, so that the kernel looks up no pages for a request. */
static int pin_memory(const struct blk_queue *q, struct error *e)
{
	const struct gmem *mem = q->blk->dev.mem;
	struct iovec ranges[ARRAY_SIZE(mem->region)];

	if (!loop_is_uring(q->vq->loop)) {
		if (q == q->blk->queue)
			log_warn("disk %s: pin has no effect without io_uring",
				 q->blk->image->path);
		return 0;
	}
	static_assert(ARRAY_SIZE(ranges) <= LOOP_MAX_RANGES, "regions of guest memory");
	for (unsigned i = 0; i < mem->num_regions; i++)
		ranges[i] = (struct iovec){mem->region[i].host, mem->region[i].size};
	return loop_register_memory(q->vq->loop, ranges, mem->num_regions, e);
}

static void try_held(struct loop_timer *t)
{
	blk_held_retry(container_of(t, struct blk_queue, held_timer));
}

int blk_queue_init(struct blk_device *blk, unsigned index, struct loop *loop,
		   const struct disk_config *config, struct error *e)
{
	struct blk_queue *q = &blk->queue[index];
	void *memory = mmap(NULL, sizeof(*q->memory), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r;

	if (memory == MAP_FAILED)
		return error_set(e, -ENOMEM, "out of memory for the disk's requests");
	q->memory = memory;
	/* It is meant to be sparse. */
	madvise(memory, sizeof(*q->memory), MADV_NOHUGEPAGE);
	q->blk = blk;
	q->vq = &blk->dev.queue[index];
	q->vq->loop = loop;
	q->poll.max = config->poll_ns;
	q->hook.fn = turn_ends;
	q->rate_timer.timer.watch.fd = q->held_timer.watch.fd = -1;
	reset_requests(q);
	r = loop_timer_init(loop, &q->rate_timer.timer, waited);
	if (r >= 0 && blk->wait_for_space)
		r = loop_timer_init(loop, &q->held_timer, try_held);
	if (r < 0)
		return error_set(e, r, "cannot make a timer: %s", strerror(-r));
	r = blk_engine_open(&q->engine, blk->image, config->engine, loop, blk->worker, e);
	return r >= 0 && config->pin ? pin_memory(q, e) : r;
}

void blk_queue_close(struct blk_queue *q)
{
	if (!q->blk)
		return;
	if (q->engine)
		q->engine->ops->close(q->engine);
	loop_timer_close(&q->held_timer);
	loop_timer_close(&q->rate_timer.timer);
	munmap(q->memory, sizeof(*q->memory));
}
