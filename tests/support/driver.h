// SPDX-License-Identifier: BSD-2-Clause
/*
 * The driver's side of virtio-mmio and of split virtqueues, for unit tests and fuzzers: what a
 * guest would do, done from host code on the same structures.
 *
 * DOC: Theory of operation. A `struct drv` is a guest: some RAM, one register page, one interrupt
 * eventfd. Typical use:
 *
 *	drv_init(&d, 16 * MIB);
 *	rng_device_new(&dev, &d.mem, loop, NULL);   // with d.mem
 *	drv_attach(&d, dev);
 *	loop_start(loop, NULL, NULL, NULL);         // or none, and drv_pump() below
 *	drv_start(&d, features, 0);                 // reset ... DRIVER_OK, all queues
 *	buf = drv_alloc(&d, 512, 16);
 *	head = drv_add(&d.queue[0], (struct drv_buf[]){{buf, 512, true}}, 1);
 *	drv_kick(&d.queue[0]);
 *	drv_wait_used(&d.queue[0], &id, &len);      // id == head, len bytes written
 *	virtio_dev_quiesce(dev); loop_stop(loop); virtio_dev_free(dev); loop_free(loop);
 *	drv_free(&d);
 *
 * Nothing here depends on a test framework: what must not fail ends the program with a message.
 * One thread uses a struct drv at a time.
 */
#ifndef SKEP_TEST_DRIVER_H
#define SKEP_TEST_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm/gmem.h"
#include "patience.h"
#include "virtio/virtio.h"

#define DRV_COALESCED 32u /* pending InterruptACK writes, a power of two */

struct drv;

/* A buffer of a descriptor chain. Device-readable ones come first in a valid chain. */
struct drv_buf {
	gpa_t addr;
	uint32_t len;
	bool write; /* the device writes it */
};

/* The driver's half of a virtqueue; desc, avail and used may be scribbled on at will. */
struct drv_queue {
	struct drv *drv;
	unsigned index; /* of the queue in its device */
	uint16_t size;
	bool event_idx;
	gpa_t desc_gpa, avail_gpa, used_gpa;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx;		/* entries ever made available */
	uint16_t kicked;		/* avail_idx at the last kick */
	uint64_t kicks;			/* so many */
	uint16_t last_used;		/* used entries ever taken */
	uint16_t owner[VIRTQ_MAX_SIZE]; /* head + 1 of the chain that holds a descriptor; 0 free */
	gpa_t table[VIRTQ_MAX_SIZE];	/* indirect tables, by head, made when first needed */
};

struct drv {
	struct gmem mem;
	uint64_t next; /* of the allocator */
	uint8_t *page; /* the register page */
	int irq_fd;
	struct virtio_dev *dev;
	struct drv_queue queue[VIRTIO_MAX_QUEUES];

	/* With drv_attach_coalesced(): InterruptACK writes wait here until somebody drains. */
	bool coalesced;
	pthread_mutex_t drain_lock;
	_Atomic uint32_t first, last; /* free-running */
	uint32_t ack[DRV_COALESCED];
};

/* RAM of `ram_bytes` (at least 1 MiB), a register page and an interrupt eventfd. */
void drv_init(struct drv *d, uint64_t ram_bytes);
void drv_free(struct drv *d);

/* virtio_dev_attach(), before the loops start. The second form simulates coalesced MMIO. */
void drv_attach(struct drv *d, struct virtio_dev *dev);
void drv_attach_coalesced(struct drv *d, struct virtio_dev *dev);
void drv_drain(void *d); /* applies pending ACKs as KVM's user would; any thread */

/* Zeroed guest memory, never reused; drv_ptr() is its host address. */
gpa_t drv_alloc(struct drv *d, size_t len, size_t align);
void *drv_ptr(struct drv *d, gpa_t addr, size_t len);

/* Registers, as trapped accesses; drv_page32() reads the page as the guest does. ACKs go to the
 * simulated coalescing ring where there is one. */
uint32_t drv_read32(struct drv *d, uint32_t offset);
uint32_t drv_page32(struct drv *d, uint32_t offset);
void drv_write32(struct drv *d, uint32_t offset, uint32_t value);
uint64_t drv_device_features(struct drv *d);
bool drv_is_broken(struct drv *d); /* DEVICE_NEEDS_RESET */

/* Life cycle. drv_negotiate(): reset up to FEATURES_OK with exactly `features`; true when the
 * device kept the bit. drv_queue_setup(): places and readies queue `q` (size 0: the maximum).
 * drv_start(): all of it with `features` (cut down to what is offered, and VERSION_1) for all
 * queues that have a maximum; ends the program if the device is not at DRIVER_OK after. */
void drv_reset(struct drv *d);
bool drv_negotiate(struct drv *d, uint64_t features);
void drv_queue_setup(struct drv *d, unsigned q, uint16_t size);
void drv_driver_ok(struct drv *d);
void drv_start(struct drv *d, uint64_t features, uint16_t size);

/* A queue in guest memory without a device: for tests of virtq alone. drv_queue_bind() copies its
 * addresses and size to the device side. */
void drv_queue_place(struct drv_queue *q, struct drv *d, uint16_t size, bool event_idx);
void drv_queue_bind(const struct drv_queue *q, struct virtq *vq);

/* Make a chain of `n` buffers available; the head, or -ENOSPC when descriptors run out. No kick.
 * drv_add_indirect() uses one descriptor and a table of its own (at most 256 entries). */
int drv_add(struct drv_queue *q, const struct drv_buf *bufs, unsigned n);
int drv_add_indirect(struct drv_queue *q, const struct drv_buf *bufs, unsigned n);
void drv_make_available(struct drv_queue *q, uint16_t head); /* a hand-made chain */
struct vring_desc *drv_table(struct drv_queue *q, uint16_t head);

/* Writes QueueNotify always / when the device asked for it; the latter says whether it did. */
void drv_kick(struct drv_queue *q);
bool drv_kick_if_needed(struct drv_queue *q);

/* The next used entry, its descriptors freed: false when there is none (yet). With EVENT_IDX,
 * asks for an interrupt at the next entry. */
bool drv_used(struct drv_queue *q, uint32_t *id, uint32_t *len);
/* The same, but waits for it, on a running loop, and ends the program if it does not come
 * (patience.h). */
void drv_wait_used(struct drv_queue *q, uint32_t *id, uint32_t *len);

/* Interrupts: how often irq_fd was written since the last call; wait for one. */
unsigned drv_irqs(struct drv *d);
void drv_wait_irq(struct drv *d);

/* Where the device's loops do not run: delivers pending kicks on the calling thread, until there
 * are none. Not for asynchronous devices. */
void drv_pump(struct drv *d);

#endif
