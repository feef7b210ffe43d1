// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Four queues, all on one loop: inflate and deflate take arrays of page
 * numbers, the statistics queue holds a buffer until somebody wants to know, and the reporting queue
 * takes ranges of free memory. What is given is discarded (gmem_discard()); the guest gets fresh
 * zeroed pages when it writes there again, so deflation needs nothing.
 *
 * The work is bounded: a turn discards some megabytes, and a chain that has more is gone on with in
 * the next one. A driver that repeats ranges without end slows nobody down but itself.
 *
 * A driver that fills free pages with a pattern of its own (page poisoning) and relies on it gets
 * its reports taken and ignored: what is discarded reads as zeros.
 *
 * Free page hinting is not offered: Linux may take a hinted page into use again before the device
 * has seen the hint, which is right for migration and wrong for discarding.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "balloon.h"
#include "base/util.h"

#define PAGE	    ((uint64_t)1 << VIRTIO_BALLOON_PFN_SHIFT)
#define QUEUE_SIZE  64u
#define TURN_BYTES  (64 * MIB) /* discarded in one go, before others have their turn */
#define TURN_PAGES  4096u      /* page numbers */
#define TURN_CHAINS QUEUE_SIZE
#define MAX_STATS   (4u * VIRTIO_BALLOON_S_NR) /* that a buffer may have */
#define NO_HEAD	    UINT32_MAX

#define NUM_QUEUES 5u

enum role { INFLATE, DEFLATE, STATS, REPORTING };

struct balloon {
	struct virtio_dev dev;
	struct iovec iov[VIRTQ_MAX_SIZE];

	/* The chain that a queue is at work on, from a byte of one of its buffers on. */
	struct work {
		struct virtq_chain chain;
		struct iovec iov[VIRTQ_MAX_SIZE];
		unsigned at;
		size_t offset;
		bool busy;
	} work[NUM_QUEUES];

	bool pinned;
	uint32_t stats_head; /* of the buffer that waits for a question; NO_HEAD: none */
	bool ask;	     /* as soon as there is one */
	uint64_t stats_ns;
	struct loop_timer stats_timer;
	_Atomic int64_t stat[VIRTIO_BALLOON_S_NR];
	_Atomic uint64_t stats_time;

	_Atomic uint32_t target, actual; /* pages, as in the configuration */
	_Atomic uint32_t poison;
	_Atomic int64_t inflated, reported, returned;
};

static struct balloon *to_balloon(const struct virtio_dev *dev)
{
	return container_of(dev, struct balloon, dev);
}

/*
 * The specification numbers the queue of reports 4, Linux (mmio) only those queues that it uses: 3,
 * or 2 without statistics. Both get what they mean.
 */
static enum role role_of(const struct balloon *b, unsigned q)
{
	if (q < 2)
		return q == 0 ? INFLATE : DEFLATE;
	return q == 2 && virtio_has(&b->dev, VIRTIO_BALLOON_F_STATS_VQ) ? STATS : REPORTING;
}

/* Discards what is there in whole pages. */
static void give_back(struct balloon *b, void *host, size_t len)
{
	int64_t n = b->pinned ? 0 : gmem_discard(host, len);

	if (n > 0)
		b->returned += n;
}

/* Free memory: a range at a time. Returns how much of the turn's bytes it took. */
static size_t report_some(struct balloon *b, struct work *w, size_t max)
{
	const struct iovec *v = &w->chain.iov[w->at];
	size_t n = MIN(v->iov_len - w->offset, max);

	b->reported += (int64_t)n;
	if (!b->poison)
		give_back(b, (uint8_t *)v->iov_base + w->offset, n);
	w->offset += n;
	return n;
}

/* A run of pages whose numbers follow one another, upwards or downwards. */
struct run {
	uint64_t first, last; /* page numbers; of no page: first > last */
};

static void end_run(struct balloon *b, struct run *run)
{
	void *host;
	size_t len = (run->last - run->first + 1) * PAGE;

	if (run->first <= run->last &&
	    gmem_slice(b->dev.mem, GPA(run->first * PAGE), len, &host) == 0)
		give_back(b, host, len);
	*run = (struct run){1, 0};
}

static void add_to_run(struct balloon *b, struct run *run, uint32_t pfn)
{
	if (run->first <= run->last && pfn == run->last + 1) {
		run->last = pfn;
	} else if (run->first <= run->last && pfn + 1ull == run->first) {
		run->first = pfn;
	} else {
		end_run(b, run);
		*run = (struct run){pfn, pfn};
	}
}

