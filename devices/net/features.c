// SPDX-License-Identifier: BSD-2-Clause
/* What the port can do, and what of it the driver uses. */
#include <linux/if_tun.h>
#include <string.h>

#include "base/log.h"
#include "device.h"

static const struct {
	unsigned host, guest; /* feature bits */
	uint32_t tun;
} offloads[] = {
	{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
	{VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
	{VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
	{VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	{NET_F_HOST_USO, NET_F_GUEST_USO4, NET_TUN_F_USO4},
	{NET_F_HOST_USO, NET_F_GUEST_USO6, NET_TUN_F_USO6},
};

uint64_t net_features(const struct net_port *port)
{
	uint64_t features = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS |
			    1ull << VIRTIO_NET_F_MTU | 1ull << VIRTIO_NET_F_MRG_RXBUF |
			    1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_CTRL_MAC_ADDR;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (port->offloads & offloads[i].tun)
			features |= 1ull << offloads[i].host | 1ull << offloads[i].guest;
	if (port->offloads)
		features |= 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
	features |= 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE;
	if (!port->vhost) /* which filters nothing */
		features |= 1ull << VIRTIO_NET_F_CTRL_RX | 1ull << VIRTIO_NET_F_CTRL_RX_EXTRA |
			    1ull << VIRTIO_NET_F_CTRL_VLAN;
	if (port->pairs > 1)
		features |= 1ull << VIRTIO_NET_F_MQ;
	return features;
}

void net_set_offloads(struct net_device *net, uint64_t features)
{
	uint32_t set = 0;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (features & 1ull << offloads[i].guest)
			set |= offloads[i].tun;
	net->offloads = features;
	if (!net->port->ops->set_offloads)
		return;
	r = net->port->ops->set_offloads(net->port, set);
	if (r < 0)
		log_guest("virtio-net: %s: the guest's offloads are refused: %s", net->port->name,
			  strerror(-r));
}

void net_enable_pair(struct net_device *net, unsigned pair, bool enable)
{
	bool vhost = net->port->vhost && pair;

	for (unsigned q = 2 * pair; vhost && !enable && q < 2 * pair + 2; q++)
		net_vhost_stop(net, q);
	if (net->port->ops->enable)
		net->port->ops->enable(net->port, pair, enable);
	for (unsigned q = 2 * pair; vhost && enable && q < 2 * pair + 2; q++)
		virtio_queue_kick_later(&net->dev, q);
}

void net_use_pairs(struct net_device *net, uint16_t pairs)
{
	net->used_pairs = pairs;
	/* The first is never off. To be told twice is an error that does not matter. */
	for (unsigned i = 1; i < net->num_pairs; i++)
		net_enable_pair(net, i, i < pairs);
}
