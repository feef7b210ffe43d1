// SPDX-License-Identifier: BSD-2-Clause
/* A guest with a device of each kind, which is saved and goes on as another one: virtio/state.h. */
#ifndef SKEP_STATE_FIXTURE_H
#define SKEP_STATE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_vsock.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "blk/blk.h"
#include "blk/disk.h"
#include "console/console.h"
#include "disk.h"
#include "driver.h"
#include "echo.h"
#include "fs/fs.h"
#include "mem.h"
#include "rng/rng.h"
#include "virtio/state.h"
#include "vport/vport.h"
#include "vsock/vsock.h"

#define ALL  UINT64_MAX
#define SIZE (8 * MIB)

struct fixture;

struct kind {
	const char *name;
	void (*open)(struct fixture *f);
	/* Makes a request of this kind available; looks at what came of it. */
	void (*send)(struct fixture *f, unsigned n);
	void (*check)(struct fixture *f, unsigned n, uint32_t len);
	unsigned queue; /* for requests */
	enum disk_engine engine;
};

/* A guest and its device. */
struct fixture {
	const struct kind *kind;
	struct drv d;
	struct loop *loop[2], *worker;
	struct virtio_dev *dev;
	struct echo *echo;
	struct mem_host mem;
	uint32_t plugged; /* as the driver has it */
	struct tty tty;
	int out; /* what the console wrote */
	char *image;
	gpa_t buffer;
	uint8_t *data;
	struct virtio_state state;
};

/* The kinds of devices */

static inline void open_echo(struct fixture *f)
{
	f->echo = echo_new(&f->d.mem, 2, 64, f->loop[0]);
	f->dev = &f->echo->dev;
}

static inline void send_echo(struct fixture *f, unsigned n)
{
	memset(f->data, (int)n, 64);
	memset(f->data + 64, 0, 64);
	assert_true(drv_add(&f->d.queue[0],
			    (struct drv_buf[]){{f->buffer, 64, false},
					       {GPA(f->buffer.v + 64), 64, true}},
			    2) >= 0);
}

static inline void check_echo(struct fixture *f, unsigned n, uint32_t len)
{
	(void)n;
	assert_int_equal(len, 64);
	assert_memory_equal(f->data, f->data + 64, 64);
}

static inline void open_rng(struct fixture *f)
{
	assert_int_equal(rng_device_new(&f->dev, &f->d.mem, f->loop[0], NULL), 0);
}

static inline void send_rng(struct fixture *f, unsigned n)
{
	(void)n;
	memset(f->data, 0, 64);
	assert_true(drv_add(&f->d.queue[0], &(struct drv_buf){f->buffer, 64, true}, 1) >= 0);
}

static inline void check_rng(struct fixture *f, unsigned n, uint32_t len)
{
	(void)n;
	assert_int_equal(len, 64);
	assert_false(mem_is_zero(f->data, 64));
}

/* A terminal, which is another one each time. */
static inline void open_console(struct fixture *f)
{
	struct winsize size = {.ws_col = 132, .ws_row = 50};
	int far_end;

	if (f->out >= 0)
		close(f->out);
	assert_int_equal(openpty(&f->out, &far_end, NULL, NULL, &size), 0);
	f->tty = (struct tty){
		.in_fd = -1, .out_fd = far_end, .listener = -1, .far_end = -1, .old = -1};
	assert_int_equal(writer_new(&f->tty.writer, far_end, "console", NULL), 0);
	assert_int_equal(tty_start(&f->tty, NULL, NULL, NULL), 0);
	assert_int_equal(console_device_new(&f->dev, &f->d.mem, &f->tty, f->loop[0], NULL), 0);
}

static inline void send_console(struct fixture *f, unsigned n)
{
	f->data[0] = (uint8_t)('a' + n % 26);
	assert_true(drv_add(&f->d.queue[1], &(struct drv_buf){f->buffer, 1, false}, 1) >= 0);
}

static inline void check_console(struct fixture *f, unsigned n, uint32_t len)
{
	char byte = 0;

	assert_int_equal(len, 0);
	assert_int_equal(read(f->out, &byte, 1), 1);
	assert_int_equal(byte, 'a' + n % 26);
}

static inline void open_blk(struct fixture *f)
{
	struct disk_config config = {
		.path = f->image, .queues = 2, .engine = f->kind->engine, .serial = "x"};
	struct blk_image *image;
	struct error e = {""};

	if (blk_image_open(&image, &config, &e) < 0 ||
	    blk_device_new(&f->dev, &f->d.mem, image, &config, f->loop, &e) < 0)
		fail_msg("%s", e.msg);
	f->worker = blk_device_worker(f->dev);
}

