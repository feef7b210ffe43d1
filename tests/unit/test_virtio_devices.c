// SPDX-License-Identifier: BSD-2-Clause
/* What virtio 1.3 asks of every device, of those that there are: docs/virtio.md names these tests. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/unixsocket.h"
#include "console/console.h"
#include "disk.h"
#include "fs/fs.h"
#include "mem.h"
#include "pages.h"
#include "rng/rng.h"
#include "vport/vport.h"
#include "vsock/vsock.h"

#define BIT(n)	(1ull << (n))
#define SIZE	(8 * MIB)
#define VERSION BIT(VIRTIO_F_VERSION_1)
/* Of every device; no packed ring, notification data, queue reset, ... */
#define RING (VERSION | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))

enum {
	BLK_READONLY = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
		       BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) |
		       BIT(VIRTIO_BLK_F_TOPOLOGY),
	BLK = (BLK_READONLY & ~BIT(VIRTIO_BLK_F_RO)) | BIT(VIRTIO_BLK_F_CONFIG_WCE) |
	      BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES),
	CONSOLE = BIT(VIRTIO_CONSOLE_F_EMERG_WRITE),
	MEM = BIT(1),		 /* what is unplugged is inaccessible */
	VSOCK = BIT(0) | BIT(2), /* streams, and nothing else is meant by nothing */
};

/* A device at status 0; only the disk's loops are those of the disk. */
struct fixture {
	char *path;
	struct disk disk;
	struct drv own, *d;
	struct loop *loop;
	struct tty tty;
	int user, input[2];
	struct mem_host mem;
	struct virtio_dev *dev;
};

struct kind {
	const char *name;
	struct disk_options disk;
	uint32_t id;
	uint64_t features;
	unsigned queues;
	bool terminal;
};

static const struct kind kinds[] = {
	{.name = "blk", .id = VIRTIO_ID_BLOCK, .features = BLK, .queues = 1},
	{.name = "blk, four queues",
	 .disk = {.queues = 4},
	 .id = VIRTIO_ID_BLOCK,
	 .features = BLK | BIT(VIRTIO_BLK_F_MQ),
	 .queues = 4},
	{.name = "blk, read-only",
	 .disk = {.readonly = true},
	 .id = VIRTIO_ID_BLOCK,
	 .features = BLK_READONLY,
	 .queues = 1},
	{.name = "blk, discard=ignore",
	 .disk = {.ignore = true},
	 .id = VIRTIO_ID_BLOCK,
	 .features = BLK & ~BIT(VIRTIO_BLK_F_DISCARD),
	 .queues = 1},
	{.name = "blk, secure erase",
	 .disk = {.secure_erase = true},
	 .id = VIRTIO_ID_BLOCK,
	 .features = BLK | BIT(VIRTIO_BLK_F_SECURE_ERASE),
	 .queues = 1},
	{.name = "console", .id = VIRTIO_ID_CONSOLE, .features = CONSOLE, .queues = 2},
	{.name = "console, a terminal",
	 .id = VIRTIO_ID_CONSOLE,
	 .features = CONSOLE | BIT(VIRTIO_CONSOLE_F_SIZE),
	 .queues = 2,
	 .terminal = true},
	{.name = "rng", .id = VIRTIO_ID_RNG, .queues = 1},
	{.name = "vsock", .id = VIRTIO_ID_VSOCK, .features = VSOCK, .queues = 3},
	{.name = "mem", .id = VIRTIO_ID_MEM, .features = MEM, .queues = 1},
	{.name = "port",
	 .id = VIRTIO_ID_CONSOLE,
	 .features = BIT(VIRTIO_CONSOLE_F_MULTIPORT),
	 .queues = 4},
	{.name = "fs", .id = VIRTIO_ID_FS, .queues = 2},
};

static void open_disk(struct fixture *f, const struct kind *kind)
{
	struct disk_options options = kind->disk;
	struct error e = {""};

	options.engine = ENGINE_SYNC;
	f->path = disk_file(SIZE);
	if (disk_open(&f->disk, f->path, &options, &e) < 0)
		fail_msg("%s", e.msg);
	f->d = &f->disk.drv;
	f->dev = f->disk.dev;
}

#define CID 4242u

