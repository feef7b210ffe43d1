// SPDX-License-Identifier: BSD-2-Clause
/* A driver that is hostile in time: resets, notifications, set-up; and one that does all at random. */
#include "hostile.h"

/*
 * A reset while requests are in flight: when the status reads 0, nothing may be written any more
 * into memory that the driver takes back (CVE-2026-45782).
 */
static void check_reset_in_flight(void)
{
	enum { BUFFERS = 5, LEN = 65536 };
	struct virtio_blk_outhdr *headers = alloc(BUFFERS * sizeof(*headers), 16);
	uint8_t *late = alloc(BUFFERS * LEN, PAGE), *s = alloc(BUFFERS, 1);
	unsigned dirty = 0;

	for (unsigned round = 0; round < 100; round++) {
		size_t mark = heap_mark();

		if (!vio_start(dev, 0, 1, QUEUE_SIZE))
			break;
		for (unsigned i = 0; i < BUFFERS; i++) {
			headers[i] = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN,
								.sector = 16 * i};
			vq_add(q,
			       (struct sg[]){{&headers[i], 16}, {late + i * LEN, LEN}, {s + i, 1}},
			       1, 2);
		}
		vq_publish(q);
		vq_notify(q);
		delay_us(round % 10 * 20);
		vio_reset(dev);
		memset(late, 0xa5, BUFFERS * LEN);
		memset(s, 0xa5, BUFFERS);
		memset(q->used, 0xa5, 6 + 8 * QUEUE_SIZE);
		delay_us(500);
		for (unsigned i = 0; i < BUFFERS * LEN; i += 64)
			dirty += late[i] != 0xa5;
		for (unsigned i = 0; i < BUFFERS; i++)
			dirty += s[i] != 0xa5;
		dirty += q->used->flags != 0xa5a5 || q->used->idx != 0xa5a5;
		heap_release(mark);
	}
	CHECK_EQ(dirty, 0, "no late write after a reset");
	CHECK(works_again(), "works after 100 resets in flight");
}

