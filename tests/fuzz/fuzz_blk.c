// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests to virtio-blk, from a driver that mostly knows what it does: the input says which chains
 * to build, how to cut and damage them, and what of guest memory changes while it is being read.
 *
 * Input: options, features to decline, then one command after the other. What must hold whatever the guest does: each chain is answered once, and only memory that the driver gave
 * away for writing is written; the image keeps its size.
 */
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "blk/blk.h"
#include "blk/disk.h"
#include "device.h"

#define IMAGE_SIZE (1 * MIB)

enum option { READONLY = 1, IGNORE = 2, DIRECT = 4, CHANGING = 8, DETECT = 16, ERASE = 32 };

static struct fuzz {
	int image_fd;
	struct blk_queue *queue;
	uint64_t next_sector; /* after the last range */
} fuzz = {.image_fd = -1};

static uint64_t pick_sector(void)
{
	uint64_t v = take(2);

	switch (v >> 14) {
	case 0:
	case 1:
		return v % (IMAGE_SIZE / 512);
	case 2:
		return IMAGE_SIZE / 512 - v % 64;
	default:
		return take(8);
	}
}

static uint32_t pick_type(void)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,		 VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID,  VIRTIO_BLK_T_DISCARD,	 VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
	};
	uint64_t v = take(1);

	if (v == 249)
		return VIRTIO_BLK_T_SECURE_ERASE;
	return v < 250 ? types[v % ARRAY_SIZE(types)] : (uint32_t)take(4);
}

static void put_ranges(gpa_t at, unsigned n)
{
	for (; n; n--, at.v += 16) {
		struct virtio_blk_discard_write_zeroes r = {.sector = pick_sector()};
		uint64_t v = take(2);

		if (v % 5 == 0) /* on where the last one ended */
			r.sector = fuzz.next_sector;
		r.num_sectors = v < 60000 ? (uint32_t)(v % 300) : (uint32_t)take(4);
		r.flags = v % 7 == 0 ? (uint32_t)take(4) : (uint32_t)(v & 1);
		fuzz.next_sector = r.sector + r.num_sectors;
		gmem_write(&guest.drv.mem, at, &r, sizeof(r));
	}
}

static void send(void)
{
	struct drv_queue *q = &guest.drv.queue[0];
	struct virtio_blk_outhdr header = {.type = pick_type(), .sector = pick_sector()};
	gpa_t head = GPA(RAM - AREA + (guest.sent % 64) * 4096);
	bool ranges = header.type >= VIRTIO_BLK_T_DISCARD && header.type <= 13;
	unsigned how = (unsigned)take(1), n = 0, data = ranges ? 1 : how % 8;
	struct drv_buf buf[12];

	gmem_write(&guest.drv.mem, head, &header, sizeof(header));
	if (ranges)
		put_ranges(GPA(head.v + 16), how % 9);
	buf[n++] = (struct drv_buf){head, how & 0x10 ? 16 : (uint32_t)take(1) % 20, false};
	if (buf[0].len < 16)
		buf[n++] = (struct drv_buf){GPA(head.v + buf[0].len), 16 - buf[0].len, false};
	for (unsigned i = 0; i < data; i++)
		buf[n++] = (struct drv_buf){ranges ? GPA(head.v + 16) : pick_address(),
					    ranges ? 16 * (how % 9) : pick_length(),
					    header.type == VIRTIO_BLK_T_IN || header.type == 8};
	if (how < 250)
		buf[n++] = (struct drv_buf){GPA(head.v + 4000), 1 + how % 3, true};
	guest_send(q, buf, n, how & 0x20);
}

static void command(void)
{
	struct drv_queue *q = &guest.drv.queue[0];
	uint64_t what = take(1);

	if (what < 200) {
		for (unsigned n = 1 + (unsigned)(what % 4); n; n--)
			send();
	} else {
		guest_damage(q, what);
	}
	guest_kick(q);
	/* Turns of the loop until nothing is left to do. */
	while (fuzz.queue->hook.fn(&fuzz.queue->hook))
		;
	guest_reap(q);
	guest_check();
	/* As long as the driver keeps the rules, all of it is answered. */
	check(guest.changing || drv_is_broken(&guest.drv) || guest.lawless ||
	      guest.answered == guest.sent);
}

static void set_up(uint8_t options, uint64_t declined)
{
	struct disk_config config = {.serial = "fuzz",
				     .engine = ENGINE_SYNC,
				     .queues = 1,
				     .readonly = options & READONLY};
	struct blk_device *blk;
	struct blk_image *image;
	char path[64];

	if (fuzz.image_fd < 0) {
		fuzz.image_fd = memfd_create("image", 0);
		check(fuzz.image_fd >= 0 && ftruncate(fuzz.image_fd, IMAGE_SIZE) == 0);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzz.image_fd);
	config.path = path;
	config.discard = options & IGNORE ? DISCARD_IGNORE : DISCARD_UNMAP;
	config.detect_zeroes = options & DETECT ? DETECT_ZEROES_UNMAP : DETECT_ZEROES_OFF;
	check(blk_image_open(&image, &config, NULL) == 0);
	/* The demands of O_DIRECT, without what makes it slow. */
	image->direct = options & DIRECT;
	/* A file has no secure erase: each fails, after all that is done before. */
	image->secure_erase = options & ERASE;
	image->memory_align = options & DIRECT ? 512 : 1;
	image->discard_step = 64 * KIB;
	guest_init(options & CHANGING);
	check(blk_device_new(&guest.dev, &guest.drv.mem, image, &config, &guest.loop, NULL) == 0);
	blk = container_of(guest.dev, struct blk_device, dev);
	fuzz.queue = &blk->queue[0];
	/* All on one thread: so what is a worker's is done inline. */
	loop_free(blk->worker);
	blk->worker = fuzz.queue->engine->worker = NULL;
	fuzz.next_sector = 0;
	guest_start(declined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stat st;
	uint8_t options;
	unsigned commands = 0;

	guest.in = (struct input){data, size};
	options = (uint8_t)take(1);
	/* Features 0 to 15, the ring's, and VERSION_1 always. */
	set_up(options, take(2) | take(1) << 28);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	check(fstat(fuzz.image_fd, &st) == 0 && st.st_size == IMAGE_SIZE);
	guest_end();
	return 0;
}