static void open_vsock(struct fixture *f)
{
	struct error e = {""};
	int listener;

	f->path = strdup("/tmp/skep-vsock.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	rmdir(f->path);
	listener = unix_listen(f->path, 1, &e);
	if (listener < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(vsock_device_new(&f->dev, &f->d->mem, CID, f->path, listener, f->loop, &e),
			 0);
}

/* A program of the host wants to be connected: that is a packet for the guest. */
static void connect_to_vsock(const struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	assert_int_equal(unix_address(&addr, f->path, NULL), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(write(fd, "CONNECT 1\n", 10), 10);
	close(fd);
}

static void open_vport(struct fixture *f)
{
	struct vport_end end = {.fd = dup(f->input[0]), .listener = -1, .other = -1, .reads = true};

	assert_int_equal(vport_device_new(&f->dev, &f->d->mem, "x", &end, f->loop, NULL), 0);
}

static void open_other(struct fixture *f, const struct kind *kind)
{
	struct winsize size = {.ws_col = 132, .ws_row = 50};

	f->d = &f->own;
	drv_init(f->d, 16 * MIB);
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 8, NULL), 0);
	assert_int_equal(pipe(f->input), 0);
	f->tty.in_fd = f->input[0];
	f->tty.listener = f->tty.far_end = f->tty.old = -1;
	if (kind->terminal)
		assert_int_equal(openpty(&f->user, &f->tty.out_fd, NULL, NULL, &size), 0);
	else
		f->tty.out_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (kind->id == VIRTIO_ID_CONSOLE && kind->queues == 4)
		open_vport(f);
	else if (kind->id == VIRTIO_ID_CONSOLE)
		assert_int_equal(console_device_new(&f->dev, &f->d->mem, &f->tty, f->loop, NULL),
				 0);
	else if (kind->id == VIRTIO_ID_VSOCK)
		open_vsock(f);
	else if (kind->id == VIRTIO_ID_FS)
		assert_int_equal(fs_device_new(&f->dev, &f->d->mem,
					       &(const struct fs_share){.root = open("/", O_PATH),
									.tag = "x",
									.queues = 1,
									.max_files = 16},
					       (struct loop *[]){f->loop, f->loop}, NULL),
				 0);
	else if (kind->id == VIRTIO_ID_MEM)
		f->dev = mem_open(&f->mem, f->d, f->loop);
	else
		assert_int_equal(rng_device_new(&f->dev, &f->d->mem, f->loop, NULL), 0);
	drv_attach(f->d, f->dev);
}

static void for_each_kind(void (*check)(struct fixture *f, const struct kind *kind))
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture f = {.user = -1};

		print_message("# %s\n", kinds[i].name);
		if (kinds[i].id == VIRTIO_ID_BLOCK)
			open_disk(&f, &kinds[i]);
		else
			open_other(&f, &kinds[i]);
		check(&f, &kinds[i]);
		if (kinds[i].id == VIRTIO_ID_BLOCK) {
			disk_close(&f.disk);
			unlink(f.path);
			free(f.path);
			continue;
		}
		virtio_dev_free(f.dev);
		loop_free(f.loop);
		drv_free(f.d);
		close(f.tty.out_fd);
		close(f.input[0]);
		close(f.input[1]);
		if (f.user >= 0)
			close(f.user);
		if (f.path)
			unlink(f.path);
		free(f.path);
	}
}

/* Sections 2.2.2, 6.2, 5.2.5.2: what is offered is what is done. */
static void check_offer(struct fixture *f, const struct kind *kind)
{
	uint64_t features = drv_device_features(f->d);

	assert_int_equal(drv_read32(f->d, VIRTIO_MMIO_DEVICE_ID), kind->id);
	assert_int_equal(features, kind->features | RING);
	if (kind->id == VIRTIO_ID_BLOCK)
		assert_true(features & BIT(VIRTIO_BLK_F_FLUSH));
	for (unsigned q = 0; q < kind->queues + 2; q++) {
		drv_write32(f->d, VIRTIO_MMIO_QUEUE_SEL, q);
		assert_int_equal(drv_read32(f->d, VIRTIO_MMIO_QUEUE_NUM_MAX) != 0,
				 q < kind->queues);
	}
}

static void test_nothing_is_offered_that_is_not_done(void **state)
{
	(void)state;
	for_each_kind(check_offer);
}

/* Section 2.2.2. Every subset, each after a reset: so what was accepted once is accepted again. */
static void check_subsets(struct fixture *f, const struct kind *kind)
{
	uint64_t offered = drv_device_features(f->d), subset = offered;

	(void)kind;
	do {
		subset = (subset - 1) & offered;
		assert_int_equal(drv_negotiate(f->d, subset), !!(subset & VERSION));
	} while (subset != offered && subset);
	assert_true(drv_negotiate(f->d, offered));
	drv_reset(f->d);
	assert_true(drv_negotiate(f->d, offered));
}