/* Page numbers, up to `max` of them; how many. */
static size_t inflate_some(struct balloon *b, struct work *w, size_t max)
{
	const struct iovec *v = &w->chain.iov[w->at];
	struct run run = {1, 0};
	size_t n = 0;
	void *page;

	for (; n < max && v->iov_len - w->offset >= sizeof(uint32_t); n++) {
		uint32_t le;

		memcpy(&le, (const uint8_t *)v->iov_base + w->offset, sizeof(le));
		w->offset += sizeof(le);
		/* What is not RAM is no page of the guest's: nothing to give back. */
		if (gmem_slice(b->dev.mem, GPA(le32toh(le) * PAGE), PAGE, &page) < 0)
			continue;
		b->inflated += (int64_t)PAGE;
		add_to_run(b, &run, le32toh(le));
	}
	end_run(b, &run);
	if (v->iov_len - w->offset < sizeof(uint32_t))
		w->offset = v->iov_len;
	return n;
}

/* Goes on with the chain. False when the turn is over before it. */
static bool go_on(struct balloon *b, struct work *w,
		  size_t (*some)(struct balloon *b, struct work *w, size_t max), size_t *budget)
{
	unsigned end = w->chain.num_out + w->chain.num_in;

	while (w->at < end && *budget) {
		*budget -= some(b, w, *budget);
		if (w->offset >= w->chain.iov[w->at].iov_len) {
			w->offset = 0;
			w->at++;
		}
	}
	return w->at == end;
}

/* Inflation and reports. 1: there is more, for the next turn; 0; or -EBADMSG. */
static int work_on(struct balloon *b, unsigned q, enum role role, const char **why)
{
	struct virtq *vq = &b->dev.queue[q].vq;
	struct work *w = &b->work[q];
	size_t budget = role == INFLATE ? TURN_PAGES : TURN_BYTES;
	unsigned chains = TURN_CHAINS;
	int r;

	while (chains-- && budget) {
		if (!w->busy) {
			w->chain = (struct virtq_chain){.iov = w->iov, .max_iov = VIRTQ_MAX_SIZE};
			r = virtq_pop(vq, &w->chain, why);
			if (r <= 0)
				return r;
			w->busy = true;
			w->at = 0;
			w->offset = 0;
			*why = role == INFLATE ? "page numbers in a device-writable buffer"
					       : "free pages in a device-readable buffer";
			if (role == INFLATE ? w->chain.num_in : w->chain.num_out)
				return -EBADMSG;
		}
		if (!go_on(b, w, role == INFLATE ? inflate_some : report_some, &budget))
			return 1;
		virtq_push(vq, w->chain.head, 0);
		w->busy = false;
	}
	return 1;
}

static int deflate(struct balloon *b, unsigned q, const char **why)
{
	struct virtq *vq = &b->dev.queue[q].vq;
	struct virtq_chain chain = {.iov = b->iov, .max_iov = VIRTQ_MAX_SIZE};
	int r;

	for (unsigned i = 0; i < TURN_CHAINS; i++) {
		r = virtq_pop(vq, &chain, why);
		if (r <= 0)
			return r;
		virtq_push(vq, chain.head, 0);
	}
	return 1;
}

static void ask(struct balloon *b, unsigned q)
{
	if (b->stats_head == NO_HEAD)
		return;
	virtq_push(&b->dev.queue[q].vq, (uint16_t)b->stats_head, 0);
	b->stats_head = NO_HEAD;
	b->ask = false;
	virtio_queue_publish(&b->dev, q);
}

static void take_stats(struct balloon *b, const struct virtq_chain *chain)
{
	struct virtio_balloon_stat s;

	for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		b->stat[i] = -1;
	for (unsigned i = 0; i < MAX_STATS; i++) {
		uint64_t value;
		uint16_t tag;

		if (iov_read(chain->iov, chain->num_out, i * sizeof(s), &s, sizeof(s)) < sizeof(s))
			break;
		tag = le16toh(s.tag);
		value = le64toh(s.val);
		if (tag < VIRTIO_BALLOON_S_NR)
			b->stat[tag] = (int64_t)MIN(value, (uint64_t)INT64_MAX);
	}
	b->stats_time = now_ns();
}

