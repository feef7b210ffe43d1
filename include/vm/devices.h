// SPDX-License-Identifier: BSD-2-Clause
/* The table of device types: src/vm/devices.def. */
#ifndef SKEP_DEVICES_H
#define SKEP_DEVICES_H

#include "virtio/type.h"

extern const struct device_type *const device_types[]; /* ends with NULL */

/* The process ends at once: what devices changed beyond it is put right. Async-signal-safe. */
void devices_restore_host(void);

#endif
