// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests to virtio-blk, from a driver that mostly knows what it does: the input says which chains
 * to build, how to cut and damage them, and what of guest memory changes while it is being read.
 *
 * Input: options, features to decline, then one command after the other (struct script). What must
 * hold whatever the guest does: each chain is answered once, and only memory that the driver gave
 * away for writing is written; the image keeps its size.
 */
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "blk/device.h"
#include "driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "fuzz_blk.c:%d: %s\n", __LINE__, #x);                      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define RAM	   (1 * MIB)
#define PAGES	   (RAM / 4096)
#define IMAGE_SIZE (1 * MIB)
#define QUEUE_SIZE 32u
#define AREA	   (512 * KIB) /* buffers, at the end of RAM */

enum option { READONLY = 1, IGNORE = 2, DIRECT = 4, CHANGING = 8, DETECT = 16, ERASE = 32 };

struct script {
	const uint8_t *at, *end;
};

static struct fuzz {
	int image_fd;
	struct drv drv;
	struct loop *loop;
	struct virtio_dev *dev;
	struct blk_queue *queue;
	struct script script;
	uint8_t *before; /* guest RAM as the driver left it */
	bool writable[PAGES];
	bool changing;
	uint64_t next_sector; /* after the last range */
	unsigned sent, answered;
} fuzz;

static uint64_t take(struct script *s, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- && s->at < s->end)
		v = v << 8 | *s->at++;
	return v;
}

static void mark(gpa_t addr, uint64_t len)
{
	if (len && addr.v < RAM)
		for (uint64_t p = addr.v / 4096; p < PAGES && p * 4096 < addr.v + len; p++)
			fuzz.writable[p] = true;
}

/* What another vCPU might do at the worst of times. */
static void change_memory(const struct gmem *mem, gpa_t addr, size_t len)
{
	struct script *s = &fuzz.script;
	uint64_t at = addr.v + (len ? take(s, 1) % len : 0);
	uint8_t byte = (uint8_t)take(s, 1);

	if (s->at < s->end && byte && at < RAM)
		mem->region[0].host[at] ^= byte;
}

static uint64_t pick_sector(struct script *s)
{
	uint64_t v = take(s, 2);

	switch (v >> 14) {
	case 0:
	case 1:
		return v % (IMAGE_SIZE / 512);
	case 2:
		return IMAGE_SIZE / 512 - v % 64;
	default:
		return take(s, 8);
	}
}

static uint32_t pick_length(struct script *s)
{
	static const uint32_t usual[] = {0, 1, 3, 13, 16, 17, 32, 511, 512, 513, 1024, 4096, 8192};
	uint64_t v = take(s, 1);

	if (v < 200)
		return usual[v % ARRAY_SIZE(usual)];
	return v < 250 ? (uint32_t)v * 512 : (uint32_t)take(s, 4);
}

static gpa_t pick_address(struct script *s)
{
	uint64_t v = take(s, 3);

	return v % 61 ? GPA(RAM - AREA + v % (AREA - 64 * KIB)) : GPA(take(s, 8));
}

static uint32_t pick_type(struct script *s)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,		 VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID,  VIRTIO_BLK_T_DISCARD,	 VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
	};
	uint64_t v = take(s, 1);

	if (v == 249)
		return VIRTIO_BLK_T_SECURE_ERASE;
	return v < 250 ? types[v % ARRAY_SIZE(types)] : (uint32_t)take(s, 4);
}

static void put_ranges(struct script *s, gpa_t at, unsigned n)
{
	for (; n; n--, at.v += 16) {
		struct virtio_blk_discard_write_zeroes r = {.sector = pick_sector(s)};
		uint64_t v = take(s, 2);

		if (v % 5 == 0) /* on where the last one ended */
			r.sector = fuzz.next_sector;
		r.num_sectors = v < 60000 ? (uint32_t)(v % 300) : (uint32_t)take(s, 4);
		r.flags = v % 7 == 0 ? (uint32_t)take(s, 4) : (uint32_t)(v & 1);
		fuzz.next_sector = r.sector + r.num_sectors;
		gmem_write(&fuzz.drv.mem, at, &r, sizeof(r));
	}
}

static void send(struct script *s)
{
	struct drv_queue *q = &fuzz.drv.queue[0];
	struct virtio_blk_outhdr header = {.type = pick_type(s), .sector = pick_sector(s)};
	gpa_t head = GPA(RAM - AREA + (fuzz.sent % 64) * 4096);
	bool ranges = header.type >= VIRTIO_BLK_T_DISCARD && header.type <= 13;
	unsigned how = (unsigned)take(s, 1), n = 0, data = ranges ? 1 : how % 8;
	struct drv_buf buf[12];

	gmem_write(&fuzz.drv.mem, head, &header, sizeof(header));
	if (ranges)
		put_ranges(s, GPA(head.v + 16), how % 9);
	buf[n++] = (struct drv_buf){head, how & 0x10 ? 16 : (uint32_t)take(s, 1) % 20, false};
	if (buf[0].len < 16)
		buf[n++] = (struct drv_buf){GPA(head.v + buf[0].len), 16 - buf[0].len, false};
	for (unsigned i = 0; i < data; i++)
		buf[n++] = (struct drv_buf){ranges ? GPA(head.v + 16) : pick_address(s),
					    ranges ? 16 * (how % 9) : pick_length(s),
					    header.type == VIRTIO_BLK_T_IN || header.type == 8};
	if (how < 250)
		buf[n++] = (struct drv_buf){GPA(head.v + 4000), 1 + how % 3, true};
	for (unsigned i = 0; i < n; i++)
		if (buf[i].write)
			mark(buf[i].addr, buf[i].len);
	if ((how & 0x20 ? drv_add_indirect(q, buf, n) : drv_add(q, buf, n)) >= 0)
		fuzz.sent++;
}

