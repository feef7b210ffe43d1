// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a device type brings for the configuration: an option of `skep run`, its sub-options, its
 * key in the JSON configuration.
 */
#ifndef SKEP_DEVICE_OPTIONS_H
#define SKEP_DEVICE_OPTIONS_H

#include <stddef.h>

#include "config/config.h"

struct device_options {
	const char *name;   /* of one: "disk", the option --disk */
	const char *plural; /* "disks", the key in JSON; NULL: a VM has one at most */
};

extern const struct device_options blk_options, console_options, rng_options;

/* The configurations of all devices of a type, in order: an array of the type's struct. */
const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num);

#endif