static void test_every_subset_of_the_features_is_accepted(void **state)
{
	(void)state;
	for_each_kind(check_subsets);
}

/* Section 2.5.3: all fields, before the driver said anything; in any width. */
static void check_configuration(struct fixture *f, const struct kind *kind)
{
	uint8_t early[VIRTIO_CONFIG_MAX], late[VIRTIO_CONFIG_MAX];

	for (uint32_t i = 0; i < VIRTIO_CONFIG_MAX; i++)
		virtio_mmio_read(f->dev, VIRTIO_MMIO_CONFIG + i, &early[i], 1);
	assert_memory_equal(early, f->d->page + VIRTIO_MMIO_CONFIG, VIRTIO_CONFIG_MAX);
	for (uint32_t width = 2; width <= 4; width *= 2) {
		for (uint32_t i = 0; i < VIRTIO_CONFIG_MAX; i += width)
			virtio_mmio_read(f->dev, VIRTIO_MMIO_CONFIG + i, &late[i], width);
		assert_memory_equal(early, late, VIRTIO_CONFIG_MAX);
	}
	assert_true(drv_negotiate(f->d, drv_device_features(f->d)));
	assert_memory_equal(early, f->d->page + VIRTIO_MMIO_CONFIG, VIRTIO_CONFIG_MAX);
	if (kind->id == VIRTIO_ID_VSOCK)
		assert_int_equal(*(const uint64_t *)(const void *)early, CID);
	if (kind->id == VIRTIO_ID_BLOCK) {
		static const uint8_t zero[VIRTIO_CONFIG_MAX];
		const struct virtio_blk_config *c = (const void *)early;

		/* Section 5.2.5.2: unused0, unused1, and the fields of zoned devices. */
		assert_int_equal(c->capacity, SIZE / 512);
		assert_memory_equal(early + 33, zero, 1);
		assert_memory_equal(early + 57, zero, 3);
		assert_memory_equal(early + 72, zero, VIRTIO_CONFIG_MAX - 72);
	}
}

static void test_the_configuration_is_readable_before_features_ok(void **state)
{
	(void)state;
	for_each_kind(check_configuration);
}

/* One request of each type, data in two buffers; what it ends with does not matter. */
static void do_all_types(struct disk *disk)
{
	struct drv_buf bufs[2] = {{disk->buffer, 512, false},
				  {GPA(disk->buffer.v + 4096), 512, false}};

	for (uint32_t type = 0; type < 32; type++)
		for (unsigned write = 0; write < 2; write++) {
			bufs[0].write = bufs[1].write = write;
			disk_do(disk, type, 8, bufs, 2);
		}
}

/* Sections 2.7.5.1, 2.7.6: the device writes neither to descriptors, nor to the available ring, nor
 * to what is device-readable. */
static void test_what_is_the_drivers_is_not_written(void **state)
{
	struct disk_options options = {.engine = ENGINE_AUTO};
	char *path = disk_file(SIZE);

	(void)state;
	for (unsigned indirect = 0; indirect < 2; indirect++) {
		struct disk disk;
		struct drv_queue *q = &disk.drv.queue[0];
		uint8_t *header, *data, readable[2][512];
		struct vring_desc before[3];
		uint16_t head;

		options.decline = indirect ? 0 : BIT(VIRTIO_RING_F_INDIRECT_DESC);
		disk_up(&disk, path, &options);
		do_all_types(&disk);
		for (uint32_t type = 0; type < 32; type++) {
			struct drv_buf buf = {disk.buffer, 512, false};
			const struct vring_desc *table;

			data = drv_ptr(&disk.drv, disk.buffer, 512);
			memset(data, 0x5a, 512);
			memcpy(readable[1], data, 512);
			head = (uint16_t)disk_send(&disk, 0, type, 8, &buf, 1);
			table = indirect ? drv_table(q, head) : q->desc;
			memcpy(before, table, sizeof(before));
			header = drv_ptr(&disk.drv, GPA(table[0].addr), 16);
			memcpy(readable[0], header, 16);
			disk_kick(&disk, 0);
			disk_reap(&disk, 0, NULL, NULL);
			assert_memory_equal(table, before, sizeof(before));
			assert_memory_equal(header, readable[0], 16);
			assert_memory_equal(data, readable[1], 512);
			assert_int_equal(q->avail->flags, 0);
			assert_int_equal(q->avail->idx, q->avail_idx);
			assert_int_equal(q->avail->ring[(q->avail_idx - 1u) % q->size], head);
		}
		disk_close(&disk);
	}
	unlink(path);
	free(path);
}

