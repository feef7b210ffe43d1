// SPDX-License-Identifier: BSD-2-Clause
/* The page cache of an idle guest goes back to the host. */
#ifndef SKEP_BALLOON_IDLE_H
#define SKEP_BALLOON_IDLE_H

#include <stdint.h>

#include "virtio/type.h"

struct idle;

/* Looks, on the loop, whether the guest of this balloon has been idle for `period` nanoseconds. Before
 * the loop starts; -ENOMEM and the like with a message. */
int idle_new(struct idle **ret, struct virtio_dev *dev, const struct device_host *host,
	     uint64_t period, struct loop *loop, struct error *e);
/* After the loop was freed, whose list of watches has it. NULL-safe. */
void idle_free(struct idle *i);

#endif
