// SPDX-License-Identifier: BSD-2-Clause
/* Between a device's life cycle (virtio.c) and its registers (virtio_mmio.c). */
#ifndef SKEP_VIRTIO_MMIO_H
#define SKEP_VIRTIO_MMIO_H

#include "virtio/state.h"
#include "virtio/virtio.h"

/* virtio.c. DRIVER_OK is set: map the queues and hand them to their loops. Under the lock. */
void virtio_dev_start(struct virtio_dev *dev);
/* The second half of that: hands queues that are mapped to their loops. Under the lock. */
void virtio_dev_run(struct virtio_dev *dev);
/* Returns when no request of the queue is in flight; it does not run any more. Under the lock. */
void virtio_queue_drain(struct virtio_queue *q);
/* QueueReady = 0: returns when no request of the queue is in flight. One that ran is forgotten, and
 * does not run again before a reset. Under the lock. */
void virtio_queue_stop(struct virtio_queue *q);
/* Back to the state after power-on; returns when no request is in flight. Under the lock. */
void virtio_dev_reset(struct virtio_dev *dev);

/* virtio_mmio.c. Makes all of the register page true. */
void virtio_mmio_fill(struct virtio_dev *dev);
/* Sets the status, here and in the page. Under the state lock. */
void virtio_mmio_set_status(struct virtio_dev *dev, uint32_t status);
/* Brings dev->config to the page under the generation counter; true when it differed. Under the
 * state lock. */
bool virtio_mmio_show_config(struct virtio_dev *dev);
/* Sets a bit of InterruptStatus and interrupts, after what it announces was stored sequentially
 * consistent. Before DRIVER_OK the bit alone is set: the interrupt comes with DRIVER_OK, unless
 * the driver acknowledged the bit by then. Any thread; under the state lock where that may be
 * before DRIVER_OK. */
void virtio_mmio_interrupt(struct virtio_dev *dev, uint32_t bit);

/* state.c's: the registers' part of a state; where the other device was, as its driver saw it; what
 * differs since is told. Under the state lock. */
void virtio_mmio_save(struct virtio_dev *dev, struct virtio_state *ret);
void virtio_mmio_restore(struct virtio_dev *dev, const struct virtio_state *state);
void virtio_mmio_go_on(struct virtio_dev *dev, const struct virtio_state *state);

#endif
