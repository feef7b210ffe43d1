// SPDX-License-Identifier: BSD-2-Clause
#include "support.h"

struct vio *need(uint32_t id, unsigned nth)
{
	struct vio *d = vio_find(id, nth);

	if (!d)
		panic("this test needs %u devices of kind %u", nth + 1, id);
	return d;
}

int blk_add(struct vq *q, struct blk *r, uint32_t type, uint64_t sector, const struct sg *data,
	    unsigned n)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct sg sg[66];

	if (n > 64)
		panic("%u buffers", n);
	r->hdr = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	r->status = STATUS_NONE;
	sg[0] = (struct sg){&r->hdr, sizeof(r->hdr)};
	for (unsigned i = 0; i < n; i++)
		sg[1 + i] = data[i];
	sg[1 + n] = (struct sg){&r->status, 1};
	return in ? vq_add(q, sg, 1, n + 1) : vq_add(q, sg, 1 + n, 1);
}

int blk_do(struct vq *q, struct blk *r, uint32_t type, uint64_t sector, const struct sg *data,
	   unsigned n)
{
	if (blk_add(q, r, type, sector, data, n) < 0)
		return -1;
	vq_publish(q);
	vq_notify(q);
	if (vq_wait(q, &r->written) < 0)
		return -1;
	return r->status;
}

int blk_read(struct vq *q, uint64_t sector, void *buf, uint32_t len)
{
	struct blk r;

	return blk_do(q, &r, VIRTIO_BLK_T_IN, sector, &(struct sg){buf, len}, 1);
}

int blk_write(struct vq *q, uint64_t sector, const void *buf, uint32_t len)
{
	struct blk r;

	return blk_do(q, &r, VIRTIO_BLK_T_OUT, sector, &(struct sg){buf, len}, 1);
}

uint64_t blk_capacity(const struct vio *d)
{
	return vio_config(d, offsetof(struct virtio_blk_config, capacity), 8);
}

static bool rng_works(struct vio *d)
{
	uint8_t buf[64];
	int64_t n;

	if (!vio_start(d, 0, 1, 8))
		return false;
	n = vq_do(&d->vq[0], &(struct sg){buf, sizeof(buf)}, 0, 1);
	return n > 0 && n <= (int64_t)sizeof(buf);
}

static bool disk_works(struct vio *d)
{
	uint8_t buf[SECTOR];

	return vio_start(d, 0, 1, 8) && blk_read(&d->vq[0], 0, buf, sizeof(buf)) == VIRTIO_BLK_S_OK;
}

bool bystander_works(const struct vio *except)
{
	size_t mark = heap_mark();
	unsigned asked = 0;
	bool ok = true;

	for (unsigned i = 0; i < num_vio_devices && ok; i++) {
		struct vio *d = &vio_devices[i];

		if (d == except || (d->id != VIRTIO_ID_RNG && d->id != VIRTIO_ID_BLOCK))
			continue;
		asked++;
		ok = d->id == VIRTIO_ID_RNG ? rng_works(d) : disk_works(d);
		vio_reset(d);
	}
	if (!asked)
		panic("no bystander");
	heap_release(mark);
	return ok;
}
