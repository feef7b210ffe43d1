// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_CONSOLE_H
#define SKEP_CONSOLE_H

#include "tty.h"
#include "virtio/virtio.h"

/* virtio-console with one port (virtio 1.3, section 5.3): input from `tty`, output to it. `tty` stays
 * the caller's and outlives the device. Before the loop starts. */
int console_device_new(struct virtio_dev **ret, const struct gmem *mem, struct tty *tty,
		       struct loop *loop, struct error *e);
/* The terminal's size may have changed (SIGWINCH): tells the guest. On the device's loop. */
void console_device_resize(struct virtio_dev *dev);
/* Whether the guest has sent a byte. Any thread. */
bool console_device_has_printed(struct virtio_dev *dev);
/* skep was stopped and goes on (SIGCONT): looks whether the terminal is its own. The control loop's
 * thread. */
void console_device_attend(struct virtio_dev *dev);

/* Says that the guest ended before it printed a byte, the likely reasons and the remedy. */
struct guest_facts;
void console_explain_silence(const struct guest_facts *facts, struct error *ret);

#endif
