// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-mmio registers: a driver that writes what it likes, and now and then does the right thing
 * for a while, on a device whose loop does not run. A small model of the status machine, written
 * from the specification, has to agree; the page has to be true; queues work only when they may.
 */
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "echo.h"
#include "input.h"

#define RAM	  (2 * MIB)
#define QUEUES	  3u
#define MAX_SIZE  32u
#define MAX_STEPS 300u

#define STEPS                                                                                      \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)
#define OWN (STEPS | VIRTIO_CONFIG_S_FAILED) /* the driver's bits */

struct model {
	uint32_t status; /* without NEEDS_RESET */
	bool broken;	 /* NEEDS_RESET: the model takes the device's word */
	uint64_t features;
	bool beyond;
	uint32_t driver_sel, device_sel, queue_sel;
};

struct fuzz {
	struct input in;
	struct drv d;
	struct echo *echo;
	struct model m;
};

static bool model_features_ok(const struct fuzz *f)
{
	return !f->m.beyond && !(f->m.features & ~f->echo->dev.features) &&
	       f->m.features & (1ull << VIRTIO_F_VERSION_1);
}

static void model_status(struct fuzz *f, uint32_t value)
{
	static const uint32_t order[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
					 VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER_OK};
	struct model *m = &f->m;

	if (value == 0) {
		*m = (struct model){0};
		return;
	}
	value &= ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	if (value & ~(uint32_t)OWN || m->status & ~value)
		return;
	m->status |= value & VIRTIO_CONFIG_S_FAILED;
	for (unsigned i = 0; i < 4 && !(m->status & VIRTIO_CONFIG_S_FAILED) && !m->broken; i++) {
		if (m->status & order[i])
			continue;
		if (!(value & order[i]))
			break;
		if (order[i] == VIRTIO_CONFIG_S_FEATURES_OK && !model_features_ok(f))
			break;
		m->status |= order[i];
	}
}

static void model_write(struct fuzz *f, uint32_t offset, uint32_t value)
{
	struct model *m = &f->m;

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->device_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->driver_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if ((m->status & STEPS) != (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER))
			break;
		if (m->driver_sel < 2)
			((uint32_t *)(void *)&m->features)[m->driver_sel] = value;
		else
			m->beyond |= value != 0;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->queue_sel = value;
		break;
	case VIRTIO_MMIO_STATUS:
		model_status(f, value);
		break;
	}
}

static void check_device(struct fuzz *f)
{
	struct virtio_dev *dev = &f->echo->dev;
	uint32_t status = drv_page32(&f->d, VIRTIO_MMIO_STATUS);
	const struct model *m = &f->m;
	bool exists = m->queue_sel < QUEUES;
	bool running = status & VIRTIO_CONFIG_S_DRIVER_OK && !m->broken;

	check(status == (m->status | (m->broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0u)));
	check(status == dev->status);
	check(dev->driver_features == m->features);
	check(drv_page32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES) ==
	      (m->device_sel < 2 ? (uint32_t)(dev->features >> (32 * m->device_sel)) : 0));
	check(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX) == (exists ? MAX_SIZE : 0));
	check(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY) ==
	      (exists && dev->queue[m->queue_sel].vq.ready));
	check(!(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS) & ~3u));
	check(!(drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION) & 1));
	check(!memcmp(f->d.page + VIRTIO_MMIO_CONFIG, dev->config, ECHO_CONFIG_LEN));
	for (unsigned q = 0; q < QUEUES; q++) {
		check(dev->queue[q].active == (running && dev->queue[q].vq.ready));
		check(!dev->queue[q].started || status & VIRTIO_CONFIG_S_DRIVER_OK);
	}
	if (!status) {
		check(f->echo->starts == f->echo->stops);
		check(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS) == 0);
		for (unsigned q = 0; q < QUEUES; q++)
			check(!dev->queue[q].vq.ready && f->echo->num_held[q] == 0);
	}
}

/* The device may break in whatever touches queues; nothing but a reset mends it. */
static void see_if_broken(struct fuzz *f)
{
	bool broken = f->echo->dev.status & VIRTIO_CONFIG_S_NEEDS_RESET;

	check(broken || !f->m.broken);
	f->m.broken = broken;
}

static void write32(struct fuzz *f, uint32_t offset, uint32_t value)
{
	model_write(f, offset, value);
	drv_write32(&f->d, offset, value);
	see_if_broken(f);
}

static void write_some_register(struct fuzz *f)
{
	static const uint8_t regs[] = {
		VIRTIO_MMIO_DEVICE_FEATURES_SEL,
		VIRTIO_MMIO_DRIVER_FEATURES,
		VIRTIO_MMIO_DRIVER_FEATURES_SEL,
		VIRTIO_MMIO_QUEUE_SEL,
		VIRTIO_MMIO_QUEUE_NUM,
		VIRTIO_MMIO_QUEUE_READY,
		VIRTIO_MMIO_QUEUE_NOTIFY,
		VIRTIO_MMIO_INTERRUPT_ACK,
		VIRTIO_MMIO_STATUS,
		VIRTIO_MMIO_QUEUE_DESC_LOW,
		VIRTIO_MMIO_QUEUE_DESC_HIGH,
		VIRTIO_MMIO_QUEUE_AVAIL_LOW,
		VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
		VIRTIO_MMIO_QUEUE_USED_LOW,
		VIRTIO_MMIO_QUEUE_USED_HIGH,
		VIRTIO_MMIO_SHM_SEL,
	};
	uint8_t which = take8(&f->in);
	uint32_t value = which & 0x80 ? take32(&f->in) : take8(&f->in);

	write32(f, regs[which % ARRAY_SIZE(regs)], value);
}

