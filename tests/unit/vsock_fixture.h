// SPDX-License-Identifier: BSD-2-Clause
/* A socket device with real Unix sockets at the host's end, and a guest that speaks in packets. */
#ifndef SKEP_VSOCK_FIXTURE_H
#define SKEP_VSOCK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "driver.h"
#include "virtio/state.h"
#include "vsock/vsock.h"

#define ALL    UINT64_MAX
#define BIT(n) (1ull << (n))
#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define CID    77u
#define ALLOC  262144u /* that the guest says it has for each connection */
#define BUFFER 4096u   /* a receive buffer */

enum {
	REQUEST = VIRTIO_VSOCK_OP_REQUEST,
	RESPONSE = VIRTIO_VSOCK_OP_RESPONSE,
	RST = VIRTIO_VSOCK_OP_RST,
	SHUTDOWN = VIRTIO_VSOCK_OP_SHUTDOWN,
	RW = VIRTIO_VSOCK_OP_RW,
	UPDATE = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
	ASK = VIRTIO_VSOCK_OP_CREDIT_REQUEST,
	NO_MORE_RECEIVED = VIRTIO_VSOCK_SHUTDOWN_RCV,
	NO_MORE_SENT = VIRTIO_VSOCK_SHUTDOWN_SEND,
	NO_MORE = NO_MORE_RECEIVED | NO_MORE_SENT,
};

struct fixture {
	struct drv d;
	struct loop *loop;
	struct virtio_dev *dev;
	uint32_t cid;
	char dir[32], path[64];
	gpa_t rx_at[VIRTQ_MAX_SIZE]; /* of the buffer with this head */
	gpa_t tx;		     /* for one packet */
};

/* A packet that the guest got. */
struct packet {
	struct virtio_vsock_hdr h;
	uint8_t data[BUFFER];
};

/* The guest's side of a connection. */
struct flow {
	uint32_t guest_port, host_port;
	uint32_t received, sent;   /* bytes */
	uint32_t alloc, forwarded; /* the device's, as it last said */
	int host;		   /* the host's end */
};

static inline void up(struct fixture *f)
{
	struct error e = {""};
	int fd = unix_listen(f->path, VSOCK_BACKLOG, &e);

	if (fd < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(vsock_device_new(&f->dev, &f->d.mem, f->cid, f->path, fd, f->loop, &e), 0);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
}

static inline void down(struct fixture *f)
{
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
}

/* Offers receive buffers: header and data in one, or apart, as Linux has done both. */
static inline void offer(struct fixture *f, unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		gpa_t at = drv_alloc(&f->d, HEADER + BUFFER, 16);
		struct drv_buf bufs[] = {{at, HEADER, true}, {GPA(at.v + HEADER), BUFFER, true}};
		struct drv_buf one = {at, BUFFER, true};
		int head = drv_add(&f->d.queue[0], i % 2 ? bufs : &one, i % 2 ? 2 : 1);

		assert_true(head >= 0);
		f->rx_at[head] = at;
	}
	drv_kick_if_needed(&f->d.queue[0]);
}

static inline void start_driver(struct fixture *f, uint64_t features)
{
	drv_start(&f->d, features, 0);
	f->tx = drv_alloc(&f->d, HEADER + 65536, 16);
}

static inline struct fixture *start_with(uint64_t features, unsigned buffers)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->cid = CID;
	drv_init(&f->d, 32 * MIB);
	strcpy(f->dir, "/tmp/skep-vsock.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/v", f->dir);
	up(f);
	start_driver(f, features);
	offer(f, buffers);
	return f;
}

static inline struct fixture *start(void)
{
	return start_with(ALL, 64);
}

static inline void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
}

static inline struct vsock_counters counters(const struct fixture *f)
{
	struct vsock_counters c;

	vsock_counters(f->dev, &c);
	return c;
}

/* Waits until so many connections are there. */
static inline void wait_connections(const struct fixture *f, int64_t num)
{
	uint64_t until = patience_end();

	while (counters(f).connections != num) {
		assert_true(now_ns() < until);
		usleep(1000);
	}
}

/* The guest */

static inline struct virtio_vsock_hdr header_of(const struct flow *w, uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID,
		.dst_cid = VMADDR_CID_HOST,
		.src_port = w->guest_port,
		.dst_port = w->host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = ALLOC,
		.fwd_cnt = w->received,
	};
}

static inline void guest_sends_packet(struct fixture *f, const struct virtio_vsock_hdr *h,
				      const void *data, uint32_t len)
{
	struct drv_buf bufs[] = {{f->tx, HEADER, false}, {GPA(f->tx.v + HEADER), len, false}};
	uint32_t used;

	memcpy(drv_ptr(&f->d, f->tx, HEADER), h, HEADER);
	if (len)
		memcpy(drv_ptr(&f->d, bufs[1].addr, len), data, len);
	assert_true(drv_add(&f->d.queue[1], bufs, len ? 2 : 1) >= 0);
	drv_kick_if_needed(&f->d.queue[1]);
	drv_wait_used(&f->d.queue[1], NULL, &used);
	assert_int_equal(used, 0);
}

static inline void guest_sends(struct fixture *f, const struct flow *w, uint16_t op)
{
	struct virtio_vsock_hdr h = header_of(w, op);

	guest_sends_packet(f, &h, NULL, 0);
}

static inline void guest_shuts(struct fixture *f, const struct flow *w, uint32_t flags)
{
	struct virtio_vsock_hdr h = header_of(w, SHUTDOWN);

	h.flags = flags;
	guest_sends_packet(f, &h, NULL, 0);
}

