// SPDX-License-Identifier: BSD-2-Clause
/*
 * The devices' constructors: each returns a virtio device, ready for virtio_dev_attach(), that
 * virtio_dev_free() destroys. Called while the VM is built, before any loop runs.
 */
#ifndef SKEP_DEVICES_H
#define SKEP_DEVICES_H

#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

struct blk_image;
struct tty;

/* virtio-blk (virtio 1.3, section 5.2). `loops` has one loop a queue; the device takes the image
 * over (it is closed by destroy, and on error). */
int blk_device_new(struct virtio_dev **ret, const struct gmem *mem, struct blk_image *image,
		   const struct disk_config *config, struct loop *const *loops, struct error *e);

/* virtio-console with one port (section 5.3): input from `tty`, output to it. `tty` stays the
 * caller's and outlives the device. */
int console_device_new(struct virtio_dev **ret, const struct gmem *mem, struct tty *tty,
		       struct loop *loop, struct error *e);
/* The terminal's size may have changed (SIGWINCH): tells the guest. On the device's loop. */
void console_device_resize(struct virtio_dev *dev);
/* Whether the guest has sent a byte. Any thread. */
bool console_device_has_printed(struct virtio_dev *dev);
/* skep was stopped and goes on (SIGCONT): looks whether the terminal is its own. The control loop's
 * thread. */
void console_device_attend(struct virtio_dev *dev);

/* virtio-entropy (section 5.4), from getrandom(2). */
int rng_device_new(struct virtio_dev **ret, const struct gmem *mem, struct loop *loop,
		   struct error *e);

#endif
