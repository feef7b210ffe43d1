// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's end: programs that connect to PATH, those that listen at PATH_PORT, and what passes
 * between them and the guest's packets.
 *
 * DOC: Theory of operation. Sockets are watched for edges, so that nothing has to be told to the
 * kernel when the guest has no buffers or gives no credit: what is known of a socket (it is
 * readable) is kept in the connection. Only what the host does not take is waited for, while there
 * is some. That is at most what the guest was promised, and is the only copy that is ever made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "device.h"

#define ACCEPT_TURN   64u /* clients in one go */
#define DIAL_AGAIN_NS (10 * NSEC_PER_SEC / 1000)
#define DIAL_NS	      (5 * NSEC_PER_SEC) /* with a listener whose backlog is full */
#define EVENTS	      (EPOLLIN | EPOLLRDHUP | EPOLLET)
#define BOTH	      ((uint32_t)VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/* Data from the guest */

/* The guest should know when half of what it was promised is free again. */
static void give_credit(struct vsock_conn *c)
{
	uint32_t seems_free = c->promise - (c->received - c->told);

	if (c->state == VSOCK_OPEN && c->forwarded != c->told && seems_free < c->promise / 2)
		vsock_tell(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

/* The program has closed its end, or does not read any more. */
static void host_takes_no_more(struct vsock_conn *c)
{
	vsock_drop_held(c);
	if (c->state != VSOCK_OPEN || c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return;
	c->host_shut |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	vsock_tell(c, VIRTIO_VSOCK_OP_SHUTDOWN);
}

/* Bytes that were written; the rest of what there is will be dropped or tried again. */
static uint32_t write_some(struct vsock_conn *c, const struct iovec *iov, unsigned n)
{
	ssize_t done = writev(c->socket.fd, iov, (int)n);

	if (done < 0 && errno != EAGAIN)
		host_takes_no_more(c);
	return done < 0 ? 0 : (uint32_t)done;
}

static int keep(struct vsock_conn *c, const struct iovec *iov, unsigned n, uint32_t from,
		uint32_t len)
{
	uint32_t size = MAX(c->held_size, 4096u);
	uint8_t *held;

	while (size < c->held_len + len)
		size *= 2;
	if (size > c->held_size) {
		held = realloc(c->held, size);
		if (!held)
			return -ENOMEM;
		c->held = held;
		c->held_size = size;
	}
	if (c->held_at + c->held_len + len > size) {
		memmove(c->held, c->held + c->held_at, c->held_len);
		c->held_at = 0;
	}
	iov_read(iov, n, from, c->held + c->held_at + c->held_len, len);
	c->held_len += len;
	loop_watch_for(&c->socket, EVENTS | EPOLLOUT);
	return 0;
}

void vsock_send_to_host(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len)
{
	uint32_t done = 0;

	c->received += len;
	if (!c->held_len && !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV))
		done = write_some(c, iov, n);
	if (c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		done = len; /* nobody wants it */
	c->forwarded += done;
	if (done < len && keep(c, iov, n, done, len - done) < 0)
		vsock_reset_guest(c);
	else
		give_credit(c);
}

/* The program has room again. False when the connection is gone. */
static bool flush(struct vsock_conn *c)
{
	uint32_t done = 1;

	while (c->held_len && done) {
		struct iovec rest = {c->held + c->held_at, c->held_len};

		done = write_some(c, &rest, 1);
		c->forwarded += done;
		c->held_at += done;
		c->held_len -= MIN(done, c->held_len);
	}
	if (!c->held_len) {
		vsock_drop_held(c);
		loop_watch_for(&c->socket, EVENTS);
		if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
			shutdown(c->socket.fd, SHUT_WR);
	}
	give_credit(c);
	if (c->state != VSOCK_LINGERING || c->held_len)
		return true;
	vsock_conn_free(c);
	return false;
}

bool vsock_shut(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & BOTH;
	if (c->socket.fd >= 0 && c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		shutdown(c->socket.fd, SHUT_RD);
	if (c->socket.fd >= 0 && c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND && !c->held_len)
		shutdown(c->socket.fd, SHUT_WR);
	if (c->guest_shut != BOTH)
		return false;
	vsock_forget_ports(c);
	c->state = VSOCK_LINGERING;
	c->due = 0;
	if (!c->held_len)
		vsock_conn_free(c);
	return true;
}

/* Connections that the host begins */

static bool parse_port(const char *line, uint32_t *ret)
{
	uint64_t port = 0;
	const char *p;

	if (strncasecmp(line, "CONNECT ", 8) != 0 || !line[8])
		return false;
	for (p = line + 8; *p >= '0' && *p <= '9' && port <= UINT32_MAX; p++)
		port = port * 10 + (unsigned)(*p - '0');
	*ret = (uint32_t)port;
	return !*p && port <= UINT32_MAX;
}

/* Reads the line, and no byte of what may follow it. 1: it is there, 0: not yet, or -EBADMSG. */
static int read_line(struct vsock_conn *c)
{
	for (;;) {
		char byte;
		ssize_t n = read(c->socket.fd, &byte, 1);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0 || c->line_len == sizeof(c->line) - 1)
			return -EBADMSG;
		if (byte == '\n')
			return strlen(c->line) == c->line_len ? 1 : -EBADMSG;
		c->line[c->line_len++] = byte;
	}
}

static void greet(struct vsock_conn *c)
{
	struct vsock *v = c->vsock;
	uint32_t port;
	int r = read_line(c);

	if (r == 0)
		return;
	if (r < 0 || !parse_port(c->line, &port) || !v->runs) {
		v->refused += r > 0 || c->line_len; /* not who looks whether anybody listens */
		vsock_conn_free(c);
		return;
	}
	c->state = VSOCK_ASKING;
	vsock_set_ports(c, port, vsock_pick_port(v, port));
	vsock_tell(c, VIRTIO_VSOCK_OP_REQUEST);
}

void vsock_greet_back(struct vsock_conn *c)
{
	int len = snprintf(c->line, sizeof(c->line), "OK %u\n", c->host_port);

	/* Who has gone meanwhile does not read it; else there is room, as it is the first. */
	(void)!write(c->socket.fd, c->line, (size_t)len);
	c->state = VSOCK_OPEN;
	c->readable = true;
	c->vsock->from_host++;
	vsock_make_ready(c);
}

/* Sockets */

static void socket_ready(struct loop_fd *w, uint32_t events)
{
	struct vsock_conn *c = container_of(w, struct vsock_conn, socket);

	c->readable = true;
	c->ended = c->ended || events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	c->hung_up = c->hung_up || events & EPOLLHUP;
	if (c->state == VSOCK_GREETING)
		greet(c);
	else if ((!c->held_len || flush(c)) && c->state == VSOCK_OPEN)
		vsock_make_ready(c);
}

static int watch(struct vsock_conn *c)
{
	int fd = c->socket.fd, r;

	r = loop_watch(c->vsock->loop, &c->socket, fd, EVENTS, socket_ready);
	if (r < 0)
		c->socket = (struct loop_fd){.fd = fd};
	return r;
}

static int accept_client(struct vsock *v)
{
	int fd = accept4(v->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct vsock_conn *c;

	if (fd < 0)
		return errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
	c = vsock_conn_new(v, VSOCK_GREETING, fd);
	if (!c)
		close(fd);
	else if (watch(c) < 0)
		vsock_conn_free(c);
	return 0;
}

static void listener_ready(struct loop_fd *w, uint32_t events)
{
	struct vsock *v = container_of(w, struct vsock, listener);
	int r = 0;

	(void)events;
	for (unsigned i = 0; r == 0 && i < ACCEPT_TURN && v->num < VSOCK_MAX_CONNECTIONS; i++)
		r = accept_client(v);
	if (r == 0 || r == -EAGAIN)
		return;
	/* Out of descriptors, or of memory: it stays ready. */
	log_guest("virtio-vsock: %s: %s: trying again", v->path, strerror(-r));
	v->listener_failed = true;
	vsock_look_at_listener(v);
	loop_timer_set(&v->retry, NSEC_PER_SEC);
}

/* Connections that the guest begins */

/* 0, -EAGAIN while the listener has no room, or another error. */
static int dial(const struct vsock *v, int fd, uint32_t port)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", v->path, port);
	return connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

static void answer(struct vsock_conn *c)
{
	c->state = VSOCK_OPEN;
	if (watch(c) < 0) {
		vsock_reset_guest(c);
		return;
	}
	c->vsock->from_guest++;
	vsock_tell(c, VIRTIO_VSOCK_OP_RESPONSE);
}

int vsock_dial(struct vsock *v, const struct virtio_vsock_hdr *request)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : dial(v, fd, request->dst_port);
	struct vsock_conn *c = NULL;

	if (r == 0 || r == -EAGAIN)
		c = vsock_conn_new(v, VSOCK_DIALLING, fd);
	if (!c) {
		if (fd >= 0)
			close(fd);
		return r ? r : -ENOMEM;
	}
	vsock_set_ports(c, request->src_port, request->dst_port);
	c->guest_alloc = request->buf_alloc;
	c->guest_forwarded = request->fwd_cnt;
	c->dialled_ns = now_ns();
	if (r == 0)
		answer(c);
	else
		loop_timer_set(&v->retry, DIAL_AGAIN_NS);
	return 0;
}

static void retry(struct loop_timer *t)
{
	struct vsock *v = container_of(t, struct vsock, retry);
	bool waits = false;

	for (struct vsock_conn *c = v->all; c; c = c->next) {
		int r = c->state == VSOCK_DIALLING ? dial(v, c->socket.fd, c->host_port) : -EISCONN;

		if (r == -EISCONN)
			continue;
		if (r == 0) {
			answer(c);
		} else if (r == -EAGAIN && now_ns() - c->dialled_ns < DIAL_NS) {
			waits = true;
		} else {
			v->refused++;
			vsock_reset_guest(c);
		}
	}
	if (waits)
		loop_timer_set(t, DIAL_AGAIN_NS);
	v->listener_failed = false;
	vsock_look_at_listener(v);
}

int vsock_host_init(struct vsock *v, int listener)
{
	int r = loop_timer_init(v->loop, &v->retry, retry);

	if (r == 0)
		r = loop_watch(v->loop, &v->listener, listener, EPOLLIN, listener_ready);
	return r;
}

void vsock_host_close(struct vsock *v)
{
	loop_timer_close(&v->retry);
	if (v->listener.fd >= 0)
		close(v->listener.fd);
}