/* The driver's buffer has statistics and stays here until there is a question. */
static int statistics(struct balloon *b, unsigned q, const char **why)
{
	struct virtq_chain chain = {.iov = b->iov, .max_iov = VIRTQ_MAX_SIZE};
	int r = virtq_pop(&b->dev.queue[q].vq, &chain, why);

	if (r <= 0)
		return r;
	*why = "more than one buffer of statistics";
	if (b->stats_head != NO_HEAD)
		return -EBADMSG;
	*why = "statistics in a device-writable buffer";
	if (chain.num_in)
		return -EBADMSG;
	take_stats(b, &chain);
	b->stats_head = chain.head;
	if (b->ask)
		ask(b, q);
	return 1;
}

static int one_turn(struct virtio_dev *dev, unsigned q, const char **why)
{
	struct balloon *b = to_balloon(dev);

	switch (role_of(b, q)) {
	case DEFLATE:
		return deflate(b, q, why);
	case STATS:
		return statistics(b, q, why);
	default:
		return work_on(b, q, role_of(b, q), why);
	}
}

static void balloon_kick(struct virtio_dev *dev, unsigned q)
{
	virtio_queue_work(dev, q, one_turn);
}

void balloon_ask_for_stats(struct virtio_dev *dev)
{
	struct balloon *b = to_balloon(dev);

	b->ask = true;
	if (virtio_queue_active(dev, STATS) && role_of(b, STATS) == STATS)
		ask(b, STATS);
}

static void stats_are_due(struct loop_timer *t)
{
	struct balloon *b = container_of(t, struct balloon, stats_timer);

	balloon_ask_for_stats(&b->dev);
	loop_timer_set(t, b->stats_ns);
}

static void balloon_start_queue(struct virtio_dev *dev, unsigned q)
{
	struct balloon *b = to_balloon(dev);

	if (role_of(b, q) == STATS && b->stats_ns)
		loop_timer_set(&b->stats_timer, b->stats_ns);
}

static void balloon_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct balloon *b = to_balloon(dev);

	b->work[q].busy = false;
	if (role_of(b, q) != STATS)
		return;
	b->stats_head = NO_HEAD;
	if (b->stats_ns)
		loop_timer_set(&b->stats_timer, 0);
}

/* A chain that is half done is begun again: what it gives back, it gives back twice. */
static void balloon_give_back(struct virtio_dev *dev, unsigned q)
{
	struct balloon *b = to_balloon(dev);

	if (b->work[q].busy)
		virtq_unpop(&dev->queue[q].vq, b->work[q].chain.head);
	b->work[q].busy = false;
	if (role_of(b, q) == STATS && b->stats_head != NO_HEAD) {
		virtq_unpop(&dev->queue[q].vq, (uint16_t)b->stats_head);
		b->stats_head = NO_HEAD;
	}
}

static void balloon_features_ok(struct virtio_dev *dev)
{
	if (!virtio_has(dev, VIRTIO_BALLOON_F_REPORTING))
		dev->usable_queues = virtio_has(dev, VIRTIO_BALLOON_F_STATS_VQ) ? 3 : 2;
}

static uint32_t config_u32(const struct virtio_dev *dev, size_t offset)
{
	uint32_t le;

	memcpy(&le, dev->config + offset, sizeof(le));
	return le32toh(le);
}

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define ACTUAL	  offsetof(struct virtio_balloon_config, actual)
#define POISON	  offsetof(struct virtio_balloon_config, poison_val)

static void set_u32(struct virtio_dev *dev, uint32_t offset, uint32_t value)
{
	uint32_t le = htole32(value);

	virtio_dev_set_config_locked(dev, offset, &le, sizeof(le), false);
}

/* `actual` and `poison_val` are the driver's to write. */
static void balloon_config_write(struct virtio_dev *dev, uint32_t offset, const void *data,
				 uint32_t len)
{
	struct balloon *b = to_balloon(dev);
	uint32_t field = offset & ~3u;

	if ((field != ACTUAL && field != POISON) || offset + len > field + sizeof(uint32_t))
		return;
	virtio_dev_set_config_locked(dev, offset, data, len, false);
	b->actual = config_u32(dev, ACTUAL);
	b->poison = config_u32(dev, POISON);
}

static void balloon_reset(struct virtio_dev *dev)
{
	struct balloon *b = to_balloon(dev);

	set_u32(dev, ACTUAL, 0);
	set_u32(dev, POISON, 0);
	b->actual = b->poison = 0;
	b->stats_time = 0;
}

