// SPDX-License-Identifier: BSD-2-Clause
/* The disk of a hostile driver, and what its memory is used for. Each source has its own. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "support.h"

#define QUEUE_SIZE 16u
#define PAGE	   4096u
#define GUARD_SEED 77u

static struct vio *dev;
static struct vq *q;
static uint8_t *page;  /* a legitimate buffer, 64 KiB */
static uint8_t *guard; /* memory that no request may touch */
static struct virtio_blk_outhdr *hdr;
static uint8_t *status;
static struct vring_desc *table; /* an indirect one */

#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

/* A read of `len` bytes from sector 0 into `addr`, as descriptors 0, 1 and 2. */
static inline void lay_read(uint64_t addr, uint32_t len)
{
	*hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 0};
	*status = STATUS_NONE;
	vq_set_desc(q, 0, (uint64_t)hdr, sizeof(*hdr), NEXT, 1);
	vq_set_desc(q, 1, addr, len, NEXT | WRITE, 2);
	vq_set_desc(q, 2, (uint64_t)status, 1, WRITE, 0);
}

static inline void lay_good_read(void)
{
	lay_read((uint64_t)page, PAGE);
}

static inline void go(uint16_t head)
{
	vq_offer(q, head);
	vq_notify(q);
}

static inline bool needs_reset(void)
{
	return vio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static inline bool answered(void)
{
	return *(volatile uint16_t *)&q->used->idx != q->last_used;
}

static inline bool works_again(void)
{
	return vio_reset(dev) && vio_start(dev, 0, 1, QUEUE_SIZE) &&
	       blk_read(q, 0, page, PAGE) == VIRTIO_BLK_S_OK;
}

static inline void set_up(void)
{
	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	page = alloc(64 * 1024, PAGE);
	guard = alloc(64 * 1024, PAGE);
	table = alloc(PAGE, 16);
	hdr = alloc(sizeof(*hdr), 16);
	status = alloc(16, 16);
	pattern_fill(guard, 64 * 1024, GUARD_SEED, 0);
}

#endif
