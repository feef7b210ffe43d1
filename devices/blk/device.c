// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-blk (virtio 1.3, section 5.2): features, configuration space, queues and their life.
 *
 * DOC: Theory of operation. A kick pops all that is there and submits it; completions push used
 * entries; the hook at the end of the loop's turn publishes them with at most one interrupt, so
 * everything is a batch. With the sync engine the hook also carries the requests out, a slice of
 * time a turn; what may take long, discards, has a thread of its own there. With `poll` the hook
 * then looks at the virtqueue again, turn after turn without waiting, until no work came for a
 * while; kicks are off until then.
 *
 * Only what the image can do is offered. `discard=ignore` offers neither DISCARD nor SECURE_ERASE,
 * and makes WRITE_ZEROES keep what it zeroes allocated: a preallocated image stays so.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "device.h"

/* The sync engine works this long before it lets the loop look at its other descriptors, and
 * shows the guest what is done. */
#define SYNC_SLICE_NS 50000u

static struct blk_device *to_blk(const struct virtio_dev *dev)
{
	return container_of(dev, struct blk_device, dev);
}

void blk_wait_for_limits(struct blk_queue *q, uint64_t wait)
{
	uint64_t due = now_ns() + wait;

	if (q->rate_due && q->rate_due <= due)
		return;
	q->rate_due = due;
	loop_timer_set(&q->rate_timer, wait);
}

/* False when the disk's limits say that what is in the virtqueue has to wait there. */
static bool may_start(struct blk_queue *q)
{
	uint64_t wait = q->blk->rate.limited ? blk_rate_wait(&q->blk->rate, now_ns()) : 0;

	q->limited = wait != 0;
	if (wait)
		blk_wait_for_limits(q, wait);
	return !wait;
}

static void charge(struct blk_queue *q, const struct virtq_chain *chain)
{
	uint64_t bytes = (uint64_t)chain->in_bytes + chain->out_bytes;
	uint64_t frame = sizeof(struct virtio_blk_outhdr) + 1;

	if (q->blk->rate.limited)
		blk_rate_charge(&q->blk->rate, bytes - MIN(bytes, frame), now_ns());
}

