// SPDX-License-Identifier: BSD-2-Clause
/* Steps of a device's life cycle, for registers and saved states. All under the device's lock. */
#ifndef SKEP_VIRTIO_DEVICE_H
#define SKEP_VIRTIO_DEVICE_H

#include "virtio/virtio.h"

/* DRIVER_OK is set: maps the queues and hands them to their loops. */
void virtio_dev_start(struct virtio_dev *dev);
/* The second half of that: hands queues that are mapped to their loops. */
void virtio_dev_run(struct virtio_dev *dev);
/* Returns when no request of the queue is in flight; it does not run any more. */
void virtio_queue_drain(struct virtio_queue *q);
/* QueueReady = 0: returns when no request of the queue is in flight. One that ran is forgotten, and
 * does not run again before a reset. */
void virtio_queue_stop(struct virtio_queue *q);
/* Back to the state after power-on; returns when no request is in flight. */
void virtio_dev_reset(struct virtio_dev *dev);

#endif
