// SPDX-License-Identifier: BSD-2-Clause
/* Packets from the guest: each goes to the port from its buffers. */
#include <errno.h>

#include "device.h"

/* True when the packet is done with; false when the port has no room. -errno in *ret. */
static bool send_packet(struct net_pair *p, int *ret)
{
	struct net_port *port = p->net->port;
	struct net_tx *tx = &p->tx;
	int r = -EMSGSIZE;

	*ret = 0;
	if (tx->chain.out_bytes <= NET_MAX_FRAME && p->net->link)
		r = port->ops->send(port, p->index, tx->chain.iov, tx->chain.num_out,
				    tx->chain.out_bytes);
	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		tx->dropped++;
		*ret = net_port_is_gone(r) ? r : 0;
		return true;
	}
	tx->packets++;
	tx->total += (int64_t)(tx->chain.out_bytes - NET_HEADER);
	return true;
}

static int next_packet(struct net_pair *p, const char **why)
{
	struct net_tx *tx = &p->tx;
	int r;

	tx->chain = (struct virtq_chain){.iov = tx->iov, .max_iov = VIRTQ_MAX_SIZE};
	r = virtq_pop(&net_tx_queue(p)->vq, &tx->chain, why);
	if (r <= 0)
		return r;
	*why = "a packet in a device-writable buffer";
	if (tx->chain.num_in)
		return -EBADMSG;
	*why = "a packet without a header";
	if (tx->chain.out_bytes < NET_HEADER)
		return -EBADMSG;
	tx->busy = true;
	net_charge(p, NET_TX, tx->chain.out_bytes - NET_HEADER);
	return 1;
}

/* 1: there is more, for the next turn; 0: all is sent, or the port has no room; or a negative errno. */
static int transmit_some(struct net_pair *p, const char **why)
{
	struct net_tx *tx = &p->tx;
	size_t bytes = 0;

	for (unsigned i = 0; i < NET_TURN_PACKETS && bytes < NET_TURN_BYTES; i++) {
		int r = 1;

		if (!tx->busy && net_must_wait(p, NET_TX))
			return 0;
		if (!tx->busy)
			r = next_packet(p, why);
		if (r <= 0)
			return r;
		p->waits = !send_packet(p, &r);
		if (p->waits)
			return 0;
		bytes += tx->chain.out_bytes;
		tx->busy = false;
		virtq_push(&net_tx_queue(p)->vq, tx->chain.head, 0);
		if (r < 0)
			return r;
	}
	return 1;
}

void net_transmit(struct net_pair *p)
{
	struct virtio_queue *q = net_tx_queue(p);
	const char *why = "";
	int r;

	if (!virtio_queue_active(&p->net->dev, q->index))
		return;
	do {
		virtq_disable_kicks(&q->vq);
		r = transmit_some(p, &why);
		virtio_queue_publish(&p->net->dev, q->index);
		if (r == -EBADMSG) {
			virtio_dev_fail(&p->net->dev, "queue %u: %s", q->index, why);
			return;
		}
		if (r < 0) { /* and the rest is dropped */
			net_lost(p, r);
			r = 0;
		}
		if (r == 1)
			virtio_queue_kick_later(&p->net->dev, q->index);
	} while (r == 0 && !p->waits && !p->limited[NET_TX] && virtq_enable_kicks(&q->vq));
	net_watch(p);
}
