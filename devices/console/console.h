// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_CONSOLE_H
#define SKEP_CONSOLE_H

#include "tty.h"
#include "virtio/virtio.h"

/* virtio-console with one port (virtio 1.3, section 5.3), between the guest and `tty`, which stays the
 * caller's and outlives the device. Before the loop starts. */
int console_device_new(struct virtio_dev **ret, const struct gmem *mem, struct tty *tty,
		       struct loop *loop, struct error *e);
/* The terminal's size may have changed (SIGWINCH): tells the guest. On the device's loop. */
void console_device_resize(struct virtio_dev *dev);
/* Whether the guest has sent a byte. Any thread. */
bool console_device_has_printed(struct virtio_dev *dev);
/* skep continues after it was stopped (SIGCONT): is it in the foreground? The control loop's
 * thread. */
void console_device_attend(struct virtio_dev *dev);

/* Explains an end before the guest printed anything: likely reasons and what to do. */
struct guest_facts;
void console_explain_silence(const struct guest_facts *facts, struct error *ret);

#endif
