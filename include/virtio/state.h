// SPDX-License-Identifier: BSD-2-Clause
/*
 * A device's state, to be saved and restored: all that the driver set, and all that it was told.
 * Nothing in it belongs to the host. The rings are in guest memory, which is saved elsewhere.
 *
 * DOC: While the vCPUs are stopped, virtio_dev_pause() keeps queues from starting requests. Those in
 * flight finish as usual, and when none is left virtio_dev_save() succeeds. So a state contains no
 * requests, and the driver hears of each once, from the device that carried it out. Then this device
 * goes on (virtio_dev_resume()); or it is freed, and another one with the same memory goes on
 * (virtio_dev_restore()). Input that the guest has not taken yet is not part of the state.
 *
 * A state that is restored is not trusted: it is checked as strictly as what a driver writes.
 */
#ifndef SKEP_VIRTIO_STATE_H
#define SKEP_VIRTIO_STATE_H

#include "virtio/virtio.h"

#define VIRTIO_STATE_VERSION 1u
#define VIRTIO_STATE_OWN     1024u /* bytes for a type's own state */

struct virtio_queue_state {
	uint64_t desc, avail, used;	/* guest physical addresses */
	uint16_t next_avail, next_used; /* free-running; no request is in flight */
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

/* Queues start no requests until virtio_dev_resume() or a reset. For all four functions: no vCPU
 * runs, no lock is held, the device is attached, its loops run; any thread, one at a time. */
void virtio_dev_pause(struct virtio_dev *dev);
void virtio_dev_resume(struct virtio_dev *dev);

/* -EBUSY with a message while a request is in flight (or waits for space on the host): try again. */
int virtio_dev_save(struct virtio_dev *dev, struct virtio_state *ret, struct error *e);

/* Brings a device at status 0 to the saved state, and starts its queues. -EINVAL with a message if
 * the state is of another kind of device, or one that no driver can reach: the device is then at
 * status 0 still. */
int virtio_dev_restore(struct virtio_dev *dev, const struct virtio_state *state, struct error *e);

#endif