/* Notes how the pages that the device may only write are touched first, and gives them. */
struct watch {
	int fd;
	pthread_t thread;
	_Atomic bool ends;
	_Atomic unsigned reads, writes;
};

static void *watch(void *arg)
{
	struct watch *w = arg;
	bool is_write;
	void *page;

	while (!w->ends) {
		page = pages_wait(w->fd, 1, &is_write);
		if (!page)
			continue;
		if (is_write)
			w->writes++;
		else
			w->reads++;
		pages_give(w->fd, page, 0x5a);
	}
	return NULL;
}

static void watch_begin(struct watch *w, void *pages, size_t len)
{
	*w = (struct watch){.fd = pages_take(pages, len)};
	if (w->fd < 0) {
		print_message("# no userfaultfd here\n");
		skip();
	}
	assert_int_equal(pthread_create(&w->thread, NULL, watch, w), 0);
}

static void watch_end(struct watch *w)
{
	w->ends = true;
	pthread_join(w->thread, NULL);
	close(w->fd);
	assert_int_equal(w->reads, 0);
	assert_true(w->writes > 0);
}

/* Requests of each type, of which data and status are on pages of their own. */
static void watch_disk(struct fixture *f)
{
	gpa_t header = drv_alloc(f->d, 16, 16), pages = drv_alloc(f->d, 3 * 4096, 4096);
	struct drv_buf bufs[] = {{header, 16, false},
				 {pages, 4096, true},
				 {GPA(pages.v + 4096), 4096, true},
				 {GPA(pages.v + 2 * 4096), 1, true}};
	struct watch w;

	disk_start(&f->disk);
	for (uint32_t type = 0; type < 32; type++) {
		*(struct virtio_blk_outhdr *)drv_ptr(f->d, header, 16) =
			(struct virtio_blk_outhdr){.type = type};
		watch_begin(&w, drv_ptr(f->d, pages, 3 * 4096), 3 * 4096);
		assert_true(drv_add(&f->d->queue[0], bufs, ARRAY_SIZE(bufs)) >= 0);
		drv_kick(&f->d->queue[0]);
		drv_wait_used(&f->d->queue[0], NULL, NULL);
		watch_end(&w);
	}
}

static void watch_other(struct fixture *f)
{
	gpa_t pages = drv_alloc(f->d, 2 * 4096, 4096);
	/* What is read is empty, but where the device wants a request. */
	bool wants = f->mem.host.mem || f->dev->ops->device_id == VIRTIO_ID_FS;
	struct drv_buf bufs[] = {{drv_alloc(f->d, 64, 16), wants ? 64 : 0, false},
				 {pages, 4096, true},
				 {GPA(pages.v + 4096), 4096, true}};
	struct watch w;

	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	drv_start(f->d, ~BIT(VIRTIO_CONSOLE_F_MULTIPORT), 0); /* then a port is open at once */
	watch_begin(&w, drv_ptr(f->d, pages, 2 * 4096), 2 * 4096);
	assert_true(drv_add(&f->d->queue[0], bufs, ARRAY_SIZE(bufs)) >= 0);
	drv_kick(&f->d->queue[0]);
	assert_int_equal(write(f->input[1], "typed", 5), 5);
	if (f->path)
		connect_to_vsock(f);
	drv_wait_used(&f->d->queue[0], NULL, NULL);
	watch_end(&w);
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
}

/* Section 2.7.5.1: the first touch of what is device-writable is a write. */
static void check_writable(struct fixture *f, const struct kind *kind)
{
	if (kind->id == VIRTIO_ID_BLOCK)
		watch_disk(f);
	else
		watch_other(f);
}

static void test_what_is_device_writable_is_not_read(void **state)
{
	(void)state;
	for_each_kind(check_writable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_offered_that_is_not_done),
		cmocka_unit_test(test_every_subset_of_the_features_is_accepted),
		cmocka_unit_test(test_the_configuration_is_readable_before_features_ok),
		cmocka_unit_test(test_what_is_the_drivers_is_not_written),
		cmocka_unit_test(test_what_is_device_writable_is_not_read),
	};

	log_set_level(LOG_ERROR); /* the driver here asks for all that it must not */
	return cmocka_run_group_tests_name("virtio_devices", tests, NULL, NULL);
}
