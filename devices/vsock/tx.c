// SPDX-License-Identifier: BSD-2-Clause
/* Packets from the guest: each belongs to a connection, begins one, or is answered by a reset. */
#include <endian.h>
#include <errno.h>

#include "device.h"

/* The header in the host's byte order. */
static bool read_header(const struct virtq_chain *chain, struct virtio_vsock_hdr *ret)
{
	struct virtio_vsock_hdr le;

	if (iov_read(chain->iov, chain->num_out, 0, &le, sizeof(le)) < sizeof(le))
		return false;
	*ret = (struct virtio_vsock_hdr){
		.src_cid = le64toh(le.src_cid),
		.dst_cid = le64toh(le.dst_cid),
		.src_port = le32toh(le.src_port),
		.dst_port = le32toh(le.dst_port),
		.len = le32toh(le.len),
		.type = le16toh(le.type),
		.op = le16toh(le.op),
		.flags = le32toh(le.flags),
		.buf_alloc = le32toh(le.buf_alloc),
		.fwd_cnt = le32toh(le.fwd_cnt),
	};
	return true;
}

/* The reply to a packet without a connection, or to its last one. */
static void refuse(struct vsock *v, const struct virtio_vsock_hdr *packet)
{
	unsigned slot = (v->first_reset + v->num_resets) % VSOCK_MAX_RESETS;

	if (packet->op == VIRTIO_VSOCK_OP_RST)
		return;
	v->reset[slot] = (struct vsock_reset){.cid = packet->dst_cid,
					      .guest_port = packet->src_port,
					      .host_port = packet->dst_port,
					      .type = packet->type};
	v->num_resets++;
}

/* The payload, `len` bytes behind the header, as an array of buffers: so many. */
static unsigned find_payload(struct iovec *iov, unsigned n, uint32_t len, struct iovec **ret)
{
	size_t skip = VSOCK_HEADER;
	unsigned used = 0;

	while (n && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		n--;
	}
	*ret = iov;
	for (size_t left = len; used < n && left; used++) {
		iov[used].iov_base = (uint8_t *)iov[used].iov_base + skip;
		iov[used].iov_len = MIN(iov[used].iov_len - skip, left);
		left -= iov[used].iov_len;
		skip = 0;
	}
	return used;
}

/* False when it is not what may be sent now. */
static bool take_data(struct vsock_conn *c, const struct virtio_vsock_hdr *h,
		      const struct virtq_chain *chain)
{
	struct iovec *data;
	unsigned n;

	if (c->state != VSOCK_OPEN || c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND ||
	    h->len > c->promise - (c->received - c->forwarded))
		return false;
	c->vsock->tx_packets++;
	c->vsock->tx_bytes += h->len;
	n = find_payload(chain->iov, chain->num_out, h->len, &data);
	if (h->len)
		vsock_send_to_host(c, data, n, h->len);
	return true;
}

/* False when the connection is not in a state for this. Else it may be gone. */
static bool carry_out(struct vsock_conn *c, const struct virtio_vsock_hdr *h,
		      const struct virtq_chain *chain)
{
	struct vsock *v = c->vsock;

	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state != VSOCK_ASKING)
			return false;
		vsock_greet_back(c);
		return true;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		if (c->state != VSOCK_OPEN)
			return false;
		if (vsock_shut(c, h->flags))
			refuse(v, h);
		return true;
	case VIRTIO_VSOCK_OP_RW:
		return take_data(c, h, chain);
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		if (c->state != VSOCK_OPEN)
			return false;
		vsock_tell(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		return true;
	default:
		return h->op == VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	}
}

static void packet_of(struct vsock_conn *c, const struct virtio_vsock_hdr *h,
		      const struct virtq_chain *chain)
{
	struct vsock *v = c->vsock;

	if (h->op == VIRTIO_VSOCK_OP_RST) {
		if (c->state == VSOCK_ASKING)
			v->refused++;
		vsock_conn_free(c);
		return;
	}
	if (c->state == VSOCK_RESETTING) /* it has not heard of that yet */
		return;
	c->guest_alloc = h->buf_alloc;
	c->guest_forwarded = h->fwd_cnt;
	c->asked = false;
	if (c->readable)
		vsock_make_ready(c);
	if (!carry_out(c, h, chain)) {
		refuse(v, h);
		vsock_conn_free(c);
	}
}

static void take_packet(struct vsock *v, const struct virtio_vsock_hdr *h,
			const struct virtq_chain *chain)
{
	bool streams = virtio_has(&v->dev, VSOCK_F_STREAM) ||
		       !virtio_has(&v->dev, VSOCK_F_NO_IMPLIED_STREAM);
	bool known =
		h->dst_cid == VMADDR_CID_HOST && h->type == VIRTIO_VSOCK_TYPE_STREAM && streams;
	struct vsock_conn *c = known ? vsock_find(v, h->src_port, h->dst_port) : NULL;

	if (h->src_cid != v->cid)
		return; /* nobody could be told */
	if (c) {
		packet_of(c, h, chain);
	} else if (!known || h->op != VIRTIO_VSOCK_OP_REQUEST || vsock_dial(v, h) < 0) {
		v->refused += h->op == VIRTIO_VSOCK_OP_REQUEST;
		refuse(v, h);
	}
}

/* 1: there is more, for the next turn; 0: that was all; -EAGAIN: no room for answers; -EBADMSG. */
static int transmit_some(struct vsock *v, const char **why)
{
	struct virtq *vq = &v->dev.queue[VSOCK_TX].vq;
	size_t bytes = 0;

	for (unsigned i = 0; i < VSOCK_TURN_PACKETS && bytes < VSOCK_TURN_BYTES; i++) {
		struct virtq_chain chain = {.iov = v->tx_iov, .max_iov = ARRAY_SIZE(v->tx_iov)};
		struct virtio_vsock_hdr h;
		int r;

		if (v->num_resets == VSOCK_MAX_RESETS)
			return -EAGAIN;
		r = virtq_pop(vq, &chain, why);
		if (r <= 0)
			return r;
		*why = "a packet in a device-writable buffer";
		if (chain.num_in)
			return -EBADMSG;
		*why = "a packet that is shorter than its header says";
		if (!read_header(&chain, &h) || h.len > chain.out_bytes - VSOCK_HEADER)
			return -EBADMSG;
		take_packet(v, &h, &chain);
		virtq_push(vq, chain.head, 0);
		bytes += h.len;
	}
	return 1;
}

void vsock_transmit(struct vsock *v)
{
	struct virtq *vq = &v->dev.queue[VSOCK_TX].vq;
	const char *why = "";
	int r;

	do {
		virtq_disable_kicks(vq);
		r = transmit_some(v, &why);
		virtio_queue_publish(&v->dev, VSOCK_TX);
		if (r == -EBADMSG)
			vsock_fail(v, VSOCK_TX, why);
		else if (r > 0)
			virtio_queue_kick_later(&v->dev, VSOCK_TX);
		v->tx_stalled = r == -EAGAIN;
	} while (r == 0 && virtq_enable_kicks(vq));
}
