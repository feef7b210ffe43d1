// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_RNG_H
#define SKEP_RNG_H

#include "virtio/virtio.h"

/* virtio-entropy (virtio 1.3, section 5.4), from getrandom(2). Before the loop starts. */
int rng_device_new(struct virtio_dev **ret, const struct gmem *mem, struct loop *loop,
		   struct error *e);

#endif
