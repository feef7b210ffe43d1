// SPDX-License-Identifier: BSD-2-Clause
/* Ways for tests to the devices of a config. */
#ifndef SKEP_CONFIG_FIXTURE_H
#define SKEP_CONFIG_FIXTURE_H

#include "blk/config.h"
#include "console/config.h"
#include "vm/devices.h"

static inline size_t num_disks(const struct vm_config *config)
{
	size_t num;

	config_devices(config, &blk_options, &num);
	return num;
}

static inline struct disk_config *disk_at(const struct vm_config *config, size_t i)
{
	size_t num;

	return (struct disk_config *)(uintptr_t)config_devices(config, &blk_options, &num) + i;
}

static inline const struct console_config *console_config(const struct vm_config *config)
{
	size_t num;

	return config_devices(config, &console_options, &num);
}

static inline int add_disk(struct vm_config *config, const char *text, struct error *e)
{
	return config_parse_device(config, &blk_options, text, e);
}

#endif
