// SPDX-License-Identifier: BSD-2-Clause
/* What the tests share: block requests, and a bystander that must go on working. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <linux/virtio_blk.h>

#include "lib/pattern.h"
#include "lib/vio.h"
#include "tests.h"

#define SECTOR 512u
#define STATUS_NONE                                                                                \
	0xffu /* what requests have in their status byte before the device writes it               \
	       */

/* The device under test: the nth of this kind, or the test ends. */
struct vio *need(uint32_t id, unsigned nth);

/* One block request with up to 64 data buffers, submitted whole. */
struct blk {
	struct virtio_blk_outhdr hdr;
	uint8_t status;
	uint32_t written; /* the used entry's length */
};
/* Makes the chain hdr, data, status available (not yet published): its head, or -1. */
int blk_add(struct vq *q, struct blk *r, uint32_t type, uint64_t sector, const struct sg *data,
	    unsigned n);
/* The same and waits: the status byte, or -1 when no answer came. */
int blk_do(struct vq *q, struct blk *r, uint32_t type, uint64_t sector, const struct sg *data,
	   unsigned n);
int blk_read(struct vq *q, uint64_t sector, void *buf, uint32_t len);
int blk_write(struct vq *q, uint64_t sector, const void *buf, uint32_t len);
uint64_t blk_capacity(const struct vio *d); /* sectors */

/* Whether the device `except` is not still answers: entropy from the rng, or a read from a disk. */
bool bystander_works(const struct vio *except);

#endif
