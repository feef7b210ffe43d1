// SPDX-License-Identifier: BSD-2-Clause
/* A port with a real end on the host, and a driver that speaks its control messages. */
#ifndef SKEP_VPORT_FIXTURE_H
#define SKEP_VPORT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inherited.h"
#include "base/log.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "driver.h"
#include "loops.h"
#include "patience.h"
#include "read_all.h"
#include "virtio/state.h"
#include "vport/vport.h"

#define ALL    UINT64_MAX
#define PLAIN  (1ull << VIRTIO_F_VERSION_1) /* neither EVENT_IDX nor MULTIPORT */
#define BUFFER 4096u

enum { RX, TX, CTRL_RX, CTRL_TX };
enum {
	DEVICE_READY = VIRTIO_CONSOLE_DEVICE_READY,
	PORT_ADD = VIRTIO_CONSOLE_PORT_ADD,
	PORT_READY = VIRTIO_CONSOLE_PORT_READY,
	PORT_OPEN = VIRTIO_CONSOLE_PORT_OPEN,
	PORT_NAME = VIRTIO_CONSOLE_PORT_NAME,
};

struct fixture {
	struct drv d;
	struct loop *loop;
	struct virtio_dev *dev;
	char dir[32], path[64];
	gpa_t at[4][64]; /* of the buffer with this head */
};

struct message {
	struct virtio_console_control header;
	char name[64];
};

static inline void offer(struct fixture *f, unsigned q, unsigned num, uint32_t len)
{
	for (unsigned i = 0; i < num; i++) {
		struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, true};
		int head = drv_add(&f->d.queue[q], &buf, 1);

		assert_true(head >= 0);
		f->at[q][head] = buf.addr;
	}
	drv_kick_if_needed(&f->d.queue[q]);
}

/* The next that the guest gets in queue `q`; its length. */
static inline uint32_t take(struct fixture *f, unsigned q, void *ret, size_t size)
{
	uint32_t id, len;

	drv_wait_used(&f->d.queue[q], &id, &len);
	assert_true(len <= size);
	memcpy(ret, drv_ptr(&f->d, f->at[q][id], len), len);
	return len;
}

static inline void transmit(struct fixture *f, unsigned q, const void *data, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, false};

	memcpy(drv_ptr(&f->d, buf.addr, len), data, len);
	assert_true(drv_add(&f->d.queue[q], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[q]);
}

static inline void say(struct fixture *f, uint32_t id, unsigned event, unsigned value)
{
	struct virtio_console_control m = {id, (uint16_t)event, (uint16_t)value};

	transmit(f, CTRL_TX, &m, sizeof(m));
	drv_wait_used(&f->d.queue[CTRL_TX], NULL, NULL);
}

static inline void expect(struct fixture *f, unsigned event, unsigned value)
{
	struct message m = {.name = ""};
	uint32_t len;

	offer(f, CTRL_RX, 1, sizeof(m));
	len = take(f, CTRL_RX, &m, sizeof(m));
	assert_int_equal(m.header.id, 0);
	assert_int_equal(m.header.event, event);
	assert_int_equal(m.header.value, value);
	assert_int_equal(len, sizeof(m.header) + (event == PORT_NAME ? strlen("org.skep.0") : 0));
	if (event == PORT_NAME)
		assert_string_equal(m.name, "org.skep.0");
}

/* As Linux does it; `open`: a program opens the port. */
static inline void shake_hands(struct fixture *f, bool host_is_there, bool open)
{
	say(f, VIRTIO_CONSOLE_BAD_ID, DEVICE_READY, 1);
	expect(f, PORT_ADD, 1);
	say(f, 0, PORT_READY, 1);
	expect(f, PORT_NAME, 1);
	if (host_is_there)
		expect(f, PORT_OPEN, 1);
	if (open)
		say(f, 0, PORT_OPEN, 1);
}

static inline void up(struct fixture *f, const struct vport_end *end)
{
	struct error e = {""};

	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 0, NULL), 0);
	if (vport_device_new(&f->dev, &f->d.mem, "org.skep.0", end, f->loop, &e) < 0)
		fail_msg("%s", e.msg);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
}

static inline struct fixture *start_with(const struct vport_end *end, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	drv_init(&f->d, 64 * MIB);
	up(f, end);
	drv_start(&f->d, features, 0);
	return f;
}

static inline struct vport_end an_end(int fd)
{
	return (struct vport_end){.fd = fd,
				  .listener = -1,
				  .other = -1,
				  .reads = true,
				  .writes = true,
				  .where = "there"};
}

/* A socket at which programs come and go. */
static inline struct fixture *start(void)
{
	struct fixture *f;
	struct vport_end end = an_end(-1);
	char dir[] = "/tmp/skep-port.XXXXXX", path[64];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	end.listener = unix_listen(path, 8, NULL);
	assert_true(end.listener >= 0);
	f = start_with(&end, ALL);
	strcpy(f->dir, dir);
	strcpy(f->path, path);
	return f;
}

static inline void down(struct fixture *f)
{
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
}

static inline void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	if (f->dir[0]) {
		unlink(f->path);
		assert_int_equal(rmdir(f->dir), 0);
	}
	free(f);
}

static inline int dial(const struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	assert_int_equal(unix_address(&addr, f->path, NULL), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline struct vport_counters counters(const struct fixture *f)
{
	struct vport_counters c;

	vport_counters(f->dev, &c);
	return c;
}

/* The guest reads exactly this, in as many buffers as it takes. */
static inline void guest_reads(struct fixture *f, const void *data, size_t len)
{
	uint8_t got[BUFFER];

	for (size_t n = 0; n < len;) {
		uint32_t part;

		offer(f, RX, 1, BUFFER);
		part = take(f, RX, got, sizeof(got));
		assert_true(part <= len - n);
		assert_memory_equal(got, (const char *)data + n, part);
		n += part;
	}
}

static inline bool is_broken(struct fixture *f)
{
	settle(f->loop);
	return drv_is_broken(&f->d);
}

#endif
