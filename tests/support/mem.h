// SPDX-License-Identifier: BSD-2-Clause
/* The host's side of a memory device, and its driver's requests, where there is no KVM. */
#ifndef SKEP_TEST_MEM_H
#define SKEP_TEST_MEM_H

#include <endian.h>
#include <errno.h>
#include <linux/virtio_mem.h>
#include <string.h>

#include "driver.h"
#include "mem/mem.h"

#define MEM_MAX (128ull << 20) /* bytes of hotplug memory: 32 blocks */

struct mem_host {
	struct device_host host;
	unsigned fails_in; /* so many changes from now, one fails; 0: none does */
};

static inline int mem_host_plug(void *ctx, unsigned block, bool plugged)
{
	struct mem_host *h = ctx;

	if (h->fails_in && --h->fails_in == 0)
		return -ENOMEM;
	gmem_set_plugged((struct gmem *)(uintptr_t)h->host.mem, block, plugged);
	return 0;
}

/* A device for `d`, which gets hotplug memory if it has none, and of which nothing is plugged. */
static inline struct virtio_dev *mem_open(struct mem_host *h, struct drv *d, struct loop *loop)
{
	uint64_t ram = gmem_size(&d->mem);
	struct virtio_dev *dev;

	if ((!d->mem.hotplug.size && gmem_add_hotplug(&d->mem, MEM_MAX, NULL) < 0))
		return NULL;
	for (unsigned i = 0; i < gmem_num_blocks(&d->mem); i++)
		gmem_set_plugged(&d->mem, i, false);
	*h = (struct mem_host){.host = {.mem = &d->mem, .plug = mem_host_plug, .ctx = h}};
	return mem_device_new(&dev, &h->host, ram, ram + MEM_MAX, loop, NULL) < 0 ? NULL : dev;
}

/* A request for `num` blocks from number `first` on, in the first bytes of `data`. */
static inline void mem_request(const struct drv *d, void *data, uint16_t type, uint64_t first,
			       uint16_t num)
{
	const struct gmem_hotplug *h = &d->mem.hotplug;
	struct virtio_mem_req req = {
		.type = htole16(type),
		.u.plug = {.addr = htole64(h->base.v + first * h->block),
			   .nb_blocks = htole16(num)},
	};

	memcpy(data, &req, sizeof(req));
}

#endif
