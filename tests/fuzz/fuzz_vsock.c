// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to and from virtio-vsock, and programs at its Unix sockets. Input: options, then one command
 * after the other. The device's loop runs, on this thread: a command a turn. What must hold: see
 * guest_check().
 */
#include <linux/virtio_vsock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/unixsocket.h"
#include "device.h"
#include "vsock/vsock.h"

enum { RX, TX, EVENT, NUM_QUEUES };

#define CID	     3u
#define MAX_COMMANDS 64u
#define SETTLING     4u /* turns after the last command */
#define PORTS	     2u /* at which the host listens */

static struct host {
	char path[64];
	int listener, port[PORTS]; /* made once: 0 and 1 */
	int program[8];		   /* the host's ends; -1: none */
} host = {.listener = -1};

static unsigned commands;

static int listen_at(const char *path)
{
	struct error e;
	int fd = unix_listen(path, 4, &e);

	check(fd >= 0);
	return fd;
}

static void clean_up(void)
{
	char path[96];

	unlink(host.path);
	for (unsigned i = 0; i < PORTS; i++) {
		snprintf(path, sizeof(path), "%s_%u", host.path, i);
		unlink(path);
	}
}

static void host_init(void)
{
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(host.program); i++)
		host.program[i] = -1;
	if (host.listener >= 0)
		return;
	signal(SIGPIPE, SIG_IGN);
	snprintf(host.path, sizeof(host.path), "/tmp/skep-fuzz-vsock.%d", (int)getpid());
	host.listener = listen_at(host.path);
	for (unsigned i = 0; i < PORTS; i++) {
		snprintf(path, sizeof(path), "%s_%u", host.path, i);
		host.port[i] = listen_at(path);
	}
	atexit(clean_up);
}

/* Who was not accepted is not the next input's. */
static void host_end(void)
{
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(host.program); i++)
		if (host.program[i] >= 0)
			close(host.program[i]);
	while ((fd = accept(host.listener, NULL, NULL)) >= 0)
		close(fd);
	for (unsigned i = 0; i < PORTS; i++)
		while ((fd = accept(host.port[i], NULL, NULL)) >= 0)
			close(fd);
}

static void replace(int *program, int fd)
{
	if (*program >= 0)
		close(*program);
	*program = fd;
}

static int dial(void)
{
	static const char *const lines[] = {"CONNECT 1\n",  "CONNECT 2\n",    "CONNECT 1",
					    "connect 3\nx", "CONNECT x\n",    "",
					    "\n",	    "CONNECT 1\n\n\n"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *line = lines[take(1) % ARRAY_SIZE(lines)];
	struct sockaddr_un addr;

	check(fd >= 0 && unix_address(&addr, host.path, NULL) == 0);
	(void)!connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	(void)!write(fd, line, strlen(line));
	return fd;
}

static void act_as_program(uint64_t what)
{
	int *program = &host.program[take(1) % ARRAY_SIZE(host.program)];
	static uint8_t data[16384];

	if (what < 160)
		replace(program, dial());
	else if (what < 170)
		replace(program, accept4(host.port[take(1) % PORTS], NULL, NULL,
					 SOCK_NONBLOCK | SOCK_CLOEXEC));
	else if (what < 180)
		(void)!write(*program, data, take(2) % sizeof(data));
	else if (what < 190)
		(void)!read(*program, data, sizeof(data));
	else if (what < 195)
		shutdown(*program, (int)(take(1) % 3));
	else
		replace(program, -1);
}

/* A packet that is mostly as it should be. */
static void packet(void)
{
	uint64_t how = take(1), alloc = take(1), ports = take(1);
	struct virtio_vsock_hdr h = {
		.src_cid = how == 255 ? take(8) : CID,
		.dst_cid = how == 254 ? take(8) : VMADDR_CID_HOST,
		.src_port = (uint32_t)(ports % 4),
		.dst_port = (uint32_t)(ports / 4 % 8),
		.type = how == 253 ? (uint16_t)take(2) : VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)(how % 9),
		.flags = (uint32_t)(ports >> 6),
		.buf_alloc = alloc < 240 ? (uint32_t)alloc << 10 : (uint32_t)take(4),
		.fwd_cnt = alloc < 200 ? 0 : (uint32_t)take(3),
	};
	gpa_t at = GPA(RAM - AREA + (take(1) << 9));
	struct drv_buf bufs[2] = {{at, sizeof(h), false}};

	if (h.dst_port > 3)
		h.dst_port += (1u << 30) - 3;
	if (h.op == VIRTIO_VSOCK_OP_RW)
		h.len = how < 100 ? (uint32_t)take(2) : (uint32_t)take(1);
	memcpy(drv_ptr(&guest.drv, at, sizeof(h)), &h, sizeof(h));
	bufs[1] = (struct drv_buf){GPA(at.v + sizeof(h)), how == 252 ? 3 : h.len, false};
	guest_send(&guest.drv.queue[TX], bufs, h.len ? 2 : 1, how & 0x40);
}

static void offer(unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		struct drv_buf bufs[2];
		gpa_t at = GPA(RAM - AREA + (take(1) << 9));
		uint32_t split = (uint32_t)(take(1) % 64);

		bufs[0] = (struct drv_buf){at, split, true};
		bufs[1] = (struct drv_buf){GPA(at.v + split), 64 + split * 60, true};
		guest_send(&guest.drv.queue[RX], bufs, 2, split & 1);
	}
}

static void command(void)
{
	uint64_t what = take(1);
	unsigned index = (unsigned)(what % NUM_QUEUES);
	struct drv_queue *q = &guest.drv.queue[index];

	if (what < 40)
		offer((unsigned)what % 8 + 1);
	else if (what < 140)
		packet();
	else if (what < 150)
		guest_send_any(q, index != TX);
	else if (what < 200)
		act_as_program(what);
	else
		guest_damage(q, what);
}

/* What the last command led to, and the next one. */
static bool next(struct loop_hook *hook)
{
	(void)hook;
	for (unsigned i = 0; i < NUM_QUEUES; i++)
		guest_reap(&guest.drv.queue[i]);
	guest_check();
	if (!input_left(&guest.in) && commands < MAX_COMMANDS - SETTLING)
		commands = MAX_COMMANDS - SETTLING;
	if (commands++ >= MAX_COMMANDS || drv_is_broken(&guest.drv)) {
		loop_quit(guest.loop);
		return true;
	}
	if (input_left(&guest.in))
		command();
	memcpy(guest.before, guest.drv.mem.region[0].host, RAM);
	for (unsigned i = 0; i < NUM_QUEUES; i++)
		drv_kick(&guest.drv.queue[i]);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop_hook hook = {.fn = next};
	struct vsock_counters counters;

	guest.in = (struct input){data, size};
	commands = 0;
	host_init();
	guest_init(take(1) & 1);
	check(vsock_device_new(&guest.dev, &guest.drv.mem, CID, host.path, dup(host.listener),
			       guest.loop, NULL) == 0);
	guest_start(take(3));
	loop_add_hook(guest.loop, &hook);
	memcpy(guest.before, guest.drv.mem.region[0].host, RAM);
	check(loop_run(guest.loop) == 0);
	gmem_read_hook = NULL;
	virtio_dev_quiesce(guest.dev);
	vsock_counters(guest.dev, &counters);
	check(counters.connections == 0);
	guest_end();
	host_end();
	return 0;
}