static void blk_kick(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &to_blk(dev)->queue[index];
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
	struct blk_queue *q = container_of(t, struct blk_queue, rate_timer);

	q->rate_due = 0;
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

/* Looks for work instead of waiting for it: true as long as that goes on. */
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

static void blk_start_queue(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &to_blk(dev)->queue[index];

	q->stopping = q->pushed = q->worked = false;
	q->kick_again = q->kicks_off = q->limited = false;
	q->poll.window = 0;
	blk_requests_reset(q);
}

static void blk_stop_queue(struct virtio_dev *dev, unsigned index)
{
	struct blk_queue *q = &to_blk(dev)->queue[index];

	q->stopping = true;
	q->transfers.max = q->ranges.max = q->bounced.max = 0;
	loop_timer_set(&q->rate_timer, 0);
	q->rate_due = 0;
	if (q->blk->wait_for_space)
		loop_timer_set(&q->held_timer, 0);
	q->engine->ops->drain(q->engine);
	blk_requests_reset(q);
}

/* Section 5.2.5: the field `writeback`, here by its name in linux/virtio_blk.h. */
static void set_wce(struct blk_device *blk, bool on)
{
	uint8_t wce = on;

	virtio_dev_set_config_locked(&blk->dev, offsetof(struct virtio_blk_config, wce), &wce,
				     sizeof(wce), false);
	atomic_store(&blk->writethrough, !on);
}

/* Sections 5.2.5.2 and 5.2.6.2: a driver that cannot flush takes a write that is done for stable.
 * Section 5.2.2: there is one queue without MQ. */
static void blk_features_ok(struct virtio_dev *dev)
{
	if (!virtio_has(dev, VIRTIO_BLK_F_MQ))
		dev->usable_queues = 1;
	set_wce(to_blk(dev), to_blk(dev)->wce && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
}

static void blk_config_write(struct virtio_dev *dev, uint32_t offset, const void *data,
			     uint32_t len)
{
	uint8_t wce;

	if (!virtio_has(dev, VIRTIO_BLK_F_CONFIG_WCE) || len != sizeof(wce) ||
	    offset != offsetof(struct virtio_blk_config, wce)) {
		log_guest("virtio-blk: ignored %u bytes written to configuration offset %u", len,
			  offset);
		return;
	}
	memcpy(&wce, data, sizeof(wce));
	set_wce(to_blk(dev), wce && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
}

static void blk_reset(struct virtio_dev *dev)
{
	blk_flush_forget(to_blk(dev));
	set_wce(to_blk(dev), to_blk(dev)->wce);
}

static void blk_destroy(struct virtio_dev *dev)
{
	struct blk_device *blk = to_blk(dev);

	for (unsigned i = 0; i < blk->num_queues; i++) {
		struct blk_queue *q = &blk->queue[i];

		if (q->engine)
			q->engine->ops->close(q->engine);
		if (q->blk && q->blk->wait_for_space)
			loop_timer_close(&q->held_timer);
		if (q->blk)
			loop_timer_close(&q->rate_timer);
		if (q->memory)
			munmap(q->memory, sizeof(*q->memory));
	}
	pthread_mutex_destroy(&blk->space.lock);
	pthread_mutex_destroy(&blk->flush.lock);
	blk_rate_destroy(&blk->rate);
	blk_image_close(blk->image);
	free(blk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.device_id = 2,
	.features_ok = blk_features_ok,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.start_queue = blk_start_queue,
	.kick = blk_kick,
	.stop_queue = blk_stop_queue,
	.destroy = blk_destroy,
};

static uint8_t log2_of(uint32_t n)
{
	return (uint8_t)(31 - __builtin_clz(n));
}

/* Section 5.2.4. min_io_size and opt_io_size count logical blocks. */
static void fill_config(struct blk_device *blk)
{
	const struct blk_image *image = blk->image;
	uint32_t logical = image->logical_block, ratio = image->physical_block / logical;
	struct virtio_blk_config c = {
		.capacity = htole64(blk->sectors),
		/* The header and the status byte take the other two descriptors. */
		.seg_max = htole32(VIRTQ_MAX_SIZE - 2),
		.size_max = htole32(BLK_PIECE),
		.blk_size = htole32(logical),
		.physical_block_exp = log2_of(ratio),
		.alignment_offset = (uint8_t)(image->alignment_offset / logical),
		.min_io_size =
			htole16((uint16_t)MIN(MAX(image->min_io / logical, ratio), UINT16_MAX)),
		.opt_io_size = htole32(image->optimal_io / logical),
		.wce = blk->wce,
	};

	if (blk->num_queues > 1)
		c.num_queues = htole16((uint16_t)blk->num_queues);
	if (blk->discard) {
		c.max_discard_sectors = htole32(BLK_MAX_RANGE_SECTORS);
		c.max_discard_seg = htole32(BLK_MAX_RANGES);
		c.discard_sector_alignment = htole32(image->granularity >> BLK_SECTOR_SHIFT);
	}
	if (blk->secure_erase) {
		c.max_secure_erase_sectors = htole32(BLK_MAX_RANGE_SECTORS);
		c.max_secure_erase_seg = htole32(BLK_MAX_RANGES);
		c.secure_erase_sector_alignment = htole32(image->granularity >> BLK_SECTOR_SHIFT);
	}
	if (!image->readonly) {
		c.max_write_zeroes_sectors = htole32(BLK_MAX_RANGE_SECTORS);
		c.max_write_zeroes_seg = htole32(BLK_MAX_RANGES);
		c.write_zeroes_may_unmap = blk->discard && image->zero_punch;
	}
	static_assert(sizeof(c) <= VIRTIO_CONFIG_MAX, "configuration space");
	memcpy(blk->dev.config, &c, sizeof(c));
	blk->dev.config_len = sizeof(c);
}

static void offer_features(struct blk_device *blk)
{
	uint64_t f = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
		     1ull << VIRTIO_BLK_F_FLUSH;

	if (blk->num_queues > 1)
		f |= 1ull << VIRTIO_BLK_F_MQ;
	if (blk->image->readonly)
		f |= 1ull << VIRTIO_BLK_F_RO;
	else
		f |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	if (blk->discard)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (blk->secure_erase)
		f |= 1ull << VIRTIO_BLK_F_SECURE_ERASE;
	blk->dev.features |= f;
}

static int open_plain_engine(struct blk_engine **ret, const struct blk_queue *q,
			     const struct blk_image *image, enum disk_engine wanted,
			     struct error *e)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	struct loop *loop = q->vq->loop;

	if (wanted != ENGINE_SYNC && loop_is_uring(loop))
		return blk_uring_open(ret, image, loop, q->blk->worker, e);
	if (wanted == ENGINE_URING)
		return error_set(e, -ENOTSUP,
				 "io_uring is not available: use engine=auto or engine=sync");
	if (wanted == ENGINE_AUTO && !atomic_flag_test_and_set(&said))
		log_warn("io_uring is not available (see `skep check`): disks use the slower sync "
			 "engine");
	return blk_sync_open(ret, image, loop, q->blk->worker, e);
}

/* Guest memory becomes the ring's: the kernel need not look its pages up for each request. */
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

static int open_engine(struct blk_queue *q, enum disk_engine wanted, struct error *e)
{
	const struct blk_image *image = q->blk->image;
	struct blk_engine *upper, *base;
	int r = open_plain_engine(&upper, q, image, wanted, e);

	if (r < 0 || !image->base) {
		q->engine = r < 0 ? NULL : upper;
		return r;
	}
	r = open_plain_engine(&base, q, image->base, wanted, e);
	if (r >= 0) {
		r = blk_overlay_engine(&q->engine, upper, base, e);
		if (r < 0)
			base->ops->close(base);
	}
	if (r < 0)
		upper->ops->close(upper);
	return r;
}

static void try_held(struct loop_timer *t)
{
	blk_requests_retry(container_of(t, struct blk_queue, held_timer));
}

static int queue_new(struct blk_device *blk, unsigned index, struct loop *loop,
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
	q->held_timer.watch.fd = -1;
	blk_requests_reset(q);
	r = loop_timer_init(loop, &q->rate_timer, waited);
	if (r >= 0 && blk->wait_for_space)
		r = loop_timer_init(loop, &q->held_timer, try_held);
	if (r < 0)
		return error_set(e, r, "cannot make a timer: %s", strerror(-r));
	r = open_engine(q, config->engine, e);
	return r >= 0 && config->pin ? pin_memory(q, e) : r;
}

static bool needs_worker(const struct blk_device *blk, const struct disk_config *config,
			 struct loop *const *loops)
{
	if (config->engine == ENGINE_SYNC || !loop_is_uring(loops[0]))
		return !blk->image->readonly;
	return (blk->discard || blk->secure_erase) && blk_uring_needs_worker(blk->image);
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

static void set_detect_zeroes(struct blk_device *blk, const struct disk_config *config)
{
	const struct blk_image *image = blk->image;

	if (config->detect_zeroes != DETECT_ZEROES_UNMAP || image->readonly)
		return;
	blk->detect_zeroes = blk->discard && image->zero_punch;
	if (!blk->detect_zeroes)
		log_warn("disk %s: no hole that reads as zeros can be punched here: "
			 "detect-zeroes=unmap has no effect",
			 image->path);
}

int blk_device_new(struct virtio_dev **ret, const struct gmem *mem, struct blk_image *image,
		   const struct disk_config *config, struct loop *const *loops, struct error *e)
{
	unsigned n = config->queues;
	struct blk_device *blk = calloc(1, sizeof(*blk) + n * sizeof(blk->queue[0]));
	int r;

	if (!blk) {
		blk_image_close(image);
		return error_set(e, -ENOMEM, "out of memory");
	}
	r = virtio_dev_init(&blk->dev, &blk_ops, mem, n, VIRTQ_MAX_SIZE, loops[0], e);
	if (r < 0) {
		blk_image_close(image);
		free(blk);
		return r;
	}
	pthread_mutex_init(&blk->space.lock, NULL);
	pthread_mutex_init(&blk->flush.lock, NULL);
	blk_rate_init(&blk->rate,
		      &(struct blk_limits){config->bps, config->iops, config->burst_ns});
	blk->space.start = blk_image_allocated(image);
	blk->image = image;
	blk->num_queues = n;
	blk->sectors = image->size >> BLK_SECTOR_SHIFT;
	blk->discard = image->discard && config->discard == DISCARD_UNMAP;
	blk->secure_erase = image->secure_erase && config->discard == DISCARD_UNMAP;
	blk->wait_for_space = config->werror == WERROR_ENOSPC_PAUSE;
	set_detect_zeroes(blk, config);
	blk->wce = config->cache != CACHE_WRITETHROUGH;
	memcpy(blk->serial, config->serial, strnlen(config->serial, BLK_SERIAL_LEN));
	if (needs_worker(blk, config, loops))
		r = loop_new(&blk->worker, "blkdiscard", LOOP_EPOLL, 0, e);
	for (unsigned i = 0; i < n && r >= 0; i++)
		r = queue_new(blk, i, loops[i], config, e);
	if (r < 0) {
		loop_free(blk->worker);
		virtio_dev_free(&blk->dev);
		return r;
	}
	offer_features(blk);
	fill_config(blk);
	/* The loops know the queues from here on: nothing can fail any more. */
	for (unsigned i = 0; i < n; i++)
		loop_add_hook(loops[i], &blk->queue[i].hook);
	*ret = &blk->dev;
	return 0;
}

void blk_device_limits(const struct virtio_dev *dev, struct blk_limits *ret)
{
	blk_rate_get(&to_blk(dev)->rate, ret);
}

void blk_device_set_limits(struct virtio_dev *dev, const struct blk_limits *limits)
{
	struct blk_device *blk = to_blk(dev);

	blk_rate_set(&blk->rate, limits);
	for (unsigned i = 0; i < blk->num_queues; i++)
		virtio_queue_kick_later(dev, i);
}

struct loop *blk_device_worker(const struct virtio_dev *dev)
{
	return to_blk(dev)->worker;
}

uint64_t blk_device_size(const struct virtio_dev *dev)
{
	return container_of(dev, const struct blk_device, dev)->sectors << BLK_SECTOR_SHIFT;
}

int64_t blk_device_resize(struct virtio_dev *dev, uint64_t size, struct error *e)
{
	struct blk_device *blk = to_blk(dev);
	uint64_t before = blk_device_size(dev);
	uint64_t capacity;
	int r;

	if (!size || size >= before) {
		r = blk_image_grow(blk->image, &size, e);
		if (r < 0)
			return r;
	}
	if (size < before)
		return error_set(e, -EINVAL,
				 "has %llu bytes, and %llu are fewer: a disk in use cannot shrink; "
				 "see `skep disk resize --shrink`",
				 (unsigned long long)before, (unsigned long long)size);
	/* First it is so, then the driver is told. */
	blk->sectors = size >> BLK_SECTOR_SHIFT;
	capacity = htole64(blk->sectors);
	virtio_dev_set_config(dev, offsetof(struct virtio_blk_config, capacity), &capacity,
			      sizeof(capacity));
	return (int64_t)size;
}

void blk_device_counters(const struct virtio_dev *dev, struct disk_result *ret)
{
	const struct blk_device *blk = container_of(dev, const struct blk_device, dev);

	*ret = (struct disk_result){
		.space_pauses = blk->space_pauses,
		.allocated_start = blk->space.start,
		.allocated_end = -1,
		.returned_bytes = -1,
	};
	for (unsigned i = 0; i < blk->num_queues; i++) {
		const struct blk_queue *q = &blk->queue[i];

		ret->reads += q->count.reads;
		ret->writes += q->count.writes;
		ret->flushes += q->count.flushes;
		ret->discards += q->count.discards;
		ret->write_zeroes += q->count.write_zeroes;
		ret->secure_erases += q->count.secure_erases;
		ret->errors += q->count.errors;
		ret->read_bytes += q->count.read_bytes;
		ret->written_bytes += q->count.written_bytes;
		ret->discarded_bytes += q->count.discarded_bytes;
		ret->detected_zero_bytes += q->count.detected_zero_bytes;
	}
}

void blk_device_result(struct virtio_dev *dev, struct disk_result *ret)
{
	struct blk_device *blk = to_blk(dev);

	blk_device_counters(dev, ret);
	ret->allocated_end = blk_image_allocated(blk->image);
	if (blk->image->device)
		return;
	pthread_mutex_lock(&blk->space.lock);
	ret->returned_bytes = blk->space.returned;
	pthread_mutex_unlock(&blk->space.lock);
}
