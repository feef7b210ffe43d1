// SPDX-License-Identifier: BSD-2-Clause
/* The control queue (section 5.1.6.5): how many pairs the driver uses, its MAC address, which packets
 * it wants, offloads. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "device.h"

#define TURN_CHAINS 64u

/* A command, whose data begins at `at` of its buffers. */
struct command {
	const struct iovec *iov;
	unsigned num;
	size_t at;
};

/* The next `len` bytes of data, if there are so many. */
static bool get(struct command *c, void *ret, size_t len)
{
	size_t n = iov_read(c->iov, c->num, c->at, ret, len);

	c->at += n;
	return n == len;
}

static bool set_pairs(struct net_device *net, struct command *c)
{
	uint16_t pairs;

	if (!get(c, &pairs, sizeof(pairs)) || !virtio_has(&net->dev, VIRTIO_NET_F_MQ))
		return false;
	pairs = le16toh(pairs);
	if (pairs < 1 || pairs > net->num_pairs)
		return false;
	net_use_pairs(net, pairs);
	return true;
}

static bool set_mac(struct net_device *net, struct command *c)
{
	uint8_t mac[NET_MAC_LEN];

	if (!get(c, mac, sizeof(mac)) || !virtio_has(&net->dev, VIRTIO_NET_F_CTRL_MAC_ADDR))
		return false;
	net_filter_own(&net->filter, mac);
	virtio_dev_set_config(&net->dev, offsetof(struct virtio_net_config, mac), mac, sizeof(mac));
	return true;
}

/* One of the two lists of addresses; those for which there is no room are counted in *more. */
static bool get_macs(struct command *c, uint8_t (*macs)[NET_MAC_LEN], unsigned *num, uint32_t *more)
{
	uint32_t said;
	unsigned n;

	if (!get(c, &said, sizeof(said)))
		return false;
	said = le32toh(said);
	n = MIN(said, NET_FILTER_MACS - *num);
	*more = said - n;
	if (!get(c, macs[*num], n * (size_t)NET_MAC_LEN))
		return false;
	*num += n;
	c->at += *more * (size_t)NET_MAC_LEN;
	return true;
}

/* Unicast addresses, and then multicast ones. */
static bool set_table(struct net_device *net, struct command *c)
{
	uint8_t macs[NET_FILTER_MACS + 1][NET_MAC_LEN];
	uint32_t more_uni, more_multi;
	unsigned num = 0;

	if (!virtio_has(&net->dev, VIRTIO_NET_F_CTRL_RX) || !get_macs(c, macs, &num, &more_uni) ||
	    !get_macs(c, macs, &num, &more_multi))
		return false;
	net_filter_table(&net->filter, macs, num,
			 (more_uni ? NET_MORE_UNI : 0) | (more_multi ? NET_MORE_MULTI : 0));
	return true;
}

static bool set_mode(struct net_device *net, struct command *c, unsigned cmd)
{
	bool extra = cmd > VIRTIO_NET_CTRL_RX_ALLMULTI;
	uint8_t on;

	if (cmd > VIRTIO_NET_CTRL_RX_NOBCAST || !get(c, &on, sizeof(on)) ||
	    !virtio_has(&net->dev, extra ? VIRTIO_NET_F_CTRL_RX_EXTRA : VIRTIO_NET_F_CTRL_RX))
		return false;
	net_filter_mode(&net->filter, 1u << cmd, on);
	return true;
}

static bool set_vlan(struct net_device *net, struct command *c, unsigned cmd)
{
	uint16_t id;

	if (cmd > VIRTIO_NET_CTRL_VLAN_DEL || !get(c, &id, sizeof(id)) ||
	    !virtio_has(&net->dev, VIRTIO_NET_F_CTRL_VLAN) || le16toh(id) >= NET_VLANS)
		return false;
	net_filter_vlan(&net->filter, le16toh(id), cmd == VIRTIO_NET_CTRL_VLAN_ADD);
	return true;
}

static bool set_guest_offloads(struct net_device *net, struct command *c)
{
	uint64_t offloads;

	if (!get(c, &offloads, sizeof(offloads)) ||
	    !virtio_has(&net->dev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		return false;
	offloads = le64toh(offloads);
	if (offloads & ~net->dev.driver_features)
		return false;
	net_set_offloads(net, offloads);
	return true;
}

static bool announced(struct net_device *net)
{
	if (!virtio_has(&net->dev, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return false;
	net->announce = false;
	net_show_link(net);
	return true;
}

static bool carry_out(struct net_device *net, struct command *c)
{
	struct virtio_net_ctrl_hdr header;

	if (!get(c, &header, sizeof(header)))
		return false;
	if (header.class == VIRTIO_NET_CTRL_RX)
		return set_mode(net, c, header.cmd);
	if (header.class == VIRTIO_NET_CTRL_VLAN)
		return set_vlan(net, c, header.cmd);
	switch (header.class << 8 | header.cmd) {
	case VIRTIO_NET_CTRL_MQ << 8 | VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
		return set_pairs(net, c);
	case VIRTIO_NET_CTRL_MAC << 8 | VIRTIO_NET_CTRL_MAC_ADDR_SET:
		return set_mac(net, c);
	case VIRTIO_NET_CTRL_MAC << 8 | VIRTIO_NET_CTRL_MAC_TABLE_SET:
		return set_table(net, c);
	case VIRTIO_NET_CTRL_ANNOUNCE << 8 | VIRTIO_NET_CTRL_ANNOUNCE_ACK:
		return announced(net);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS << 8 | VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET:
		return set_guest_offloads(net, c);
	default:
		return false;
	}
}

void net_control(struct net_device *net, unsigned q)
{
	struct virtq *vq = &net->dev.queue[q].vq;
	struct iovec iov[VIRTQ_MAX_SIZE];
	struct virtq_chain chain = {.iov = iov, .max_iov = ARRAY_SIZE(iov)};
	unsigned budget = TURN_CHAINS;
	const char *why = "";
	int r;

	do {
		virtq_disable_kicks(vq);
		while (budget && (r = virtq_pop(vq, &chain, &why)) > 0) {
			struct command c = {.iov = iov, .num = chain.num_out};
			uint8_t ack = carry_out(net, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

			iov_write(iov + chain.num_out, chain.num_in, 0, &ack, sizeof(ack));
			virtq_push(vq, chain.head, MIN(chain.in_bytes, 1u));
			budget--;
		}
		if (budget && r < 0) {
			virtio_dev_fail(&net->dev, "queue %u: %s", q, why);
			return;
		}
		virtio_queue_publish(&net->dev, q);
		if (!budget) {
			virtio_queue_kick_later(&net->dev, q);
			return;
		}
	} while (virtq_enable_kicks(vq));
}
