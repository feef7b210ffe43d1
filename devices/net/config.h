// SPDX-License-Identifier: BSD-2-Clause
/* What a network device is to be. */
#ifndef SKEP_NET_CONFIG_H
#define SKEP_NET_CONFIG_H

#include <stdint.h>

#include "config/device_options.h"

#define NET_MAX		 32u /* in a VM */
#define NET_MAX_PAIRS	 16u /* of a receive and a transmit queue */
#define NET_MAX_FORWARDS 64u
#define NET_MAX_PPS	 1000000000u
#define NET_MAC_LEN	 6u
#define NET_STREAM_MTU	 1500u
#define NET_PASST_DNS	 "169.254.1.1" /* where it answers for a name server on the host's loopback */
#define NET_PASST_MTU	 65520u /* the most that it takes: few packets, as it has no offloads */

/* One of the first four is there. */
struct net_config {
	char *tap;	    /* its name */
	bool passt;	    /* start it */
	char *socket;	    /* its path */
	unsigned fd;	    /* inherited; 0: none */
	bool listen;	    /* at `socket`, instead of connecting */
	char **forward;	    /* with passt, as net_forward() has them */
	bool host_loopback; /* with passt: the gateway's address is the host's loopback */
	bool vhost;	    /* with a tap: packets are moved by the kernel */
	char mac[18];	    /* "02:00:00:00:00:01"; empty: see net_mac() */
	unsigned queues;    /* pairs, 1 to NET_MAX_PAIRS; more than 1 with a tap only */
	unsigned mtu;	    /* that the guest is told; 0: what is usual there */
	/* A second, 0 for no limit; to the guest, and from it; see struct rate_limits. */
	uint64_t rx_bps, tx_bps, burst_ns;
	unsigned rx_pps, tx_pps;
};

extern const struct device_options net_options;

/* For messages and the status: the tap, "passt", the socket's path, "fd 5". */
#define NET_NAME_LEN 128u
const char *net_name(const struct net_config *config, char ret[NET_NAME_LEN]);

/*
 * The address that `config` says, or one that this tap, or the passt of device `index`, has on this
 * host each time; else, as many VMs may be on one socket, a random one. It is locally administered.
 * -EINVAL with a message.
 */
int net_mac(const struct net_config *config, unsigned index, uint8_t ret[NET_MAC_LEN],
	    struct error *e);

/* A port of the host that is the guest's: "[ADDRESS/]HOST:GUEST[/udp]". */
struct net_forward {
	char text[48];	     /* the address; empty: all */
	uint8_t address[16]; /* the same */
	int family;	     /* AF_INET, AF_INET6; 0: all */
	uint16_t host, guest;
	bool udp;
};
int net_forward(const char *text, struct net_forward *ret, struct error *e);

#endif
