// SPDX-License-Identifier: BSD-2-Clause
/*
 * The driver side of virtio: finding devices, negotiation, split virtqueues (virtio 1.3,
 * sections 2.7, 3.1, 4.2). Everything polls; irq.c is for tests that want interrupts.
 *
 * Well-behaved where not told otherwise; the rings are plain memory, so that a test can break any
 * rule.
 */
#ifndef VIO_H
#define VIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "guest.h"

#define FEATURE(bit) (1ull << (bit))

#define VIO_MAX_DEVICES 128u
#define VIO_MAX_QUEUES	18u
#define SKEP_FIRST_PIN	3u /* I/O APIC pin of skep's device 0 */

struct vio;

struct vq {
	struct vio *dev;
	unsigned index;
	uint16_t size;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t free_head, num_free; /* descriptors, linked by .next */
	uint16_t avail_idx;	      /* free-running, as published */
	uint16_t published_before;    /* what the last vq_publish() replaced */
	uint16_t last_used;	      /* free-running, as consumed */
};

struct vio {
	uint64_t base;	   /* of its registers */
	uint32_t id;	   /* VIRTIO_ID_*, 0: an empty slot */
	unsigned pin;	   /* of the I/O APIC */
	uint64_t features; /* negotiated */
	struct vq vq[VIO_MAX_QUEUES];
};

/* One buffer of a chain. */
struct sg {
	const void *addr;
	uint32_t len;
};

extern struct vio vio_devices[VIO_MAX_DEVICES];
extern unsigned num_vio_devices;

/* Finds the devices, in skep's window or a peer's. */
void vio_probe(void);
/* The nth device of this kind; NULL: there is none. */
struct vio *vio_find(uint32_t id, unsigned nth);

static inline uint32_t vio_read(const struct vio *d, uint32_t reg)
{
	return mmio_read32(d->base + reg);
}
static inline void vio_write(const struct vio *d, uint32_t reg, uint32_t v)
{
	mmio_write32(d->base + reg, v);
}
static inline uint8_t vio_status(const struct vio *d)
{
	return (uint8_t)vio_read(d, VIRTIO_MMIO_STATUS);
}
uint64_t vio_device_features(const struct vio *d);
void vio_driver_features(const struct vio *d, uint64_t features);
uint64_t vio_config(const struct vio *d, uint32_t offset, unsigned len); /* 1, 2, 4 or 8 bytes */

bool vio_reset(struct vio *d); /* false: the status did not become 0 */
/* Reset up to FEATURES_OK with those of `want` that the device offers, VERSION_1 always. */
bool vio_negotiate(struct vio *d, uint64_t want);
/* Allocates rings of at most `size` entries for queue q, and enables it; false: there is no queue
 * q. */
bool vio_queue(struct vio *d, unsigned q, uint16_t size);
void vio_driver_ok(struct vio *d);
/* All of the above for queues 0 to queues - 1; false: something failed. */
bool vio_start(struct vio *d, uint64_t want, unsigned queues, uint16_t size);

/* Makes a chain of `out` readable and then `in` writable buffers available, and returns its head;
 * -1 when there are not enough descriptors. It is not visible before vq_publish(). */
int vq_add(struct vq *q, const struct sg *sg, unsigned out, unsigned in);
/* The same through an indirect table, which the caller gives (out + in descriptors). */
int vq_add_indirect(struct vq *q, struct vring_desc *table, const struct sg *sg, unsigned out,
		    unsigned in);
void vq_publish(struct vq *q);		  /* the index */
void vq_notify(struct vq *q);		  /* the register, always */
bool vq_wants_notify(const struct vq *q); /* as NO_NOTIFY or avail_event say */
/* The next used head, its chain freed, with the written length; -1: none yet. */
int vq_poll(struct vq *q, uint32_t *ret_len);
/* Waits for one: -1 after the time limit. */
int vq_wait(struct vq *q, uint32_t *ret_len);
/* add, publish, notify, wait: the written length, or -1. */
int64_t vq_do(struct vq *q, const struct sg *sg, unsigned out, unsigned in);

/* For those who break rules: puts a head in the ring as it is, and publishes. */
void vq_offer(struct vq *q, uint16_t head);
void vq_set_desc(struct vq *q, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
		 uint16_t next);
#define VQ_USED_EVENT(q)  ((q)->avail->ring[(q)->size])
#define VQ_AVAIL_EVENT(q) (*(volatile uint16_t *)&(q)->used->ring[(q)->size])

#endif