/* Turns of the loop until nothing is left to do. */
static void run(void)
{
	uint32_t id, len;

	drv_pump(&fuzz.drv);
	while (fuzz.queue->hook.fn(&fuzz.queue->hook))
		;
	while (drv_used(&fuzz.drv.queue[0], &id, &len)) {
		CHECK(id < QUEUE_SIZE);
		fuzz.answered++;
	}
}

static bool broken(void)
{
	return drv_read32(&fuzz.drv, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void check_memory(void)
{
	const uint8_t *now = fuzz.drv.mem.region[0].host;
	const struct drv_queue *q = &fuzz.drv.queue[0];

	mark(q->used_gpa, 6 + 8 * QUEUE_SIZE);
	for (unsigned p = 0; p < PAGES; p++)
		CHECK(fuzz.writable[p] || !memcmp(now + p * 4096, fuzz.before + p * 4096, 4096));
}

static void command(struct script *s)
{
	struct drv_queue *q = &fuzz.drv.queue[0];
	uint64_t what = take(s, 1);

	if (what < 200) {
		for (unsigned n = 1 + (unsigned)(what % 4); n; n--)
			send(s);
	} else if (what < 220) {
		/* Damage to a descriptor: what it points to may be written from now on. */
		struct vring_desc *d = &q->desc[take(s, 1) % QUEUE_SIZE];

		((uint8_t *)d)[take(s, 1) % sizeof(*d)] ^= (uint8_t)take(s, 1);
		for (unsigned i = 0; i < QUEUE_SIZE; i++)
			mark(GPA(q->desc[i].addr), q->desc[i].len);
	} else if (what < 225) {
		drv_make_available(q, (uint16_t)take(s, 2));
		fuzz.sent++;
	} else if (what < 227) {
		q->avail->idx = (uint16_t)take(s, 2);
		fuzz.sent = UINT32_MAX / 2;
	}
	memcpy(fuzz.before, fuzz.drv.mem.region[0].host, RAM);
	drv_kick(q);
	run();
	if (fuzz.changing)
		return;
	check_memory();
	CHECK(fuzz.answered <= fuzz.sent);
	/* As long as the driver keeps the rules, all of it is answered. */
	CHECK(broken() || fuzz.sent > 1000000 || fuzz.answered == fuzz.sent);
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

	if (!fuzz.before) {
		log_set_level(LOG_ERROR);
		fuzz.before = malloc(RAM);
		fuzz.image_fd = memfd_create("image", 0);
		CHECK(fuzz.before && ftruncate(fuzz.image_fd, IMAGE_SIZE) == 0);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzz.image_fd);
	config.path = path;
	config.discard = options & IGNORE ? DISCARD_IGNORE : DISCARD_UNMAP;
	config.detect_zeroes = options & DETECT ? DETECT_ZEROES_UNMAP : DETECT_ZEROES_OFF;
	CHECK(blk_image_open(&image, &config, NULL) == 0);
	/* The demands of O_DIRECT, without what makes it slow. */
	image->direct = options & DIRECT;
	/* A file has no secure erase: each fails, after all that is done before. */
	image->secure_erase = options & ERASE;
	image->memory_align = options & DIRECT ? 512 : 1;
	image->discard_step = 64 * KIB;
	drv_init(&fuzz.drv, RAM);
	CHECK(loop_new(&fuzz.loop, "fuzz", LOOP_EPOLL, 0, NULL) == 0);
	CHECK(blk_device_new(&fuzz.dev, &fuzz.drv.mem, image, &config, &fuzz.loop, NULL) == 0);
	blk = container_of(fuzz.dev, struct blk_device, dev);
	fuzz.queue = &blk->queue[0];
	/* All on one thread: so what is a worker's is done inline. */
	loop_free(blk->worker);
	blk->worker = fuzz.queue->engine->worker = NULL;
	drv_attach(&fuzz.drv, fuzz.dev);
	drv_start(&fuzz.drv, ~declined, QUEUE_SIZE);
	memset(fuzz.writable, 0, sizeof(fuzz.writable));
	fuzz.sent = fuzz.answered = 0;
	fuzz.next_sector = 0;
	fuzz.changing = options & CHANGING;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stat st;
	uint8_t options;
	unsigned commands = 0;

	fuzz.script = (struct script){data, data + size};
	options = (uint8_t)take(&fuzz.script, 1);
	/* Features 0 to 15, the ring's, and VERSION_1 always. */
	set_up(options, take(&fuzz.script, 2) | take(&fuzz.script, 1) << 28);
	gmem_read_hook = fuzz.changing ? change_memory : NULL;
	while (fuzz.script.at < fuzz.script.end && !broken() && commands++ < 64)
		command(&fuzz.script);
	gmem_read_hook = NULL;
	CHECK(fstat(fuzz.image_fd, &st) == 0 && st.st_size == IMAGE_SIZE);

	virtio_dev_quiesce(fuzz.dev);
	virtio_dev_free(fuzz.dev);
	loop_free(fuzz.loop);
	drv_free(&fuzz.drv);
	return 0;
}
