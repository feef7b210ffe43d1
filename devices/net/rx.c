// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to the guest.
 *
 * DOC: Theory of operation. A packet is read from the port straight into the guest's buffers, without
 * knowing how long it is: so buffers for the longest possible one are popped before, and those that
 * it does not need are kept for the next. Where the guest has not offered that much (a short queue,
 * one packet too many), packets go through a buffer here, and into what there is. One that does not
 * fit waits a moment for more, and is dropped and counted then, so that the queue goes on. When the
 * guest offers nothing the port is not read, and the host's kernel queues and drops as for any slow
 * receiver.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "device.h"

#define PATIENCE_NS 100000000u /* with a driver that offers too little for a packet */

void net_receive_reset(struct net_rx *rx)
{
	rx->first = rx->num = rx->first_iov = rx->num_iov = 0;
	rx->bytes = 0;
	rx->frame_len = 0;
}

void net_receive_give_back(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;

	while (rx->num)
		virtq_unpop(&net_rx_queue(p)->vq,
			    rx->held[(rx->first + --rx->num) % VIRTQ_MAX_SIZE].head);
	rx->first_iov = rx->num_iov = 0;
	rx->bytes = 0;
}

/* So much room takes the longest packet. */
static uint64_t longest(const struct net_device *net)
{
	return virtio_has(&net->dev, VIRTIO_NET_F_GUEST_TSO4) ||
			       virtio_has(&net->dev, VIRTIO_NET_F_GUEST_TSO6) ||
			       virtio_has(&net->dev, NET_F_GUEST_USO4) ||
			       virtio_has(&net->dev, NET_F_GUEST_USO6)
		       ? NET_MAX_FRAME
		       : NET_HEADER + 14 + 4 + net->port->mtu;
}

/* Room for the next packet in what is held: all of it, or without mergeable buffers the first. */
static uint64_t room(const struct net_pair *p)
{
	const struct net_rx *rx = &p->rx;

	if (virtio_has(&p->net->dev, VIRTIO_NET_F_MRG_RXBUF))
		return rx->bytes;
	return rx->num ? rx->held[rx->first].bytes : 0;
}

static void make_space(struct net_rx *rx)
{
	if (rx->first_iov + rx->num_iov > NET_MAX_IOV) {
		memmove(rx->iov, rx->iov + rx->first_iov, rx->num_iov * sizeof(*rx->iov));
		rx->first_iov = 0;
	}
}

/* Whether there is a place for one more chain, however many buffers it has. */
static bool can_hold_more(const struct net_pair *p)
{
	return p->rx.num < net_rx_queue(p)->vq.size &&
	       (!p->rx.num || NET_MAX_IOV - p->rx.num_iov >= VIRTQ_MAX_SIZE);
}

/* Pops buffers until there is room for the longest packet, and for the one that waits. -EBADMSG from a broken driver. */
static int hold_buffers(struct net_pair *p, const char **why)
{
	struct virtq *vq = &net_rx_queue(p)->vq;
	struct net_rx *rx = &p->rx;
	uint64_t wanted = MAX(longest(p->net), rx->frame_len);

	while (room(p) < wanted && can_hold_more(p)) {
		struct virtq_chain chain;
		unsigned slot = (rx->first + rx->num) % VIRTQ_MAX_SIZE;
		int r;

		if (rx->num && !virtio_has(&p->net->dev, VIRTIO_NET_F_MRG_RXBUF))
			return 0;
		make_space(rx);
		chain = (struct virtq_chain){.iov = rx->iov + rx->first_iov + rx->num_iov,
					     .max_iov = NET_MAX_IOV - rx->num_iov};
		r = virtq_pop(vq, &chain, why);
		if (r <= 0)
			return r;
		*why = "a receive buffer is device-readable";
		if (chain.num_out)
			return -EBADMSG;
		*why = "a receive buffer is shorter than the header";
		if (chain.in_bytes < NET_HEADER)
			return -EBADMSG;
		rx->held[slot].head = chain.head;
		rx->held[slot].num_iov = (uint16_t)chain.num_in;
		rx->held[slot].bytes = chain.in_bytes;
		rx->num++;
		rx->num_iov += chain.num_in;
		rx->bytes += chain.in_bytes;
	}
	return 0;
}