/* Notifications at the wrong time, or to nobody. */
static void check_notify(void)
{
	static const uint32_t queues[] = {1, 17, 63, 64, 0xffff, 0x10000, 0x80000000, 0xffffffff};

	vio_reset(dev);
	vio_write(dev, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	CHECK_EQ(vio_status(dev), 0, "a notification before ACKNOWLEDGE");
	vio_negotiate(dev, 0);
	vio_queue(dev, 0, QUEUE_SIZE);
	lay_good_read();
	go(0);
	delay_us(10000);
	CHECK(!answered() && *status == STATUS_NONE,
	      "a notification before DRIVER_OK does nothing");
	vio_driver_ok(dev);
	vq_notify(q);
	CHECK(vq_wait(q, NULL) == 0 && *status == VIRTIO_BLK_S_OK,
	      "and the request is done after DRIVER_OK");
	q->num_free = QUEUE_SIZE;
	for (unsigned i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
		vio_write(dev, VIRTIO_MMIO_QUEUE_NOTIFY, queues[i]);
	delay_us(10000);
	CHECK(!needs_reset(), "notifications of queues that are not there");
	for (unsigned i = 0; i < 2000; i++)
		vq_notify(q);
	CHECK(!needs_reset() && works_again(), "2000 notifications of nothing");
}

/* A device whose queues were never set up, or not all of them. */
static void check_half_set_up(void)
{
	CHECK(vio_negotiate(dev, 0), "negotiate");
	vio_driver_ok(dev);
	vio_write(dev, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	delay_us(10000);
	CHECK(works_again(), "DRIVER_OK without a queue");

	vio_negotiate(dev, 0);
	vio_queue(dev, 0, QUEUE_SIZE);
	vio_write(dev, VIRTIO_MMIO_QUEUE_READY, 0);
	CHECK_EQ(vio_read(dev, VIRTIO_MMIO_QUEUE_READY), 0, "a queue is taken back");
	vio_driver_ok(dev);
	lay_good_read();
	go(0);
	delay_us(10000);
	CHECK(!answered(), "and is not used");
	CHECK(works_again(), "works after that");

	vio_start(dev, 0, 1, QUEUE_SIZE);
	lay_good_read();
	vio_write(dev, VIRTIO_MMIO_QUEUE_SEL, 0);
	vio_write(dev, VIRTIO_MMIO_QUEUE_READY, 0);
	CHECK_EQ(vio_read(dev, VIRTIO_MMIO_QUEUE_READY), 0, "a queue is stopped");
	go(0);
	delay_us(10000);
	CHECK(!answered() && *status == STATUS_NONE, "and nothing is taken from it");
	vio_write(dev, VIRTIO_MMIO_QUEUE_READY, 1);
	CHECK_EQ(vio_read(dev, VIRTIO_MMIO_QUEUE_READY), 0, "until a reset");
	CHECK(works_again(), "after which it works");

	/* All rings in one place: the device reads what it writes. */
	vio_negotiate(dev, 0);
	vio_queue(dev, 0, QUEUE_SIZE);
	vio_write(dev, VIRTIO_MMIO_QUEUE_READY, 0);
	vio_write(dev, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)(uint64_t)q->desc);
	vio_write(dev, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)(uint64_t)q->desc);
	vio_write(dev, VIRTIO_MMIO_QUEUE_READY, 1);
	vio_driver_ok(dev);
	lay_good_read();
	for (unsigned i = 0; i < 100; i++)
		vq_notify(q);
	delay_us(10000);
	CHECK(works_again(), "works after rings on top of each other");

	/* Requests that read into the rings themselves. */
	for (unsigned i = 0; i < 3; i++) {
		vio_start(dev, 0, 1, QUEUE_SIZE);
		lay_read(i == 0	  ? (uint64_t)q->desc
			 : i == 1 ? (uint64_t)q->avail & ~1ull
				  : (uint64_t)q->used,
			 SECTOR);
		go(0);
		vq_notify(q);
		delay_us(10000);
		vq_notify(q);
		delay_us(1000);
		CHECK(works_again(), "works after a read into its own ring %u", i);
		pattern_fill(guard, 64 * 1024, GUARD_SEED, 0);
	}
}

void test_hostile_life(void)
{
	set_up();
	check_notify();
	check_half_set_up();
	check_reset_in_flight();
	CHECK(bystander_works(dev), "other devices work");
}

/*
 * Everything at random: descriptors, indexes, registers. seed= and n= choose; the checks are that
 * the device can be brought back each time, and that memory outside the offered pages is untouched.
 */
static uint64_t rnd;

static uint64_t random_address(void)
{
	switch (random64(&rnd) % 8) {
	case 0:
		return random64(&rnd);
	case 1:
		return ram_top - random64(&rnd) % PAGE;
	case 2:
		return dev->base + random64(&rnd) % PAGE;
	case 3:
		return (uint64_t)table + random64(&rnd) % 64 * 16;
	default:
		return (uint64_t)page + random64(&rnd) % (32 * 1024);
	}
}

static struct vring_desc random_descriptor(unsigned limit)
{
	struct vring_desc d = {
		.addr = random_address(),
		.len = (uint32_t)(random64(&rnd) % 32768),
		.flags = (uint16_t)(random64(&rnd) % 4),
		.next = (uint16_t)(random64(&rnd) % limit),
	};

	if (random64(&rnd) % 8 == 0)
		d.flags = (uint16_t)random64(&rnd);
	if (random64(&rnd) % 8 == 0)
		d.len = (uint32_t)random64(&rnd);
	if (random64(&rnd) % 16 == 0)
		d.next = (uint16_t)random64(&rnd);
	/* Nothing that may hit what the test itself stands on. */
	if (is_ram(d.addr) && !(d.addr >= (uint64_t)page && d.addr < (uint64_t)page + 65536) &&
	    !(d.addr >= (uint64_t)table && d.addr < (uint64_t)table + PAGE))
		d.addr |= 1ull << 45;
	if (is_ram(d.addr))
		d.len %= 1024;
	return d;
}

static void random_round(void)
{
	uint64_t features = random64(&rnd) & vio_device_features(dev);

	vio_start(dev, features, 1, QUEUE_SIZE);
	for (unsigned i = 0; i < 64; i++)
		table[i] = random_descriptor(64);
	for (uint16_t i = 0; i < QUEUE_SIZE; i++)
		q->desc[i] = random_descriptor(QUEUE_SIZE);
	for (unsigned i = 0; i < 8; i++) {
		/* Some requests get as far as the device's own code. */
		lay_good_read();
		hdr->type = (uint32_t)(random64(&rnd) % 16);
		hdr->sector = random64(&rnd) >> random64(&rnd) % 64;
		if (hdr->type == VIRTIO_BLK_T_OUT || hdr->type == VIRTIO_BLK_T_DISCARD ||
		    hdr->type == VIRTIO_BLK_T_WRITE_ZEROES)
			q->desc[1] = random_descriptor(QUEUE_SIZE);
		vq_offer(q, (uint16_t)(random64(&rnd) % (QUEUE_SIZE + (i == 7))));
		if (random64(&rnd) % 4 == 0)
			vq_notify(q);
		if (random64(&rnd) % 16 == 0) {
			q->avail_idx = (uint16_t)random64(&rnd);
			vq_publish(q);
		}
		if (random64(&rnd) % 4 == 0)
			vio_write(dev, (uint32_t)(random64(&rnd) % 1024 * 4),
				  (uint32_t)random64(&rnd));
	}
	vq_notify(q);
}

void test_hostile_random(void)
{
	uint64_t n = cmdline_u64("n", 2000);

	set_up();
	rnd = cmdline_u64("seed", 1) | 1;
	for (uint64_t i = 0; i < n; i++) {
		size_t mark = heap_mark();

		random_round();
		if (i % 16 == 0 && !works_again()) {
			CHECK(false, "round %lu", i);
			return;
		}
		heap_release(mark);
	}
	CHECK(works_again(), "works after %lu rounds", n);
	CHECK(bystander_works(dev), "other devices work");
	CHECK_EQ(pattern_check(guard, 64 * 1024, GUARD_SEED, 0), 64 * 1024,
		 "no other memory was written");
}
