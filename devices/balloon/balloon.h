// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-balloon (virtio 1.3, section 5.5): memory that the guest does not use goes back to the
 * host, unasked (free page reporting) and on request (inflate, deflate).
 */
#ifndef SKEP_BALLOON_H
#define SKEP_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

/* On `loop`, which also does the work. Where memory is `pinned`, nothing of it goes back. -ENOMEM with
 * a message. */
int balloon_device_new(struct virtio_dev **ret, const struct gmem *mem,
		       const struct balloon_config *config, bool pinned, struct loop *loop,
		       struct error *e);

bool balloon_is_pinned(const struct virtio_dev *dev);

/* How large the balloon is to be, in bytes; the guest is told and gets there in its own time. The
 * size is cut to whole pages and to less than all of RAM. Any thread. */
void balloon_set_size(struct virtio_dev *dev, uint64_t bytes);

/* Asks the guest for statistics, which come later. On the device's loop. */
void balloon_ask_for_stats(struct virtio_dev *dev);

struct balloon_counters {
	int64_t size, target;	/* bytes in the balloon, as the driver says; and as it was asked */
	int64_t inflated_bytes; /* of pages that the driver ever put into it */
	int64_t reported_bytes; /* of free pages that it reported, as often as it did */
	int64_t returned_bytes; /* of those: that went back to the host */
};
/* Any thread. */
void balloon_counters(const struct virtio_dev *dev, struct balloon_counters *ret);

/* The guest's latest statistics by VIRTIO_BALLOON_S_*, -1 for what it did not tell; memory in bytes.
 * Their age in nanoseconds, or -1 when there are none. Any thread. */
int64_t balloon_stats(const struct virtio_dev *dev, int64_t ret[VIRTIO_BALLOON_S_NR]);

#endif
