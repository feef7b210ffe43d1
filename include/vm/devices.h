// SPDX-License-Identifier: BSD-2-Clause
/* The table of device types: src/vm/devices.def. */
#ifndef SKEP_DEVICES_H
#define SKEP_DEVICES_H

#include "config/device_options.h"
#include "virtio/type.h"

/* What they are in a VM, and in its configuration; both end with NULL. */
extern const struct device_type *const device_types[];
extern const struct device_options *const vm_device_options[];

/* The process ends at once: what devices changed beyond it is put right. Async-signal-safe. */
void devices_restore_host(void);

#endif
