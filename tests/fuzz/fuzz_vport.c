// SPDX-License-Identifier: BSD-2-Clause
/*
 * A port between a guest, its control messages, and programs at a Unix socket. Input: options, then one
 * command after the other. The device's loop runs, on this thread: a command a turn. What must hold: see
 * guest_check(); the guest receives no more than was sent, and all that it transmits is accounted for.
 */
#include <linux/virtio_console.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/unixsocket.h"
#include "device.h"
#include "vport/vport.h"

enum { RX, TX, CTRL_RX, CTRL_TX, NUM_QUEUES };

#define MAX_COMMANDS 64u
#define SETTLING     4u /* turns after the last command */

static struct host {
	char path[64];
	int listener; /* made once */
	int program;  /* the host's end; -1: none */
	uint64_t sent;
} host = {.listener = -1};

static unsigned commands;
static uint64_t received;

/* Without control messages there are the first two. */
static struct drv_queue *queue(unsigned i)
{
	return &guest.drv.queue[i % guest.dev->usable_queues];
}

static void clean_up(void)
{
	unlink(host.path);
}

static void host_init(void)
{
	host.program = -1;
	host.sent = received = 0;
	if (host.listener >= 0)
		return;
	signal(SIGPIPE, SIG_IGN);
	snprintf(host.path, sizeof(host.path), "/tmp/skep-fuzz-port.%d", (int)getpid());
	host.listener = unix_listen(host.path, 4, NULL);
	check(host.listener >= 0);
	atexit(clean_up);
}

static void replace(int fd)
{
	if (host.program >= 0)
		close(host.program);
	host.program = fd;
}

/* Who was not accepted is not the next input's. */
static void host_end(void)
{
	int fd;

	replace(-1);
	while ((fd = accept(host.listener, NULL, NULL)) >= 0)
		close(fd);
}

static void dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	check(fd >= 0 && unix_address(&addr, host.path, NULL) == 0);
	(void)!connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	replace(fd);
}

static void act_as_program(uint64_t what)
{
	static uint8_t data[16384];
	ssize_t n = 0;

	if (what < 170)
		dial();
	else if (what < 185)
		n = write(host.program, data, take(2) % sizeof(data));
	else if (what < 190)
		(void)!read(host.program, data, sizeof(data));
	else if (what < 195)
		shutdown(host.program, (int)(take(1) % 3));
	else
		replace(-1);
	host.sent += n > 0 ? (uint64_t)n : 0;
}

/* A message that is mostly as it should be. */
static void message(void)
{
	static const uint16_t events[] = {VIRTIO_CONSOLE_DEVICE_READY, VIRTIO_CONSOLE_PORT_READY,
					  VIRTIO_CONSOLE_PORT_OPEN, VIRTIO_CONSOLE_PORT_OPEN};
	uint64_t how = take(1);
	gpa_t at = GPA(RAM - AREA + (take(1) << 9));
	struct virtio_console_control m = {
		.id = how == 255 ? (uint32_t)take(4) : 0,
		.event = how == 254 ? (uint16_t)take(2) : events[how % ARRAY_SIZE(events)],
		.value = how % 8 < 6,
	};
	struct drv_buf bufs[2] = {{at, 3, false}, {GPA(at.v + 3), sizeof(m) - 3, false}};

	memcpy(drv_ptr(&guest.drv, at, sizeof(m)), &m, sizeof(m));
	bufs[1].len -= how == 253;
	guest_send(queue(CTRL_TX), bufs, 2, how & 0x40);
}

static void offer(unsigned index, unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		gpa_t at = GPA(RAM - AREA + (take(1) << 9));
		struct drv_buf bufs[2] = {{at, 5, true}, {GPA(at.v + 5), 59, true}};

		guest_send(queue(index), bufs, 2, i & 1);
	}
}

static void command(void)
{
	uint64_t what = take(1);
	unsigned index = (unsigned)(what % NUM_QUEUES);
	struct drv_queue *q = queue(index);

	if (what < 50)
		offer(what % 2 ? RX : CTRL_RX, (unsigned)what % 4 + 1);
	else if (what < 110)
		message();
	else if (what < 140)
		guest_send_any(&guest.drv.queue[TX], false);
	else if (what < 150)
		guest_send_any(q, index == RX || index == CTRL_RX);
	else if (what < 200)
		act_as_program(what);
	else
		guest_damage(q, what);
}

/* What the last command led to, and the next one. */
static bool next(struct loop_hook *hook)
{
	(void)hook;
	for (unsigned i = 0; i < guest.dev->usable_queues; i++) {
		uint64_t bytes = guest_reap(queue(i));

		received += i == RX ? bytes : 0;
	}
	guest_check();
	check(guest.changing || guest.lawless || received <= host.sent);
	if (!input_left(&guest.in) && commands < MAX_COMMANDS - SETTLING)
		commands = MAX_COMMANDS - SETTLING;
	if (commands++ >= MAX_COMMANDS || drv_is_broken(&guest.drv)) {
		loop_quit(guest.loop);
		return true;
	}
	if (input_left(&guest.in))
		command();
	memcpy(guest.before, guest.drv.mem.region[0].host, RAM);
	for (unsigned i = 0; i < guest.dev->usable_queues; i++)
		drv_kick(queue(i));
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop_hook hook = {.fn = next};
	struct vport_end end = {.fd = -1, .other = -1, .reads = true, .writes = true};

	guest.in = (struct input){data, size};
	commands = 0;
	host_init();
	guest_init(take(1) & 1);
	end.listener = dup(host.listener);
	check(vport_device_new(&guest.dev, &guest.drv.mem, "fuzz", &end, guest.loop, NULL) == 0);
	drv_attach(&guest.drv, guest.dev);
	drv_start(&guest.drv, ~(take(1) << 28 | (take(1) & 1) << VIRTIO_CONSOLE_F_MULTIPORT), 8);
	gmem_read_hook = guest.changing ? change_memory : NULL;
	loop_add_hook(guest.loop, &hook);
	memcpy(guest.before, guest.drv.mem.region[0].host, RAM);
	check(loop_run(guest.loop) == 0);
	host_end(); /* else its last words would be waited for */
	guest_end();
	return 0;
}
