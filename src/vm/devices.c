// SPDX-License-Identifier: BSD-2-Clause
#include "vm/devices.h"

#define DEVICE(name) extern const struct device_type name##_type;
#include "vm/devices.def"
#undef DEVICE

const struct device_type *const device_types[] = {
#define DEVICE(name) &name##_type,
#include "vm/devices.def"
#undef DEVICE
	NULL,
};
