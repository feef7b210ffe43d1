// SPDX-License-Identifier: BSD-2-Clause
/*
 * Saved states that are not to be trusted. Input: which device, how far its driver is and with which
 * features, then changes to the state that is saved there: offset, length and bytes. What must hold:
 * the state is refused, which leaves the device as it was, or the device does what one does whose
 * driver is broken; it can be saved and restored again; and after a reset it serves a driver.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "balloon/balloon.h"
#include "blk/blk.h"
#include "blk/disk.h"
#include "console/console.h"
#include "device.h"
#include "fs/fs.h"
#include "mem.h"
#include "net/net.h"
#include "rng/rng.h"
#include "virtio/state.h"
#include "vport/vport.h"

#define IMAGE_SIZE (1 * MIB)

static struct {
	struct tty tty;
	int end[2]; /* of a socket, in the place of taps and of a terminal */
} host;

static void open_rng(void)
{
	check(rng_device_new(&guest.dev, &guest.drv.mem, guest.loop, NULL) == 0);
}

static void open_console(void)
{
	host.tty = (struct tty){
		.in_fd = host.end[0], .out_fd = -1, .listener = -1, .far_end = -1, .old = -1};
	check(console_device_new(&guest.dev, &guest.drv.mem, &host.tty, guest.loop, NULL) == 0);
}

