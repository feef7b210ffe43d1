// SPDX-License-Identifier: BSD-2-Clause
/* What tests of the configuration share: ways to set it, and to its devices. */
#ifndef SKEP_CONFIG_FIXTURE_H
#define SKEP_CONFIG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blk/config.h"
#include "config/config.h"
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

static inline int set(struct vm_config *c, const char *name, const char *text, struct error *e)
{
	const struct setting *s = setting_find(c->settings, name, strlen(name));

	assert_non_null(s);
	return setting_set(c, s, text, e);
}

static inline uint64_t random_u64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15; /* xorshift64 */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

#endif