/* A write of sector n, with its status behind it. */
static inline void send_blk(struct fixture *f, unsigned n)
{
	struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_OUT, .sector = n};

	memcpy(f->data, &header, sizeof(header));
	memset(f->data + 512, (int)n, 512);
	f->data[1024] = 0xee;
	assert_true(drv_add(&f->d.queue[1],
			    (struct drv_buf[]){{f->buffer, 16, false},
					       {GPA(f->buffer.v + 512), 512, false},
					       {GPA(f->buffer.v + 1024), 1, true}},
			    3) >= 0);
}

static inline void check_blk(struct fixture *f, unsigned n, uint32_t len)
{
	uint8_t sector[512];
	int fd = open(f->image, O_RDONLY | O_CLOEXEC);

	assert_int_equal(len, 1);
	assert_int_equal(f->data[1024], VIRTIO_BLK_S_OK);
	assert_int_equal(pread(fd, sector, 512, 512 * n), 512);
	assert_memory_equal(sector, f->data + 512, 512);
	close(fd);
}

static inline void open_vsock(struct fixture *f)
{
	char path[64];
	int listener;

	snprintf(path, sizeof(path), "%s.v", f->image);
	listener = unix_listen(path, 1, NULL);
	assert_true(listener >= 0);
	unlink(path);
	assert_int_equal(vsock_device_new(&f->dev, &f->d.mem, 3, path, listener, f->loop[0], NULL),
			 0);
}

/* A packet that belongs to nothing, and is not answered. */
static inline void send_vsock(struct fixture *f, unsigned n)
{
	struct virtio_vsock_hdr header = {.src_cid = 3,
					  .dst_cid = VMADDR_CID_HOST,
					  .src_port = n,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = VIRTIO_VSOCK_OP_RST};

	memcpy(f->data, &header, sizeof(header));
	assert_true(drv_add(&f->d.queue[1], &(struct drv_buf){f->buffer, sizeof(header), false},
			    1) >= 0);
}

static inline void check_vsock(struct fixture *f, unsigned n, uint32_t len)
{
	(void)f;
	(void)n;
	assert_int_equal(len, 0);
}

static inline void open_mem(struct fixture *f)
{
	f->dev = mem_open(&f->mem, &f->d, f->loop[0]);
	assert_non_null(f->dev);
	assert_int_equal(mem_set_size(f->dev, gmem_size(&f->d.mem) + MEM_MAX, NULL), 0);
}

/* A block comes, or goes if it is there. */
static inline void send_mem(struct fixture *f, unsigned n)
{
	bool there = f->plugged >> n % 32 & 1;

	mem_request(&f->d, f->data, there ? VIRTIO_MEM_REQ_UNPLUG : VIRTIO_MEM_REQ_PLUG, n % 32, 1);
	assert_true(drv_add(&f->d.queue[0],
			    (struct drv_buf[]){{f->buffer, 24, false},
					       {GPA(f->buffer.v + 64), 10, true}},
			    2) >= 0);
}

static inline void check_mem(struct fixture *f, unsigned n, uint32_t len)
{
	assert_int_equal(len, 10);
	assert_int_equal(f->data[64], VIRTIO_MEM_RESP_ACK);
	f->plugged ^= 1u << n % 32;
}

/* Somebody is there from the start; it is somebody else each time. */
static inline void open_vport(struct fixture *f)
{
	struct vport_end end = {.listener = -1, .other = -1, .reads = true, .writes = true};
	int pair[2];

	if (f->out >= 0)
		close(f->out);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f->out = pair[0];
	end.fd = pair[1];
	assert_int_equal(vport_device_new(&f->dev, &f->d.mem, "x", &end, f->loop[0], NULL), 0);
}

static inline void open_fs(struct fixture *f)
{
	const struct fs_share share = {
		.root = open("/", O_PATH | O_CLOEXEC), .tag = "x", .queues = 1, .max_files = 16};

	assert_int_equal(fs_device_new(&f->dev, &f->d.mem, &share, f->loop, NULL), 0);
}

/* Nothing is mounted yet. */
static inline void send_fs(struct fixture *f, unsigned n)
{
	const struct fuse_in_header header = {.len = sizeof(header),
					      .opcode = FUSE_READLINK,
					      .unique = n,
					      .nodeid = FUSE_ROOT_ID};

	memcpy(f->data, &header, sizeof(header));
	assert_true(drv_add(&f->d.queue[1],
			    (struct drv_buf[]){{f->buffer, sizeof(header), false},
					       {GPA(f->buffer.v + 64), 64, true}},
			    2) >= 0);
}