static void open_blk(void)
{
	static int image_fd = -1;
	struct disk_config config = {.engine = ENGINE_SYNC, .queues = 2};
	struct loop *loops[] = {guest.loop, guest.loop};
	struct blk_image *image;
	struct blk_device *blk;
	char path[64];

	if (image_fd < 0)
		image_fd = memfd_create("image", 0);
	check(ftruncate(image_fd, IMAGE_SIZE) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", image_fd);
	config.path = path;
	check(blk_image_open(&image, &config, NULL) == 0);
	check(blk_device_new(&guest.dev, &guest.drv.mem, image, &config, loops, NULL) == 0);
	/* All on one thread: so what is a worker's is done inline. */
	blk = container_of(guest.dev, struct blk_device, dev);
	loop_free(blk->worker);
	blk->worker = NULL;
	for (unsigned i = 0; i < config.queues; i++)
		blk->queue[i].engine->worker = NULL;
}

static void work_blk(void)
{
	struct blk_device *blk = container_of(guest.dev, struct blk_device, dev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		while (blk->queue[i].hook.fn(&blk->queue[i].hook))
			;
}

static void open_net(void)
{
	static const uint8_t mac[NET_MAC_LEN] = {2};
	struct net_port *port = calloc(1, sizeof(*port));
	struct loop *loops[] = {guest.loop, guest.loop};

	check(port);
	*port = (struct net_port){.ops = &net_tap_ops,
				  .name = strdup("fuzz"),
				  .listener = -1,
				  .pairs = 2,
				  .mtu = 1500,
				  .offloads = 0xf};
	for (unsigned i = 0; i < port->pairs; i++)
		port->fd[i] = fcntl(host.end[i], F_DUPFD_CLOEXEC, 0);
	check(net_device_new(&guest.dev, &guest.drv.mem, port, mac, loops, NULL) == 0);
}

static void open_balloon(void)
{
	static const struct balloon_config config = {.report = true};

	check(balloon_device_new(&guest.dev, &guest.drv.mem, &config, false, guest.loop, NULL) ==
	      0);
}

static void open_mem(void)
{
	static struct mem_host mem;

	guest.dev = mem_open(&mem, &guest.drv, guest.loop);
	check(guest.dev && mem_set_size(guest.dev, RAM + MEM_MAX, NULL) == 0);
}

static void open_vport(void)
{
	struct vport_end end = {.fd = fcntl(host.end[0], F_DUPFD_CLOEXEC, 0),
				.listener = -1,
				.other = -1,
				.reads = true,
				.writes = true};

	check(vport_device_new(&guest.dev, &guest.drv.mem, "fuzz", &end, guest.loop, NULL) == 0);
}

static void open_fs(void)
{
	const struct fs_share share = {
		.root = open("/", O_PATH | O_CLOEXEC), .tag = "fuzz", .queues = 1, .max_files = 16};
	struct loop *loops[] = {guest.loop, guest.loop};

	check(fs_device_new(&guest.dev, &guest.drv.mem, &share, loops, NULL) == 0);
}

static const struct kind {
	void (*open)(void);
	void (*work)(void); /* besides kicks; NULL: nothing */
} kinds[] = {
	{open_rng, NULL},     {open_console, NULL}, {open_blk, work_blk}, {open_net, NULL},
	{open_balloon, NULL}, {open_mem, NULL},	    {open_vport, NULL},	  {open_fs, NULL},
};

static void up(const struct kind *kind)
{
	check(loop_new(&guest.loop, "fuzz", LOOP_EPOLL, 0, NULL) == 0);
	kind->open();
	drv_attach(&guest.drv, guest.dev);
}

static void down(void)
{
	virtio_dev_free(guest.dev);
	loop_free(guest.loop);
}

/* All that is available is worked on. */
static void work(const struct kind *kind)
{
	for (unsigned i = 0; i < guest.dev->num_queues; i++)
		virtio_queue_kick_later(guest.dev, i);
	drv_pump(&guest.drv);
	if (kind->work)
		kind->work();
}

/* A driver that brings the device up, and gives each queue a chain. */
static void drive(const struct kind *kind, uint64_t declined)
{
	guest.drv.next = 64 * KIB;
	memset(guest.drv.mem.region[0].host, 0, RAM);
	drv_start(&guest.drv, ~declined, 0);
	for (unsigned i = 0; i < guest.dev->num_queues; i++) {
		struct drv_buf buf = {drv_alloc(&guest.drv, 64, 16), 64, take(1) & 1};

		if (guest.drv.queue[i].size)
			drv_add(&guest.drv.queue[i], &buf, 1);
	}
	work(kind);
}

static void make_state(const struct kind *kind, struct virtio_state *state)
{
	uint64_t stage = take(1) % 4, declined = take(4) | take(1) << 56;

	if (stage == 1)
		drv_negotiate(&guest.drv, drv_device_features(&guest.drv) & ~declined);
	else if (stage > 1)
		drive(kind, declined & ~(1ull << VIRTIO_F_VERSION_1));
	virtio_dev_pause(guest.dev);
	check(virtio_dev_save(guest.dev, state, NULL) == 0);
}

static void change_state(struct virtio_state *state)
{
	while (input_left(&guest.in)) {
		size_t at = (size_t)take(2) % sizeof(*state), len = (size_t)take(1) % 17;

		for (; len && at < sizeof(*state); len--)
			((uint8_t *)state)[at++] = (uint8_t)take(1);
	}
}

static bool restore(const struct virtio_state *state)
{
	bool taken = virtio_dev_restore(guest.dev, state, NULL) == 0;

	check(taken || drv_page32(&guest.drv, VIRTIO_MMIO_STATUS) == 0);
	check(drv_page32(&guest.drv, VIRTIO_MMIO_INTERRUPT_STATUS) <=
	      (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG));
	for (unsigned i = guest.dev->usable_queues; i < guest.dev->num_queues; i++)
		check(!guest.dev->queue[i].vq.ready);
	return taken;
}

/* What was restored, before it worked, is a state as good as the one that it came from. */
static void restore_again(const struct kind *kind)
{
	struct virtio_state state;

	virtio_dev_pause(guest.dev);
	check(virtio_dev_save(guest.dev, &state, NULL) == 0);
	down();
	memset(guest.drv.page, 0, VIRTIO_MMIO_PAGE);
	up(kind);
	check(restore(&state));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct kind *kind;
	struct virtio_state state;

	guest.in = (struct input){data, size};
	log_set_level(LOG_ERROR);
	check(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, host.end) == 0);
	kind = &kinds[take(1) % ARRAY_SIZE(kinds)];
	drv_init(&guest.drv, RAM);
	up(kind);
	make_state(kind, &state);
	change_state(&state);
	down();
	memset(guest.drv.page, 0, VIRTIO_MMIO_PAGE);
	up(kind);
	if (restore(&state)) {
		restore_again(kind);
		work(kind);
		drv_write32(&guest.drv, VIRTIO_MMIO_STATUS,
			    state.status | VIRTIO_CONFIG_S_DRIVER_OK);
		work(kind);
		drv_write32(&guest.drv, VIRTIO_MMIO_STATUS, 0);
	}
	drive(kind, 0);
	virtio_dev_quiesce(guest.dev);
	down();
	drv_free(&guest.drv);
	for (unsigned i = 0; i < ARRAY_SIZE(host.end); i++)
		close(host.end[i]);
	return 0;
}
