// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the fuzzers of devices share: a guest whose driver mostly knows what it does, and breaks the
 * rules where the input says so. The device's loop does not run: all is done on one thread.
 */
#ifndef SKEP_FUZZ_DEVICE_H
#define SKEP_FUZZ_DEVICE_H

#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM	   (1 * MIB)
#define PAGES	   (RAM / 4096)
#define QUEUE_SIZE 32u
#define AREA	   (512 * KIB) /* buffers, at the end of RAM */

static struct guest {
	struct input in;
	struct drv drv;
	struct loop *loop;
	struct virtio_dev *dev;
	uint8_t before[RAM]; /* guest RAM as the driver left it */
	bool writable[PAGES];
	bool changing;		 /* memory changes while the device reads it */
	bool lawless;		 /* what the rings hold is anybody's guess */
	unsigned sent, answered; /* chains */
} guest;

/* A number of the input, most significant byte first. */
static inline uint64_t take(unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- && input_left(&guest.in))
		v = v << 8 | take8(&guest.in);
	return v;
}

static inline void mark(gpa_t addr, uint64_t len)
{
	if (len && addr.v < RAM)
		for (uint64_t p = addr.v / 4096; p < PAGES && p * 4096 < addr.v + len; p++)
			guest.writable[p] = true;
}

/* The driver gives memory away for writing. Where the rings are, the device then writes over what the
 * driver counts by. */
static inline void give(gpa_t addr, uint64_t len)
{
	mark(addr, len);
	guest.lawless = guest.lawless || (len && addr.v < RAM - AREA);
}

/* What another vCPU might do at the worst of times. */
static inline void change_memory(const struct gmem *mem, gpa_t addr, size_t len)
{
	uint64_t at = addr.v + (len ? take(1) % len : 0);
	uint8_t byte = (uint8_t)take(1);

	if (input_left(&guest.in) && byte && at < RAM)
		mem->region[0].host[at] ^= byte;
}

static inline uint32_t pick_length(void)
{
	static const uint32_t usual[] = {0, 1, 3, 13, 16, 17, 32, 511, 512, 513, 1024, 4096, 8192};
	uint64_t v = take(1);

	if (v < 200)
		return usual[v % ARRAY_SIZE(usual)];
	return v < 250 ? (uint32_t)v * 512 : (uint32_t)take(4);
}

static inline gpa_t pick_address(void)
{
	uint64_t v = take(3);

	return v % 61 ? GPA(RAM - AREA + v % (AREA - 64 * KIB)) : GPA(take(8));
}

static inline void guest_init(bool changing)
{
	log_set_level(LOG_ERROR);
	memset(guest.writable, 0, sizeof(guest.writable));
	guest.sent = guest.answered = 0;
	guest.lawless = false;
	guest.changing = changing;
	drv_init(&guest.drv, RAM);
	check(loop_new(&guest.loop, "fuzz", LOOP_EPOLL, 0, NULL) == 0);
}

/* The device is made: its driver comes up without some features. */
static inline void guest_start(uint64_t declined)
{
	drv_attach(&guest.drv, guest.dev);
	drv_start(&guest.drv, ~declined, MIN(QUEUE_SIZE, guest.dev->queue[0].vq.max_size));
	gmem_read_hook = guest.changing ? change_memory : NULL;
}

static inline void guest_end(void)
{
	gmem_read_hook = NULL;
	virtio_dev_quiesce(guest.dev);
	virtio_dev_free(guest.dev);
	loop_free(guest.loop);
	drv_free(&guest.drv);
}

static inline void guest_send(struct drv_queue *q, const struct drv_buf *bufs, unsigned n,
			      bool indirect)
{
	for (unsigned i = 0; i < n; i++)
		if (bufs[i].write)
			give(bufs[i].addr, bufs[i].len);
	if ((indirect ? drv_add_indirect(q, bufs, n) : drv_add(q, bufs, n)) >= 0)
		guest.sent++;
}

/* A chain of some buffers, the device-writable ones last, as a driver would not always make it. */
static inline void guest_send_any(struct drv_queue *q, bool write)
{
	unsigned how = (unsigned)take(1), n = how % 8;
	struct drv_buf bufs[8];

	for (unsigned i = 0; i < n; i++)
		bufs[i] = (struct drv_buf){pick_address(), pick_length(), write};
	if (n && how >= 250)
		bufs[n - 1].write = true;
	guest_send(q, bufs, n, how & 0x20);
}

/* Damage to the queue: `what` from 200 on. */
static inline void guest_damage(struct drv_queue *q, uint64_t what)
{
	if (what < 220) {
		/* What a descriptor points to may be written from now on. */
		struct vring_desc *d = &q->desc[take(1) % q->size];

		((uint8_t *)d)[take(1) % sizeof(*d)] ^= (uint8_t)take(1);
		for (unsigned i = 0; i < q->size; i++)
			give(GPA(q->desc[i].addr), q->desc[i].len);
	} else if (what < 225) {
		drv_make_available(q, (uint16_t)take(2));
		guest.sent++;
	} else if (what < 227) {
		q->avail->idx = (uint16_t)take(2);
		guest.lawless = true;
	}
}

static inline void guest_kick(struct drv_queue *q)
{
	memcpy(guest.before, guest.drv.mem.region[0].host, RAM);
	drv_kick(q);
	drv_pump(&guest.drv);
}

/* Counts what was answered in `q`; the bytes that the device says it wrote there. */
static inline uint64_t guest_reap(struct drv_queue *q)
{
	uint64_t bytes = 0;
	uint32_t id, len;

	while (drv_used(q, &id, &len)) {
		check(guest.changing || guest.lawless || id < q->size);
		guest.answered++;
		bytes += len;
	}
	return bytes;
}

/* Only memory that the driver gave away for writing is written, and no chain is answered twice. */
static inline void guest_check(void)
{
	const uint8_t *now = guest.drv.mem.region[0].host;

	if (guest.changing)
		return;
	for (unsigned i = 0; i < guest.dev->num_queues; i++)
		mark(guest.drv.queue[i].used_gpa, 6 + 8 * QUEUE_SIZE);
	for (unsigned p = 0; p < PAGES; p++)
		check(guest.writable[p] || !memcmp(now + p * 4096, guest.before + p * 4096, 4096));
	check(guest.lawless || guest.answered <= guest.sent);
}

#endif