static inline void check_fs(struct fixture *f, unsigned n, uint32_t len)
{
	struct fuse_out_header answer;

	memcpy(&answer, f->data + 64, sizeof(answer));
	assert_int_equal(len, sizeof(answer));
	assert_int_equal(answer.unique, n);
	assert_int_equal(answer.error, -EIO);
}

static const struct kind kinds[] = {
	{"echo", open_echo, send_echo, check_echo, 0, ENGINE_SYNC},
	{"rng", open_rng, send_rng, check_rng, 0, ENGINE_SYNC},
	{"console", open_console, send_console, check_console, 1, ENGINE_SYNC},
	{"blk, sync", open_blk, send_blk, check_blk, 1, ENGINE_SYNC},
	{"blk, auto", open_blk, send_blk, check_blk, 1, ENGINE_AUTO},
	{"vsock", open_vsock, send_vsock, check_vsock, 1, ENGINE_SYNC},
	{"mem", open_mem, send_mem, check_mem, 0, ENGINE_SYNC},
	{"port", open_vport, send_console, check_console, 1, ENGINE_SYNC},
	{"fs", open_fs, send_fs, check_fs, 1, ENGINE_SYNC},
};

/* Their lives */

static inline void up(struct fixture *f)
{
	static const enum loop_engine engines[] = {LOOP_AUTO, LOOP_URING, LOOP_EPOLL};

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(loop_new(&f->loop[i], "test", engines[f->kind->engine], 64, NULL),
				 0);
	f->kind->open(f);
	drv_attach_coalesced(&f->d, f->dev);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(loop_start(f->loop[i], NULL, NULL, NULL), 0);
	if (f->worker)
		assert_int_equal(loop_start(f->worker, NULL, NULL, NULL), 0);
}

static inline void down(struct fixture *f)
{
	for (unsigned i = 0; i < 2; i++)
		loop_stop(f->loop[i]);
	if (f->worker)
		loop_stop(f->worker);
	virtio_dev_free(f->dev);
	for (unsigned i = 0; i < 2; i++)
		loop_free(f->loop[i]);
	loop_free(f->worker);
	f->worker = NULL;
	if (f->tty.writer) {
		writer_stop(f->tty.writer, TTY_LAST_NS);
		writer_free(f->tty.writer);
		close(f->tty.out_fd);
		f->tty.writer = NULL;
	}
}

static inline struct fixture *start(const struct kind *kind, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	print_message("# %s\n", kind->name);
	f->kind = kind;
	f->out = -1;
	f->image = disk_file(SIZE);
	drv_init(&f->d, 16 * MIB);
	f->buffer = drv_alloc(&f->d, 4096, 16);
	f->data = drv_ptr(&f->d, f->buffer, 4096);
	up(f);
	if (features)
		drv_start(&f->d, features, 0);
	return f;
}

static inline void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	if (f->out >= 0)
		close(f->out);
	unlink(f->image);
	free(f->image);
	free(f);
}

static inline void request(struct fixture *f, unsigned n)
{
	struct drv_queue *q = &f->d.queue[f->kind->queue];
	uint32_t len;

	f->kind->send(f, n);
	drv_kick_if_needed(q);
	drv_wait_used(q, NULL, &len);
	f->kind->check(f, n, len);
}

static inline void save(struct fixture *f)
{
	uint64_t until = patience_end();
	struct error e = {""};

	virtio_dev_pause(f->dev);
	while (virtio_dev_save(f->dev, &f->state, &e) == -EBUSY) {
		assert_true(now_ns() < until);
		usleep(1000);
	}
}

/* Another device takes the place of this one, as in another process. */
static inline void replace(struct fixture *f)
{
	down(f);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(f);
}

static inline void restore(struct fixture *f)
{
	struct error e = {""};

	if (virtio_dev_restore(f->dev, &f->state, &e) < 0)
		fail_msg("%s", e.msg);
}

static inline void expect_refused(struct fixture *f, const char *why)
{
	struct error e = {""};

	assert_int_equal(virtio_dev_restore(f->dev, &f->state, &e), -EINVAL);
	if (!strstr(e.msg, why))
		fail_msg("not '%s' but: %s", why, e.msg);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_STATUS), 0);
}

#endif
