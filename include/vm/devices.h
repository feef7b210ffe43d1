// SPDX-License-Identifier: BSD-2-Clause
/* The table of device types: src/vm/devices.def. */
#ifndef SKEP_DEVICES_H
#define SKEP_DEVICES_H

#include "config/device_options.h"
#include "virtio/type.h"

/* The types, as of a VM and of its configuration; both end with NULL. */
extern const struct device_type *const device_types[];
extern const struct device_options *const vm_device_options[];

/* Undoes what devices changed outside the process, which is about to end. Async-signal-safe. */
void devices_restore_host(void);

#endif