static inline void guest_writes(struct fixture *f, struct flow *w, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = header_of(w, RW);

	h.len = len;
	w->sent += len;
	guest_sends_packet(f, &h, data, len);
}

/* The next packet, of which the buffer is offered again. */
static inline void guest_gets_any(struct fixture *f, struct packet *p)
{
	struct drv_queue *q = &f->d.queue[0];
	uint32_t id, len;
	gpa_t at;

	drv_wait_used(q, &id, &len);
	assert_in_range(len, HEADER, HEADER + BUFFER);
	at = f->rx_at[id];
	memcpy(p, drv_ptr(&f->d, at, len), len);
	assert_int_equal(p->h.len, len - HEADER);
	assert_int_equal(p->h.dst_cid, CID);
	f->rx_at[drv_add(
		q, (struct drv_buf[]){{at, HEADER, true}, {GPA(at.v + HEADER), BUFFER, true}}, 2)] =
		at;
	drv_kick_if_needed(q);
}

static inline void take(struct flow *w, const struct packet *p)
{
	w->alloc = p->h.buf_alloc;
	w->forwarded = p->h.fwd_cnt;
	w->received += p->h.len;
}

/* The next packet, which must be of this connection and operation. */
static inline void guest_gets(struct fixture *f, struct flow *w, uint16_t op, struct packet *p)
{
	guest_gets_any(f, p);
	assert_int_equal(p->h.op, op);
	assert_int_equal(p->h.src_cid, VMADDR_CID_HOST);
	assert_int_equal(p->h.src_port, w->host_port);
	assert_int_equal(p->h.dst_port, w->guest_port);
	assert_int_equal(p->h.type, VIRTIO_VSOCK_TYPE_STREAM);
	take(w, p);
}

static inline void guest_gets_shutdown(struct fixture *f, struct flow *w, uint32_t flags)
{
	struct packet p;

	guest_gets(f, w, SHUTDOWN, &p);
	assert_int_equal(p.h.flags, flags);
}

static inline void guest_reads(struct fixture *f, struct flow *w, const void *want, uint32_t len)
{
	uint32_t have = 0;
	struct packet p;

	while (have < len) {
		guest_gets(f, w, RW, &p);
		assert_true(p.h.len && p.h.len <= len - have);
		assert_memory_equal(p.data, (const uint8_t *)want + have, p.h.len);
		have += p.h.len;
	}
}

/* How much the device takes, when asked. */
static inline uint32_t guest_asks_for_credit(struct fixture *f, struct flow *w)
{
	struct packet p;

	guest_sends(f, w, ASK);
	guest_gets(f, w, UPDATE, &p);
	return w->alloc - (w->sent - w->forwarded);
}

/* The host */

static inline int host_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

static inline void host_writes(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* Connects, and says which port. */
static inline int host_connects(struct fixture *f, const char *line)
{
	struct sockaddr_un addr;
	int fd = host_socket();

	assert_int_equal(unix_address(&addr, f->path, NULL), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	host_writes(fd, line, strlen(line));
	return fd;
}

static inline void port_path(const struct fixture *f, uint32_t port, char ret[108])
{
	snprintf(ret, 108, "%s_%u", f->path, port);
}

static inline int host_listens(struct fixture *f, uint32_t port, int backlog)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = host_socket();

	port_path(f, port, addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static inline void host_stops(struct fixture *f, uint32_t port, int fd)
{
	char path[108];

	port_path(f, port, path);
	unlink(path);
	close(fd);
}

/* Up to `len` bytes, fewer at the end of them. */
static inline size_t host_reads(int fd, void *ret, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t have = 0;
	ssize_t n = 1;

	while (have < len && n > 0) {
		assert_int_equal(poll(&p, 1, patience_ms()), 1);
		n = recv(fd, (uint8_t *)ret + have, len - have, 0);
		have += n > 0 ? (size_t)n : 0;
	}
	return have;
}

static inline void host_gets(int fd, const void *want, size_t len)
{
	uint8_t *got = malloc(len + 1);

	assert_non_null(got);
	assert_int_equal(host_reads(fd, got, len), len);
	assert_memory_equal(got, want, len);
	free(got);
}

static inline void host_gets_end(int fd)
{
	char byte;

	assert_int_equal(host_reads(fd, &byte, 1), 0);
}

/* Connections */

static inline struct flow connect_from_host(struct fixture *f, uint32_t port)
{
	struct flow w = {.guest_port = port};
	char line[32], ok[32];
	struct packet p;

	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	w.host = host_connects(f, line);
	guest_gets_any(f, &p);
	w.host_port = p.h.src_port;
	take(&w, &p);
	assert_int_equal(p.h.op, REQUEST);
	assert_int_equal(p.h.dst_port, port);
	assert_int_equal(p.h.src_cid, VMADDR_CID_HOST);
	guest_sends(f, &w, RESPONSE);
	snprintf(ok, sizeof(ok), "OK %u\n", w.host_port);
	host_gets(w.host, ok, strlen(ok));
	return w;
}

static inline struct flow connect_from_guest(struct fixture *f, uint32_t guest_port,
					     uint32_t host_port, int listener)
{
	struct flow w = {.guest_port = guest_port, .host_port = host_port};
	struct packet p;

	guest_sends(f, &w, REQUEST);
	w.host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(w.host >= 0);
	guest_gets(f, &w, RESPONSE, &p);
	return w;
}

static inline void fill(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(seed + i * 7 + i / 253);
}

#endif
