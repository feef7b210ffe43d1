// SPDX-License-Identifier: BSD-2-Clause
/*
 * Frames over a stream socket.
 *
 * DOC: Theory of operation. One read(2) takes as much as there is into `in`, and frames go from there
 * to the guest one by one; so that nothing is read while the guest has no buffers, the other end is
 * held up, or drops. A frame is written from the guest's buffers. What the socket does not take of
 * it is copied to `out` and comes before all else: the frame has left the guest, whose driver may be
 * reset meanwhile, and a stream that lacked the rest would be of no more use. Both ends are hostile:
 * a length that no frame has ends the connection, as nobody knows where the next frame begins.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "device.h"

#define LENGTH	  sizeof(uint32_t)
#define MIN_FRAME 14u /* an Ethernet header */

struct stream {
	struct net_port port;
	size_t at, end;		 /* of what is in `in` */
	struct sockaddr_un peer; /* to connect to again */
	size_t out_at;		 /* port.unsent bytes of `out` from here */
	uint8_t out[LENGTH + NET_MAX_PACKET];
	uint8_t in[2 * (LENGTH + NET_MAX_PACKET)];
};

static struct stream *to_stream(struct net_port *port)
{
	return container_of(port, struct stream, port);
}

/* -errno as net_port_ops has it. */
static int result(ssize_t n)
{
	if (n >= 0)
		return 0;
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? -EAGAIN : -ECONNRESET;
}

/* Reads more. The start of a frame is moved to where there is room for all of it. */
static int fill(struct stream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->at, s->end - s->at);
	s->end -= s->at;
	s->at = 0;
	n = read(s->port.fd[0], s->in + s->end, sizeof(s->in) - s->end);
	if (n == 0)
		return -ECONNRESET;
	s->end += n < 0 ? 0 : (size_t)n;
	return result(n);
}

/* The length of the frame of which all is in `in`, after its length; -EAGAIN: there is none. */
static ssize_t whole_frame(const struct stream *s)
{
	size_t have = s->end - s->at;
	uint32_t len;

	if (have < LENGTH)
		return -EAGAIN;
	memcpy(&len, s->in + s->at, LENGTH);
	len = be32toh(len);
	if (len > NET_MAX_PACKET)
		return -EPROTO;
	return have - LENGTH < len ? -EAGAIN : (ssize_t)len;
}

static ssize_t stream_receive(struct net_port *port, unsigned pair, const struct iovec *iov,
			      unsigned num)
{
	static const struct virtio_net_hdr_v1 nothing = {.num_buffers = 0};
	struct stream *s = to_stream(port);
	const uint8_t *frame;
	ssize_t len;
	int r;

	(void)pair;
	if (port->fd[0] < 0)
		return -ECONNRESET;
	while ((len = whole_frame(s)) == -EAGAIN) {
		r = fill(s);
		if (r < 0)
			return r;
	}
	if (len < 0)
		return len;
	frame = s->in + s->at + LENGTH;
	s->at += LENGTH + (size_t)len;
	if (len < (ssize_t)MIN_FRAME ||
	    iov_write(iov, num, NET_HEADER, frame, (size_t)len) < (size_t)len)
		return 0;
	iov_write(iov, num, 0, &nothing, sizeof(nothing));
	return (ssize_t)NET_HEADER + len;
}

static int stream_flush(struct net_port *port)
{
	struct stream *s = to_stream(port);
	ssize_t n;

	if (!port->unsent)
		return 0;
	n = write(port->fd[0], s->out + s->out_at, port->unsent);
	if (n < 0)
		return result(n);
	s->out_at += (size_t)n;
	port->unsent -= (size_t)n;
	return port->unsent ? -EAGAIN : 0;
}

/* What is sent of a frame: its length, a copy of its start, where that is looked at, and the rest. */
struct frame {
	uint32_t length;
	uint8_t start[NET_FRAME_START];
	size_t copied;
	struct iovec pieces[VIRTQ_MAX_SIZE + 2];
};