struct state {
	uint32_t target, actual, poison;
	uint32_t zero;
};

static int balloon_save(struct virtio_dev *dev, void *state, struct error *e)
{
	const struct balloon *b = to_balloon(dev);
	struct state s = {.target = b->target, .actual = b->actual, .poison = b->poison};

	(void)e;
	memcpy(state, &s, sizeof(s));
	return 0;
}

static int balloon_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct balloon *b = to_balloon(dev);
	uint64_t pages = gmem_size(dev->mem) / PAGE;
	struct state s;

	memcpy(&s, state, sizeof(s));
	if (s.zero || s.target >= pages)
		return error_set(e, -EINVAL, "the state's balloon is larger than memory");
	set_u32(dev, NUM_PAGES, s.target);
	set_u32(dev, ACTUAL, s.actual);
	set_u32(dev, POISON, s.poison);
	b->target = s.target;
	b->actual = s.actual;
	b->poison = s.poison;
	return 0;
}

static void balloon_destroy(struct virtio_dev *dev)
{
	struct balloon *b = to_balloon(dev);

	loop_timer_close(&b->stats_timer);
	free(b);
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.device_id = VIRTIO_ID_BALLOON,
	.features_ok = balloon_features_ok,
	.config_write = balloon_config_write,
	.start_queue = balloon_start_queue,
	.kick = balloon_kick,
	.stop_queue = balloon_stop_queue,
	.give_back = balloon_give_back,
	.state_size = sizeof(struct state),
	.save = balloon_save,
	.restore = balloon_restore,
	.reset = balloon_reset,
	.destroy = balloon_destroy,
};

bool balloon_is_pinned(const struct virtio_dev *dev)
{
	return to_balloon(dev)->pinned;
}

void balloon_set_size(struct virtio_dev *dev, uint64_t bytes)
{
	uint64_t pages = MIN(bytes, gmem_size(dev->mem) - MIB) / PAGE;
	uint32_t target = (uint32_t)MIN(pages, UINT32_MAX), le = htole32(target);

	to_balloon(dev)->target = target;
	virtio_dev_set_config(dev, NUM_PAGES, &le, sizeof(le));
}

void balloon_counters(const struct virtio_dev *dev, struct balloon_counters *ret)
{
	const struct balloon *b = to_balloon(dev);

	*ret = (struct balloon_counters){
		.size = (int64_t)(b->actual * PAGE),
		.target = (int64_t)(b->target * PAGE),
		.inflated_bytes = b->inflated,
		.reported_bytes = b->reported,
		.returned_bytes = b->returned,
	};
}

int64_t balloon_stats(const struct virtio_dev *dev, int64_t ret[VIRTIO_BALLOON_S_NR])
{
	const struct balloon *b = to_balloon(dev);
	uint64_t time = b->stats_time;

	for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		ret[i] = time ? b->stat[i] : -1;
	return time ? (int64_t)(now_ns() - time) : -1;
}

int balloon_device_new(struct virtio_dev **ret, const struct gmem *mem,
		       const struct balloon_config *config, bool pinned, struct loop *loop,
		       struct error *e)
{
	bool report = config->report && !pinned;
	struct balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return error_set(e, -ENOMEM, "virtio-balloon: out of memory");
	b->stats_timer.watch.fd = -1;
	b->stats_head = NO_HEAD;
	b->stats_ns = config->stats_ns;
	b->pinned = pinned;
	b->dev.config_len = sizeof(struct virtio_balloon_config);
	b->dev.features = 1ull << VIRTIO_BALLOON_F_STATS_VQ | 1ull << VIRTIO_BALLOON_F_PAGE_POISON;
	if (report)
		b->dev.features |= 1ull << VIRTIO_BALLOON_F_REPORTING;
	if (config->deflate_on_oom)
		b->dev.features |= 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM;
	r = virtio_dev_init(&b->dev, &balloon_ops, mem, report ? NUM_QUEUES : 3, QUEUE_SIZE, loop,
			    e);
	if (r < 0) {
		free(b);
		return r;
	}
	r = loop_timer_init(loop, &b->stats_timer, stats_are_due);
	if (r < 0) {
		virtio_dev_free(&b->dev);
		return error_set(e, r, "virtio-balloon: cannot make a timer: %s", strerror(-r));
	}
	balloon_set_size(&b->dev, config->size);
	*ret = &b->dev;
	return 0;
}
