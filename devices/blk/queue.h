// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_QUEUE_H
#define SKEP_BLK_QUEUE_H

#include "disk.h"

/* For struct virtio_ops. */
void blk_kick(struct virtio_dev *dev, unsigned index);
void blk_start_queue(struct virtio_dev *dev, unsigned index);
void blk_stop_queue(struct virtio_dev *dev, unsigned index);
/* Makes queue `index` on `loop`, without its engine; in any case blk_queue_close() undoes it. */
int blk_queue_init(struct blk_device *blk, unsigned index, struct loop *loop,
		   const struct disk_config *config, struct error *e);
void blk_queue_close(struct blk_queue *q);

#endif
