// SPDX-License-Identifier: BSD-2-Clause
#include "vm/devices.h"

#define DEVICE(name)                                                                               \
	extern const struct device_type name##_type;                                               \
	extern const struct device_options name##_options;
#include "vm/devices.def"
#undef DEVICE

const struct device_type *const device_types[] = {
#define DEVICE(name) &name##_type,
#include "vm/devices.def"
#undef DEVICE
	NULL,
};

const struct device_options *const vm_device_options[] = {
#define DEVICE(name) &name##_options,
#include "vm/devices.def"
#undef DEVICE
	NULL,
};
