// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to the guest.
 *
 * DOC: Theory of operation. Connections that have something to say wait in one line, and each says
 * it for as many buffers as one read fills, and goes to the end. So one that the guest gives no
 * credit, or a program that sends without end, holds up no other. It is all done once a turn of the
 * loop, after sockets and queues were looked at, and published together.
 */
#include <endian.h>
#include <errno.h>
#include <sys/uio.h>

#include "device.h"

/* Receive buffers for one read: their chains, and the buffers in v->rx_iov. */
struct batch {
	struct {
		uint16_t head;
		uint32_t first, num; /* of rx_iov */
		uint32_t room;	     /* for data */
	} chain[VSOCK_MAX_BATCH];
	unsigned num;
	unsigned num_iov, num_data; /* in v->rx_iov, and in v->rx_data: the room for data */
	uint32_t room;
};

static int broken(struct vsock *v, const char *why)
{
	vsock_fail(v, VSOCK_RX, why);
	return -EBADMSG;
}

/* Takes one more receive buffer, of which up to `max` bytes are for data. 1, 0 when there is none, or
 * -EBADMSG. */
static int take_buffer(struct vsock *v, struct batch *b, uint32_t max)
{
	struct virtq_chain chain = {.iov = v->rx_iov + b->num_iov,
				    .max_iov = VSOCK_MAX_IOV - b->num_iov};
	size_t skip = VSOCK_HEADER;
	const char *why;
	uint32_t room;
	int r = virtq_pop(&v->dev.queue[VSOCK_RX].vq, &chain, &why);

	if (r <= 0)
		return r < 0 ? broken(v, why) : 0;
	if (chain.num_out)
		return broken(v, "a receive buffer is device-readable");
	if (chain.in_bytes <= VSOCK_HEADER)
		return broken(v, "a receive buffer has no room for data");
	room = (uint32_t)MIN(chain.in_bytes - VSOCK_HEADER, max);
	b->chain[b->num].head = chain.head;
	b->chain[b->num].first = b->num_iov;
	b->chain[b->num].num = chain.num_in;
	b->chain[b->num].room = room;
	b->num++;
	b->room += room;
	for (unsigned i = 0; i < chain.num_in && room; i++) {
		const struct iovec *iov = &chain.iov[i];
		size_t n = iov->iov_len > skip ? MIN(iov->iov_len - skip, room) : 0;

		if (n)
			v->rx_data[b->num_data++] =
				(struct iovec){(uint8_t *)iov->iov_base + skip, n};
		room -= (uint32_t)n;
		skip -= MIN(skip, iov->iov_len);
	}
	b->num_iov += chain.num_in;
	return 1;
}

static void give_back_buffer(struct vsock *v, struct batch *b)
{
	virtq_unpop(&v->dev.queue[VSOCK_RX].vq, b->chain[--b->num].head);
}

/* Sends packet `i` of the batch, of which the data is there already. */
static void send_packet(struct vsock *v, const struct batch *b, unsigned i,
			const struct virtio_vsock_hdr *header)
{
	iov_write(v->rx_iov + b->chain[i].first, b->chain[i].num, 0, header, VSOCK_HEADER);
	virtq_push(&v->dev.queue[VSOCK_RX].vq, b->chain[i].head,
		   (uint32_t)VSOCK_HEADER + le32toh(header->len));
}

