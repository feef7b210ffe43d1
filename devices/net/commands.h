// SPDX-License-Identifier: BSD-2-Clause
/* The commands of `skep control` for network devices. */
#ifndef SKEP_NET_COMMANDS_H
#define SKEP_NET_COMMANDS_H

#include <jansson.h>

#include "net.h"

extern const struct device_command net_commands[];

/* Adds a device's limits, as limit-net names them. */
void net_add_limits(json_t *ret, const struct net_limits *limits);

#endif
