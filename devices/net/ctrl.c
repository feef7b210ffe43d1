// SPDX-License-Identifier: BSD-2-Clause
/* The control queue (section 5.1.6.5): how many pairs the driver uses, its MAC address, offloads. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "device.h"

#define MAX_COMMAND 64u /* bytes of one that is known */
#define TURN_CHAINS 64u

static bool set_pairs(struct net_device *net, const uint8_t *data, size_t len)
{
	uint16_t pairs;

	if (len < sizeof(pairs) || !virtio_has(&net->dev, VIRTIO_NET_F_MQ))
		return false;
	memcpy(&pairs, data, sizeof(pairs));
	pairs = le16toh(pairs);
	if (pairs < 1 || pairs > net->num_pairs)
		return false;
	net_use_pairs(net, pairs);
	return true;
}

static bool set_mac(struct net_device *net, const uint8_t *data, size_t len)
{
	if (len < NET_MAC_LEN || !virtio_has(&net->dev, VIRTIO_NET_F_CTRL_MAC_ADDR))
		return false;
	virtio_dev_set_config(&net->dev, offsetof(struct virtio_net_config, mac), data,
			      NET_MAC_LEN);
	return true;
}

static bool set_guest_offloads(struct net_device *net, const uint8_t *data, size_t len)
{
	uint64_t offloads;

	if (len < sizeof(offloads) || !virtio_has(&net->dev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		return false;
	memcpy(&offloads, data, sizeof(offloads));
	offloads = le64toh(offloads);
	if (offloads & ~net->dev.driver_features)
		return false;
	net_set_offloads(net, offloads);
	return true;
}

static bool carry_out(struct net_device *net, const uint8_t *command, size_t len)
{
	const uint8_t *data = command + sizeof(struct virtio_net_ctrl_hdr);
	struct virtio_net_ctrl_hdr header;

	if (len < sizeof(header))
		return false;
	memcpy(&header, command, sizeof(header));
	len -= sizeof(header);
	switch (header.class << 8 | header.cmd) {
	case VIRTIO_NET_CTRL_MQ << 8 | VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
		return set_pairs(net, data, len);
	case VIRTIO_NET_CTRL_MAC << 8 | VIRTIO_NET_CTRL_MAC_ADDR_SET:
		return set_mac(net, data, len);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS << 8 | VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET:
		return set_guest_offloads(net, data, len);
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
			uint8_t command[MAX_COMMAND];
			size_t len = iov_read(iov, chain.num_out, 0, command, sizeof(command));
			uint8_t ack = carry_out(net, command, len) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

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
