// SPDX-License-Identifier: BSD-2-Clause
/*
 * A device's state, to be written out and read back: all that the driver set and all that it was
 * told, and nothing of the host but by name. The other half is guest memory, where the rings are.
 *
 * DOC: While the vCPUs stand still, virtio_dev_pause() keeps queues from beginning requests; those
 * that are at work end as ever, and when none is left virtio_dev_save() succeeds. So a state has no
 * request in it, and a driver is told of each once, by the device that carried it out. Then the
 * device goes on (virtio_dev_resume()), or another one over the same memory does
 * (virtio_dev_restore()), and this one is freed. Input that a device holds and the guest has not
 * taken is the host's, and no part of this.
 *
 * A state that was read back is not trusted: it is checked as what a driver writes is.
 */
#ifndef SKEP_VIRTIO_STATE_H
#define SKEP_VIRTIO_STATE_H

#include "virtio/virtio.h"

#define VIRTIO_STATE_VERSION 1u
#define VIRTIO_STATE_OWN     64u /* bytes for what a type has besides */

struct virtio_queue_state {
	uint64_t desc, avail, used;	/* guest physical addresses */
	uint16_t next_avail, next_used; /* free-running; nothing lies between them */
	uint16_t size;
	uint8_t ready;
	uint8_t zero;
};

/* In the host's byte order, without holes. */
struct virtio_state {
	uint32_t version, size; /* VIRTIO_STATE_VERSION, sizeof(struct virtio_state) */
	uint32_t device_id, num_queues, config_len, own_len;
	uint64_t features, driver_features; /* offered; accepted */
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t unknown_features; /* 1: the driver accepted some beyond bit 63 */
	uint32_t status, interrupt_status, config_generation;
	uint32_t zero;
	uint8_t config[VIRTIO_CONFIG_MAX]; /* as the driver could last read it */
	uint8_t own[VIRTIO_STATE_OWN];	   /* by ops->save() */
	struct virtio_queue_state queue[VIRTIO_MAX_QUEUES];
};

/* Queues begin no request from now on, until virtio_dev_resume() or a reset. All four: no vCPU runs,
 * no lock is held, the device is attached, its loops run; any thread, one at a time. */
void virtio_dev_pause(struct virtio_dev *dev);
void virtio_dev_resume(struct virtio_dev *dev);

/* -EBUSY with a message while a request is at work (or waits for space on the host): ask again. */
int virtio_dev_save(struct virtio_dev *dev, struct virtio_state *ret, struct error *e);

/* Puts a device at status 0 where the other one was, and its queues to work. -EINVAL with a message
 * for a state that is not of such a device, or that no driver could have brought it to; the device
 * is as it was then. */
int virtio_dev_restore(struct virtio_dev *dev, const struct virtio_state *state, struct error *e);

#endif
