// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-blk (virtio 1.3, section 5.2): features, configuration space, and the disk's life.
 *
 * Only what the image can do is offered. `discard=ignore` offers neither DISCARD nor SECURE_ERASE,
 * and makes WRITE_ZEROES keep what it zeroes allocated: a preallocated image stays so.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "blk.h"
#include "engines.h"
#include "flush.h"
#include "queue.h"

/* Whether writes may wait for a flush from now on. Section 5.2.5: the field `writeback`, here by its name in linux/virtio_blk.h. */
static void set_wce(struct blk_device *blk, bool on)
{
	uint8_t wce = on;

	virtio_dev_set_config_locked(&blk->dev, offsetof(struct virtio_blk_config, wce), &wce,
				     sizeof(wce), false);
	atomic_store(&blk->writethrough, !on);
}

/* Sections 5.2.5.2 and 5.2.6.2: for a driver that cannot flush, a completed write is stable.
 * Section 5.2.2: there is one queue without MQ. */
static void blk_features_ok(struct virtio_dev *dev)
{
	if (!virtio_has(dev, VIRTIO_BLK_F_MQ))
		dev->usable_queues = 1;
	set_wce(blk_of(dev), blk_of(dev)->wce && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
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
	set_wce(blk_of(dev), wce && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
}

static void blk_reset(struct virtio_dev *dev)
{
	blk_flush_forget(blk_of(dev));
	set_wce(blk_of(dev), blk_of(dev)->wce);
}

/* A disk's state besides that of any device; the content is in the image. */
struct blk_state {
	uint64_t sectors;
	int32_t flush_error; /* of the first sync that failed since reset */
	uint8_t writethrough;
	uint8_t zero[3];
};

static int blk_save(struct virtio_dev *dev, void *state, struct error *e)
{
	struct blk_device *blk = blk_of(dev);
	struct blk_state s = {.sectors = blk->sectors, .writethrough = blk->writethrough};
	bool syncs;

	pthread_mutex_lock(&blk->flush.lock);
	syncs = blk->flush.at_work; /* one that a reset did not wait for */
	s.flush_error = blk->flush.error;
	pthread_mutex_unlock(&blk->flush.lock);
	if (syncs)
		return error_set(e, -EBUSY, "disk %s: a sync is still at work", blk->image->path);
	memcpy(state, &s, sizeof(s));
	return 0;
}

static int blk_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct blk_device *blk = blk_of(dev);
	struct blk_state s;

	memcpy(&s, state, sizeof(s));
	if (s.sectors > blk->sectors)
		return error_set(e, -EINVAL,
				 "disk %s has %llu sectors, where its driver knows of %llu: it is "
				 "another image, or was cut",
				 blk->image->path, (unsigned long long)blk->sectors,
				 (unsigned long long)s.sectors);
	if (s.writethrough > 1 || s.flush_error > 0 || s.flush_error < -4095)
		return error_set(e, -EINVAL, "disk %s: a state that no disk has", blk->image->path);
	if (atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK)
		set_wce(blk, !s.writethrough && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
	pthread_mutex_lock(&blk->flush.lock);
	blk->flush.error = s.flush_error;
	pthread_mutex_unlock(&blk->flush.lock);
	return 0;
}

static void blk_destroy(struct virtio_dev *dev)
{
	struct blk_device *blk = blk_of(dev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		blk_queue_close(&blk->queue[i]);
	pthread_mutex_destroy(&blk->space.lock);
	pthread_mutex_destroy(&blk->flush.lock);
	rate_destroy(&blk->rate);
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
	.state_size = sizeof(struct blk_state),
	.save = blk_save,
	.restore = blk_restore,
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

static void configure(struct blk_device *blk, struct blk_image *image,
		      const struct disk_config *config)
{
	pthread_mutex_init(&blk->space.lock, NULL);
	pthread_mutex_init(&blk->flush.lock, NULL);
	rate_init(&blk->rate, &(struct rate_limits){config->bps, config->iops, config->burst_ns});
	blk->space.start = blk_image_allocated(image);
	blk->image = image;
	blk->sectors = image->size >> BLK_SECTOR_SHIFT;
	blk->discard = image->discard && config->discard == DISCARD_UNMAP;
	blk->secure_erase = image->secure_erase && config->discard == DISCARD_UNMAP;
	blk->wait_for_space = config->werror == WERROR_ENOSPC_PAUSE;
	set_detect_zeroes(blk, config);
	blk->wce = config->cache != CACHE_WRITETHROUGH;
	memcpy(blk->serial, config->serial, strnlen(config->serial, BLK_SERIAL_LEN));
}

int blk_device_new(struct virtio_dev **ret, const struct gmem *mem, struct blk_image *image,
		   const struct disk_config *config, struct loop *const *loops, struct error *e)
{
	unsigned n = config->queues;
	struct blk_device *blk = calloc(1, sizeof(*blk) + n * sizeof(blk->queue[0]));
	int r;

	r = blk ? virtio_dev_init(&blk->dev, &blk_ops, mem, n, VIRTQ_MAX_SIZE, loops[0], e)
		: error_set(e, -ENOMEM, "out of memory for the disk");
	if (r < 0) {
		blk_image_close(image);
		free(blk);
		return r;
	}
	blk->num_queues = n;
	configure(blk, image, config);
	if (blk_needs_worker(image, config, loops[0]))
		r = loop_new(&blk->worker, "blkdiscard", LOOP_EPOLL, 0, e);
	for (unsigned i = 0; i < n && r >= 0; i++)
		r = blk_queue_init(blk, i, loops[i], config, e);
	if (r < 0) {
		loop_free(blk->worker);
		virtio_dev_free(&blk->dev);
		return r;
	}
	offer_features(blk);
	fill_config(blk);
	/* From here on the loops know the queues, so nothing may fail. */
	for (unsigned i = 0; i < n; i++)
		loop_add_hook(loops[i], &blk->queue[i].hook);
	*ret = &blk->dev;
	return 0;
}

void blk_device_limits(const struct virtio_dev *dev, struct rate_limits *ret)
{
	rate_get(&blk_of(dev)->rate, ret);
}

void blk_device_set_limits(struct virtio_dev *dev, const struct rate_limits *limits)
{
	struct blk_device *blk = blk_of(dev);

	rate_set(&blk->rate, limits);
	for (unsigned i = 0; i < blk->num_queues; i++)
		virtio_queue_kick_later(dev, i);
}

struct loop *blk_device_worker(const struct virtio_dev *dev)
{
	return blk_of(dev)->worker;
}

uint64_t blk_device_size(const struct virtio_dev *dev)
{
	return blk_of(dev)->sectors << BLK_SECTOR_SHIFT;
}

int64_t blk_device_resize(struct virtio_dev *dev, uint64_t size, struct error *e)
{
	struct blk_device *blk = blk_of(dev);
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
	/* The change comes first, then the driver hears of it. */
	blk->sectors = size >> BLK_SECTOR_SHIFT;
	capacity = htole64(blk->sectors);
	virtio_dev_set_config(dev, offsetof(struct virtio_blk_config, capacity), &capacity,
			      sizeof(capacity));
	return (int64_t)size;
}

void blk_device_counters(const struct virtio_dev *dev, struct disk_result *ret)
{
	const struct blk_device *blk = blk_of(dev);

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
	struct blk_device *blk = blk_of(dev);

	blk_device_counters(dev, ret);
	ret->allocated_end = blk_image_allocated(blk->image);
	if (blk->image->device)
		return;
	pthread_mutex_lock(&blk->space.lock);
	ret->returned_bytes = blk->space.returned;
	pthread_mutex_unlock(&blk->space.lock);
}
