// SPDX-License-Identifier: BSD-2-Clause
/* What a network device is to be. */
#ifndef SKEP_NET_CONFIG_H
#define SKEP_NET_CONFIG_H

#include <stdint.h>

#include "config/device_options.h"

#define NET_MAX	      32u /* in a VM */
#define NET_MAX_PAIRS 16u /* of a receive and a transmit queue */
#define NET_MAC_LEN   6u

struct net_config {
	char *tap;    /* its name */
	char mac[18]; /* "02:00:00:00:00:01"; empty: made from the tap's name and the host's ID */
	unsigned queues; /* pairs, 1 to NET_MAX_PAIRS */
	unsigned mtu;	 /* that the guest is told; 0: the tap's */
};

extern const struct device_options net_options;

/* The address that `config` says, or one that this tap has on this host each time, which is locally
 * administered. -EINVAL with a message. */
int net_mac(const struct net_config *config, uint8_t ret[NET_MAC_LEN], struct error *e);

#endif