/* Adds the pieces: how many. */
static unsigned frame_pieces(struct frame *f, const struct iovec *iov, unsigned num)
{
	size_t skip = NET_HEADER + f->copied;
	struct iovec *ret = f->pieces;
	unsigned n = 0;

	ret[n++] = (struct iovec){&f->length, LENGTH};
	if (f->copied)
		ret[n++] = (struct iovec){f->start, f->copied};
	for (unsigned i = 0; i < num; i++) {
		size_t cut = MIN(skip, iov[i].iov_len);

		skip -= cut;
		if (cut < iov[i].iov_len)
			ret[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + cut,
						  iov[i].iov_len - cut};
	}
	return n;
}

/* What is not whole without an offload that was never offered. */
static bool is_plain(const struct iovec *iov, unsigned num)
{
	struct virtio_net_hdr_v1 header = {.flags = 0};

	iov_read(iov, num, 0, &header, sizeof(header));
	return !(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	       header.gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

static int stream_send(struct net_port *port, unsigned pair, const struct iovec *iov, unsigned num,
		       size_t len)
{
	size_t whole = len - NET_HEADER + LENGTH;
	struct frame f = {.length = htobe32((uint32_t)(len - NET_HEADER)), .copied = 0};
	struct stream *s = to_stream(port);
	ssize_t n;
	int r;

	(void)pair;
	if (port->fd[0] < 0)
		return -ECONNRESET;
	if (len < NET_HEADER + MIN_FRAME || !is_plain(iov, num))
		return -EINVAL;
	if (port->refuses) {
		f.copied = iov_read(iov, num, NET_HEADER, f.start, sizeof(f.start));
		if (port->refuses(f.start, f.copied))
			return -EPERM;
	}
	r = stream_flush(port);
	if (r < 0)
		return r;
	num = frame_pieces(&f, iov, num);
	n = writev(port->fd[0], f.pieces, (int)num);
	if (n < 0)
		return result(n);
	port->unsent = iov_read(f.pieces, num, (size_t)n, s->out, whole - (size_t)n);
	s->out_at = 0;
	return 0;
}

static void stream_hang_up(struct net_port *port)
{
	struct stream *s = to_stream(port);

	close(port->fd[0]);
	port->fd[0] = -1;
	port->unsent = s->at = s->end = 0;
}

static int stream_accept(struct net_port *port)
{
	int fd = accept4(port->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return errno == EINTR || errno == ECONNABORTED ? -EAGAIN : -errno;
	if (port->fd[0] >= 0) {
		close(fd);
		return -EBUSY;
	}
	port->fd[0] = fd;
	return 0;
}

static int stream_connect(struct net_port *port)
{
	const struct sockaddr_un *peer = &to_stream(port)->peer;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)peer, sizeof(*peer)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	port->fd[0] = fd;
	return 0;
}

static const struct net_port_ops stream_ops = {
	.receive = stream_receive,
	.send = stream_send,
	.flush = stream_flush,
	.accept = stream_accept,
	.connect = stream_connect,
	.hang_up = stream_hang_up,
};

int net_stream_new(struct net_port **ret, int fd, int listener, const char *name, unsigned mtu,
		   struct error *e)
{
	struct stream *s = malloc(sizeof(*s));
	char *copy = strdup(name);

	if (!s || !copy) {
		free(s);
		free(copy);
		if (fd >= 0)
			close(fd);
		if (listener >= 0)
			close(listener);
		return error_set(e, -ENOMEM, "out of memory");
	}
	s->port = (struct net_port){.ops = &stream_ops,
				    .name = copy,
				    .fd = {fd},
				    .listener = listener,
				    .pairs = 1,
				    .mtu = mtu};
	s->at = s->end = s->out_at = 0;
	*ret = &s->port;
	return 0;
}

void net_stream_reconnects(struct net_port *port, const struct sockaddr_un *peer)
{
	to_stream(port)->peer = *peer;
	port->reconnects = true;
}
