// SPDX-License-Identifier: BSD-2-Clause
/* Between a disk's type (type.c) and its commands (commands.c). */
#ifndef SKEP_BLK_COMMANDS_H
#define SKEP_BLK_COMMANDS_H

#include "blk.h"
#include "virtio/type.h"

extern const struct device_command blk_commands[];

/* Adds the limits to an answer. */
void blk_add_limits(json_t *ret, const struct rate_limits *limits);

#endif