/* Any offset and width. */
static void access_anything(struct fuzz *f)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	uint32_t len = widths[take8(&f->in) % 4];
	uint64_t offset = take16(&f->in) % 0x1200, data = take64(&f->in), got = UINT64_MAX;

	if (offset == 0x11ff)
		offset = take64(&f->in);
	if (len == 4 && offset < VIRTIO_MMIO_CONFIG && offset % 4 == 0)
		model_write(f, (uint32_t)offset, (uint32_t)data);
	virtio_mmio_write(&f->echo->dev, offset, &data, len);
	see_if_broken(f);
	virtio_mmio_read(&f->echo->dev, offset, &got, len);
	check(len == 8 || got >> (8 * len) == UINT64_MAX >> (8 * len)); /* not a byte more */
	if (offset < VIRTIO_MMIO_CONFIG && (len != 4 || offset % 4))
		check((got << (64 - 8 * len)) == 0);
	if (offset >= VIRTIO_MMIO_CONFIG + ECHO_CONFIG_LEN)
		check((got << (64 - 8 * len)) == 0);
}

/* What a good driver does, through the same registers. */
static void initialise(struct fuzz *f)
{
	uint64_t features = f->echo->dev.features & ~((uint64_t)take8(&f->in) << 24);
	uint8_t ready = take8(&f->in);

	f->d.next = 4096;
	write32(f, VIRTIO_MMIO_STATUS, 0);
	write32(f, VIRTIO_MMIO_STATUS, 1);
	write32(f, VIRTIO_MMIO_STATUS, 3);
	for (uint32_t i = 0; i < 2; i++) {
		write32(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		write32(f, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	write32(f, VIRTIO_MMIO_STATUS, 11);
	check(f->m.status == 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		if (!(ready & (1u << q)))
			continue;
		drv_queue_setup(&f->d, q, (uint16_t)(1u << (ready >> 3) % 6));
		f->m.queue_sel = q;
	}
	if (ready & 0x80)
		return;
	write32(f, VIRTIO_MMIO_STATUS, 15);
	check(f->m.status == 15 && !f->m.broken);
}

static void use_queue(struct fuzz *f)
{
	struct drv_queue *q = &f->d.queue[take8(&f->in) % QUEUES];
	struct drv_buf buf = {GPA(0), take8(&f->in), take8(&f->in) & 1};
	uint8_t how = take8(&f->in);

	if (!q->size)
		return;
	if (how < 8)
		drv_make_available(q, take16(&f->in));
	else if (how < 16)
		q->desc[take8(&f->in) % q->size].flags = take16(&f->in);
	else
		drv_add(q, &buf, 1);
	write32(f, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
	if (how & 1)
		drv_used(q, NULL, NULL);
}

static void step(struct fuzz *f)
{
	uint32_t value;

	switch (take8(&f->in) % 16) {
	case 0 ... 4:
		write_some_register(f);
		break;
	case 5:
		access_anything(f);
		break;
	case 6:
		initialise(f);
		break;
	case 7 ... 9:
		use_queue(f);
		break;
	case 10:
		drv_pump(&f->d);
		break;
	case 11:
		value = take32(&f->in);
		virtio_dev_set_config(&f->echo->dev, take8(&f->in), &value, 4);
		break;
	case 12:
		drv_drain(&f->d);
		break;
	case 13:
		echo_release(f->echo, take8(&f->in) % QUEUES);
		break;
	case 14:
		f->echo->hold = take8(&f->in) & 1;
		f->echo->budget = take8(&f->in) % 4;
		break;
	default:
		if (take8(&f->in) == 0xff)
			virtio_dev_fail(&f->echo->dev, "for a test");
	}
	see_if_broken(f);
	check_device(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {.in = {data, size}};
	struct loop *loop;

	log_set_level(LOG_ERROR);
	drv_init(&f.d, RAM);
	check(loop_new(&loop, "fuzz", LOOP_EPOLL, 16, NULL) == 0);
	f.echo = echo_new(&f.d.mem, QUEUES, MAX_SIZE, loop);
	if (take8(&f.in) & 1)
		drv_attach_coalesced(&f.d, &f.echo->dev);
	else
		drv_attach(&f.d, &f.echo->dev);
	for (unsigned i = 0; i < MAX_STEPS && input_left(&f.in); i++)
		step(&f);
	virtio_dev_quiesce(&f.echo->dev);
	check(f.echo->starts == f.echo->stops);
	virtio_dev_free(&f.echo->dev);
	loop_free(loop);
	drv_free(&f.d);
	return 0;
}
