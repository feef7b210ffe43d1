// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-mem (virtio 1.3, section 5.15): memory that the guest is given while it runs, and gives back.
 */
#ifndef SKEP_MEM_H
#define SKEP_MEM_H

#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "virtio/type.h"

/* For host->mem->hotplug, by host->plug(). The guest has `start` bytes without it, and at most `max`
 * with it. On `loop`, which also does the work. -ENOMEM with a message. */
int mem_device_new(struct virtio_dev **ret, const struct device_host *host, uint64_t start,
		   uint64_t max, struct loop *loop, struct error *e);

/* How much memory the guest is to have, in bytes; it is told and gets there in its own time. The size
 * is cut down to whole blocks. -ERANGE with a message if it is less than `start` or more than `max`.
 * Any thread. */
int mem_set_size(struct virtio_dev *dev, uint64_t bytes, struct error *e);

struct mem_counters {
	int64_t size, target;	/* bytes that the guest has, and is to have */
	int64_t max;		/* and the most that it can have */
	int64_t plugged_bytes;	/* of `size`: what can be taken away */
	int64_t returned_bytes; /* that went back to the host, as often as they did */
};
/* Any thread. */
void mem_counters(const struct virtio_dev *dev, struct mem_counters *ret);

#endif