/* The packet of `len` bytes, its header included, that is in the buffers is the guest's. */
static void deliver(struct net_pair *p, size_t len)
{
	struct virtq *vq = &net_rx_queue(p)->vq;
	struct net_rx *rx = &p->rx;
	const struct iovec *iov = rx->iov + rx->first_iov;
	uint16_t buffers = 0;
	unsigned num_iov = rx->num_iov;

	rx->packets++;
	rx->total += (int64_t)(len - NET_HEADER);
	for (size_t left = len; left || !buffers; buffers++) {
		unsigned slot = rx->first;
		size_t n = MIN(left, rx->held[slot].bytes);

		virtq_push(vq, rx->held[slot].head, (uint32_t)n);
		left -= n;
		rx->bytes -= rx->held[slot].bytes;
		rx->first_iov += rx->held[slot].num_iov;
		rx->num_iov -= rx->held[slot].num_iov;
		rx->first = (slot + 1) % VIRTQ_MAX_SIZE;
		rx->num--;
	}
	/* Not visible before it is published. */
	iov_write(iov, num_iov, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
		  sizeof(buffers));
}

/* The packet in `frame` to the guest; false while it waits for more buffers. */
static bool deliver_frame(struct net_pair *p)
{
	bool more_helps = virtio_has(&p->net->dev, VIRTIO_NET_F_MRG_RXBUF) || !p->rx.num;
	struct net_rx *rx = &p->rx;
	size_t len = rx->frame_len;

	if (room(p) < len && more_helps && can_hold_more(p))
		return false;
	rx->frame_len = 0;
	if (room(p) < len) {
		rx->dropped++;
		return true;
	}
	iov_write(rx->iov + rx->first_iov, rx->num_iov, 0, rx->frame, len);
	deliver(p, len);
	return true;
}

void net_receive_impatient(struct loop_timer *t)
{
	struct net_pair *p = container_of(t, struct net_pair, patience);

	if (!p->rx.frame_len)
		return;
	p->rx.frame_len = 0;
	p->rx.dropped++;
	net_receive(p);
}

/* Reads a packet: its length, 0 when it did not get to the guest, or a negative errno. */
static ssize_t read_packet(struct net_pair *p)
{
	struct net_port *port = p->net->port;
	struct net_rx *rx = &p->rx;
	bool direct = room(p) >= longest(p->net);
	unsigned num = virtio_has(&p->net->dev, VIRTIO_NET_F_MRG_RXBUF)
			       ? rx->num_iov
			       : rx->held[rx->first].num_iov;
	struct iovec whole;
	ssize_t n;

	if (!direct && !rx->frame) {
		rx->frame = malloc(NET_MAX_FRAME);
		if (!rx->frame)
			return -ENOMEM;
	}
	whole = (struct iovec){rx->frame, NET_MAX_FRAME};
	n = port->ops->receive(port, p->index, direct ? rx->iov + rx->first_iov : &whole,
			       direct ? num : 1);
	if (n < 0)
		return n;
	if (n < (ssize_t)NET_HEADER || (uint64_t)n > longest(p->net)) {
		rx->dropped++;
		return 0;
	}
	if (!p->net->link)
		return 0; /* the cable is out */
	if (!net_filter_wants(p->net, direct ? rx->iov + rx->first_iov : &whole, direct ? num : 1))
		return 0;
	if (direct) {
		deliver(p, (size_t)n);
	} else {
		rx->frame_len = (size_t)n;
		if (!deliver_frame(p)) {
			loop_timer_set(&p->patience, PATIENCE_NS);
			return -EAGAIN;
		}
	}
	return n;
}

/* 1: there is more, for the next turn; 0: nothing to read, or no room; or a negative errno. */
static int receive_some(struct net_pair *p, const char **why)
{
	struct virtq *vq = &net_rx_queue(p)->vq;
	size_t bytes = 0;

	for (unsigned i = 0; i < NET_TURN_PACKETS && bytes < NET_TURN_BYTES; i++) {
		ssize_t n;
		int r;

		virtq_disable_kicks(vq);
		r = hold_buffers(p, why);
		if (r < 0)
			return r;
		if (p->rx.frame_len && !deliver_frame(p))
			return 0;
		if (!p->rx.num || net_must_wait(p, NET_RX))
			return 0;
		n = read_packet(p);
		if (n < 0)
			return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
		net_charge(p, NET_RX, (size_t)n - MIN((size_t)n, NET_HEADER));
		bytes += (size_t)n;
	}
	return 1;
}

void net_receive(struct net_pair *p)
{
	struct virtio_queue *q = net_rx_queue(p);
	const char *why = "";
	int r;

	if (!p->receives || !virtio_queue_active(&p->net->dev, q->index))
		return;
	r = receive_some(p, &why);
	virtio_queue_publish(&p->net->dev, q->index);
	if (r == -EBADMSG) {
		virtio_dev_fail(&p->net->dev, "queue %u: %s", q->index, why);
		return;
	}
	if (r < 0) {
		net_lost(p, r);
		return;
	}
	if (r == 1) /* perhaps it was read, and is not reported again */
		virtio_queue_kick_later(&p->net->dev, q->index);
	else if ((!p->rx.num || p->rx.frame_len) && virtq_enable_kicks(&q->vq))
		virtio_queue_kick_later(&p->net->dev, q->index);
	net_watch(p);
}
