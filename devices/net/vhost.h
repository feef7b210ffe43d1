// SPDX-License-Identifier: BSD-2-Clause
/* vhost-net: the host's kernel moves the packets between a tap and the guest's queues. */
#ifndef SKEP_NET_VHOST_H
#define SKEP_NET_VHOST_H

#include "net.h"

#define NET_VHOST_PATH "/dev/vhost-net"

/* One more for each pair of the tap's queues, in port->vhost. Where the host has none, or not for
 * this user, 0 and a line that says so: packets go through skep then. Before the sandbox. */
int net_vhost_open(struct net_port *port, struct error *e);
/* No vhost with hotplug memory: the kernel would have to be told of each block. */
void net_vhost_check_memory(struct net_port *port, const struct gmem *mem);
/* NULL-safe. */
void net_vhost_close(struct net_vhost *v);

#endif