static struct virtio_vsock_hdr header_of(struct vsock_conn *c, uint16_t op, uint32_t len)
{
	c->told = c->forwarded;
	c->due &= ~(1u << op | 1u << VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	return (struct virtio_vsock_hdr){
		.src_cid = htole64(VMADDR_CID_HOST),
		.dst_cid = htole64(c->vsock->cid),
		.src_port = htole32(c->host_port),
		.dst_port = htole32(c->guest_port),
		.len = htole32(len),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16(op),
		.flags = htole32(op == VIRTIO_VSOCK_OP_SHUTDOWN ? c->host_shut : 0),
		.buf_alloc = htole32(c->promise),
		.fwd_cnt = htole32(c->forwarded),
	};
}

/* How much the guest takes now. One that lies gets nothing, or more than it has room for. */
static uint32_t credit_of(const struct vsock_conn *c)
{
	uint32_t on_its_way = c->sent - c->guest_forwarded;

	return on_its_way < c->guest_alloc ? c->guest_alloc - on_its_way : 0;
}

/* The program sends no more; when it has gone, it takes no more either. */
static void see_end(struct vsock_conn *c)
{
	uint32_t before = c->host_shut;

	c->readable = false;
	c->host_shut |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	if (c->hung_up) {
		c->host_shut |= VIRTIO_VSOCK_SHUTDOWN_RCV;
		vsock_close_socket(c);
	}
	if (c->host_shut != before)
		vsock_tell(c, VIRTIO_VSOCK_OP_SHUTDOWN);
}

/* What a read gave is the guest's, in as many buffers as it takes; the others go back. */
static void deliver_data(struct vsock_conn *c, struct batch *b, uint32_t len)
{
	struct vsock *v = c->vsock;
	unsigned used = 0;

	v->rx_bytes += len;
	c->sent += len;
	for (uint32_t left = len; left; used++) {
		uint32_t n = MIN(left, b->chain[used].room);
		struct virtio_vsock_hdr header = header_of(c, VIRTIO_VSOCK_OP_RW, n);

		send_packet(v, b, used, &header);
		left -= n;
	}
	v->rx_packets += used;
	/* A short read has emptied the socket, and more to come is a new event, unless it has come. */
	if (len < b->room && !c->ended)
		c->readable = false;
	c->batch = used == b->num ? MIN(2 * used, VSOCK_MAX_BATCH) : used + 1;
	while (b->num > used)
		give_back_buffer(v, b);
}

/* 1, 0 when there are no buffers, or -EBADMSG. */
static int read_socket(struct vsock_conn *c, uint32_t credit)
{
	struct vsock *v = c->vsock;
	struct batch b = {.num = 0};
	ssize_t n;
	int r = 1;

	while (r > 0 && b.num < c->batch && b.room < credit &&
	       VSOCK_MAX_IOV - b.num_iov >= VIRTQ_MAX_SIZE)
		r = take_buffer(v, &b, credit - b.room);
	if (r < 0 || !b.num)
		return r;
	n = readv(c->socket.fd, v->rx_data, (int)b.num_data);
	if (n > 0) {
		deliver_data(c, &b, (uint32_t)n);
		return 1;
	}
	r = n < 0 ? errno : 0;
	while (b.num)
		give_back_buffer(v, &b);
	if (n == 0)
		see_end(c);
	else if (r == EAGAIN)
		c->readable = false;
	else
		vsock_reset_guest(c);
	return 1;
}

static int send_op(struct vsock_conn *c, uint16_t op)
{
	struct virtio_vsock_hdr header;
	struct batch b = {.num = 0};
	int r = take_buffer(c->vsock, &b, 0);

	if (r <= 0)
		return r;
	header = header_of(c, op, 0);
	send_packet(c->vsock, &b, 0, &header);
	if (op == VIRTIO_VSOCK_OP_RST)
		vsock_conn_free(c);
	return 1;
}

/* The first of these operations that is due; 0: none. */
static uint16_t due_op(const struct vsock_conn *c, uint16_t from, uint16_t to)
{
	while (from <= to && !(c->due & 1u << from))
		from++;
	return from <= to ? from : 0;
}

/* What the connection does with its turn: 1; 0 when it needs buffers; -EBADMSG. Before data comes what
 * opens the connection or resets it, after data all else. */
static int conn_turn(struct vsock_conn *c)
{
	uint16_t op = due_op(c, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RST);
	uint32_t credit = credit_of(c);

	if (op)
		return send_op(c, op);
	if (c->state == VSOCK_OPEN && c->readable && c->socket.fd >= 0) {
		if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV) {
			c->readable = false;
			if (c->ended && c->hung_up)
				see_end(c);
		} else if (credit) {
			return read_socket(c, credit);
		} else if (!c->asked) {
			c->asked = true;
			c->due |= 1u << VIRTIO_VSOCK_OP_CREDIT_REQUEST;
		}
	}
	op = due_op(c, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	return op ? send_op(c, op) : 1;
}

static bool has_more(const struct vsock_conn *c)
{
	return c->due || (c->state == VSOCK_OPEN && c->readable && c->socket.fd >= 0 &&
			  (credit_of(c) || !c->asked));
}

/* 1, 0 when there are no buffers, or -EBADMSG. */
static int send_reset(struct vsock *v)
{
	const struct vsock_reset *reset = &v->reset[v->first_reset];
	struct virtio_vsock_hdr header = {
		.src_cid = htole64(reset->cid),
		.dst_cid = htole64(v->cid),
		.src_port = htole32(reset->host_port),
		.dst_port = htole32(reset->guest_port),
		.type = htole16(reset->type),
		.op = htole16(VIRTIO_VSOCK_OP_RST),
	};
	struct batch b = {.num = 0};
	int r = take_buffer(v, &b, 0);

	if (r <= 0)
		return r;
	send_packet(v, &b, 0, &header);
	v->first_reset = (v->first_reset + 1) % VSOCK_MAX_RESETS;
	v->num_resets--;
	return 1;
}

static int send_of_first(struct vsock *v)
{
	struct vsock_conn *c = fifo_take(&v->ready, struct vsock_conn, ready_link);
	bool goes = c->state == VSOCK_RESETTING;
	int r;

	c->is_ready = false;
	r = conn_turn(c);
	if (r < 0 || (r > 0 && goes)) /* it has gone */
		return r;
	if (r == 0) {
		fifo_prepend(&v->ready, &c->ready_link);
		c->is_ready = true;
	} else if (has_more(c)) {
		vsock_make_ready(c);
	}
	return r;
}

/* 1: there is more, for the next turn, 0 when there are no buffers, or -EBADMSG; -ENODATA when there is
 * nothing to send. */
static int deliver_some(struct vsock *v)
{
	int64_t end = v->rx_bytes + (int64_t)VSOCK_TURN_BYTES;
	int r = 1;

	for (unsigned i = 0; r > 0 && i < VSOCK_TURN_PACKETS && v->rx_bytes < end; i++) {
		if (v->num_resets)
			r = send_reset(v);
		else if (v->ready.first)
			r = send_of_first(v);
		else
			r = -ENODATA;
	}
	return r;
}

bool vsock_deliver(struct vsock *v)
{
	struct virtq *vq = &v->dev.queue[VSOCK_RX].vq;
	int r;

	if (!v->runs || v->starved || (!v->num_resets && !v->ready.first))
		return false;
	do {
		virtq_disable_kicks(vq);
		r = deliver_some(v);
		virtio_queue_publish(&v->dev, VSOCK_RX);
	} while (r == 0 && virtq_enable_kicks(vq));
	v->starved = r == 0;
	if (v->runs && v->tx_stalled && v->num_resets < VSOCK_MAX_RESETS) {
		v->tx_stalled = false;
		virtio_queue_kick_later(&v->dev, VSOCK_TX);
	}
	return r > 0;
}
