// SPDX-License-Identifier: BSD-2-Clause
/* A disk's state besides that of any device: virtio/state.h. The content is in the image. */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "device.h"

struct blk_state {
	uint64_t sectors;
	int32_t flush_error; /* of the first sync that failed since reset */
	uint8_t writethrough;
	uint8_t zero[3];
};

static_assert(sizeof(struct blk_state) == BLK_STATE_SIZE, "no holes");

int blk_save(struct virtio_dev *dev, void *state, struct error *e)
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

int blk_restore(struct virtio_dev *dev, const void *state, struct error *e)
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
		blk_set_wce(blk, !s.writethrough && virtio_has(dev, VIRTIO_BLK_F_FLUSH));
	pthread_mutex_lock(&blk->flush.lock);
	blk->flush.error = s.flush_error;
	pthread_mutex_unlock(&blk->flush.lock);
	return 0;
}
