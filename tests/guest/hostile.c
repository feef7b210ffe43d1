// SPDX-License-Identifier: BSD-2-Clause
/*
 * A driver that breaks the rules of virtqueues (virtio 1.3, section 2.7), one at a time.
 *
 * After each crime the device must have set DEVICE_NEEDS_RESET (or, where the specification leaves
 * it open, have answered with an error), the rest of the VM must go on, and the device must work
 * again after a reset. No memory that the driver did not offer may have changed.
 */
#include "support.h"

#define QUEUE_SIZE 16u
#define PAGE	   4096u
#define GUARD_SEED 77u

static struct vio *dev;
static struct vq *q;
static uint8_t *page;  /* a legitimate buffer, 64 KiB */
static uint8_t *guard; /* memory that no request may touch */
static struct virtio_blk_outhdr *hdr;
static uint8_t *status;

#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

/* A read of `len` bytes from sector 0 into `addr`, as descriptors 0, 1 and 2. */
static void lay_read(uint64_t addr, uint32_t len)
{
	*hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 0};
	*status = STATUS_NONE;
	vq_set_desc(q, 0, (uint64_t)hdr, sizeof(*hdr), NEXT, 1);
	vq_set_desc(q, 1, addr, len, NEXT | WRITE, 2);
	vq_set_desc(q, 2, (uint64_t)status, 1, WRITE, 0);
}

static void lay_good_read(void)
{
	lay_read((uint64_t)page, PAGE);
}

static void go(uint16_t head)
{
	vq_offer(q, head);
	vq_notify(q);
}

/* The crimes. Each starts from a fresh device and a read laid out as above. */
static void beyond_ram(void)
{
	lay_read(ram_top, PAGE);
	go(0);
}
static void across_end_of_ram(void)
{
	lay_read(ram_top - SECTOR, 2 * SECTOR);
	go(0);
}
static void wrapping(void)
{
	lay_read(~0ull - SECTOR + 1, 2 * SECTOR);
	go(0);
}
static void at_the_very_end(void)
{
	lay_read(~0ull, 1);
	go(0);
}
static void into_registers(void)
{
	lay_read(dev->base, PAGE);
	go(0);
}
static void into_local_apic(void)
{
	lay_read(0xfee00000, PAGE);
	go(0);
}
static void header_beyond_ram(void)
{
	q->desc[0].addr = ram_top + PAGE;
	go(0);
}
static void status_beyond_ram(void)
{
	q->desc[2].addr = ram_top;
	go(0);
}
static void huge_length(void)
{
	q->desc[1].len = 0xffffffff;
	go(0);
}
static void sum_over_32_bits(void)
{
	/* Each fits RAM, all of them together are 4 GiB and more. */
	uint64_t most = ram[num_ram - 1].size & ~0xfffull;
	uint64_t base = ram[num_ram - 1].base;
	uint16_t i;

	if (most > 0x80000000)
		most = 0x80000000;
	for (i = 1; i < QUEUE_SIZE - 1; i++)
		vq_set_desc(q, i, base, (uint32_t)most, NEXT, (uint16_t)(i + 1));
	vq_set_desc(q, i, (uint64_t)status, 1, WRITE, 0);
	hdr->type = VIRTIO_BLK_T_OUT;
	hdr->sector = blk_capacity(dev); /* and where a device adds no further, beyond the disk */
	go(0);
}
static void loop_of_two(void)
{
	q->desc[1].next = 0;
	go(0);
}
static void loop_of_one(void)
{
	q->desc[1].next = 1;
	go(0);
}
static void next_out_of_range(void)
{
	q->desc[1].next = QUEUE_SIZE;
	go(0);
}
static void next_far_out_of_range(void)
{
	q->desc[1].next = 0xffff;
	go(0);
}
static void head_out_of_range(void)
{
	go(QUEUE_SIZE);
}
static void head_far_out_of_range(void)
{
	go(0xffff);
}
static void head_negative(void)
{
	go(0x8000);
}
static void index_jumps(void)
{
	q->avail_idx = (uint16_t)(q->avail_idx + QUEUE_SIZE + 1);
	vq_publish(q);
	vq_notify(q);
}
static void index_jumps_back(void)
{
	q->avail_idx--;
	vq_publish(q);
	vq_notify(q);
}
static void index_jumps_far(void)
{
	q->avail_idx = (uint16_t)(q->avail_idx + 0x8000);
	vq_publish(q);
	vq_notify(q);
}
static void unknown_flags(void)
{
	q->desc[1].flags |= 0x8;
	go(0);
}
static void unknown_high_flags(void)
{
	q->desc[2].flags |= 0x8000;
	go(0);
}
static void writable_before_readable(void)
{
	vq_set_desc(q, 0, (uint64_t)page, SECTOR, NEXT | WRITE, 1);
	vq_set_desc(q, 1, (uint64_t)hdr, sizeof(*hdr), NEXT, 2);
	go(0);
}
static void same_head_twice(void)
{
	/* Large enough that the first is under way when the second is seen. */
	lay_read((uint64_t)page, 16 * PAGE);
	q->avail->ring[q->avail_idx++ % QUEUE_SIZE] = 0;
	go(0);
}
static void every_slot_the_same_head(void)
{
	lay_read((uint64_t)page, 16 * PAGE);
	for (unsigned i = 1; i < QUEUE_SIZE; i++)
		q->avail->ring[q->avail_idx++ % QUEUE_SIZE] = 0;
	go(0);
}

/* With INDIRECT_DESC negotiated, unless said otherwise. */
static struct vring_desc *table;

static void lay_indirect(uint32_t bytes)
{
	table[0] = q->desc[0];
	table[1] = q->desc[1];
	table[2] = q->desc[2];
	vq_set_desc(q, 0, (uint64_t)table, bytes, INDIRECT, 0);
}
static void indirect_not_negotiated(void)
{
	lay_indirect(48);
	go(0);
}
static void indirect_empty(void)
{
	lay_indirect(0);
	go(0);
}
static void indirect_odd_length(void)
{
	lay_indirect(47);
	go(0);
}
static void indirect_too_long(void)
{
	lay_indirect(16u << 20);
	go(0);
}
static void indirect_beyond_ram(void)
{
	lay_indirect(48);
	q->desc[0].addr = ram_top - 16;
	go(0);
}
static void indirect_wraps(void)
{
	lay_indirect(48);
	q->desc[0].addr = ~0ull - 15;
	go(0);
}
static void indirect_in_registers(void)
{
	lay_indirect(48);
	q->desc[0].addr = dev->base + 0x100;
	go(0);
}
static void indirect_nested(void)
{
	lay_indirect(48);
	table[1] = (struct vring_desc){(uint64_t)table, 48, INDIRECT, 0};
	go(0);
}
static void indirect_itself(void)
{
	lay_indirect(16);
	table[0] = (struct vring_desc){(uint64_t)table, 16, INDIRECT, 0};
	go(0);
}
static void indirect_loop(void)
{
	lay_indirect(48);
	table[1].next = 0;
	go(0);
}
static void indirect_next_out_of_table(void)
{
	lay_indirect(32); /* the third is beyond it */
	go(0);
}
static void indirect_and_next(void)
{
	lay_indirect(48);
	q->desc[0].flags |= NEXT;
	q->desc[0].next = 4;
	vq_set_desc(q, 4, (uint64_t)page, SECTOR, WRITE, 0);
	go(0);
}
static void indirect_after_direct(void)
{
	table[0] = (struct vring_desc){(uint64_t)page, SECTOR, NEXT | WRITE, 1};
	table[1] = (struct vring_desc){(uint64_t)page, SECTOR, INDIRECT, 0};
	vq_set_desc(q, 1, (uint64_t)table, 32, INDIRECT, 0);
	go(0);
}

enum verdict {
	MUST_FAIL,  /* DEVICE_NEEDS_RESET */
	MAY_ANSWER, /* or a used entry */
};

#define F_INDIRECT FEATURE(VIRTIO_RING_F_INDIRECT_DESC)

static const struct crime {
	const char *name;
	void (*commit)(void);
	uint64_t features;
	enum verdict verdict;
} crimes[] = {
	{"a buffer beyond RAM", beyond_ram, 0, MUST_FAIL},
	{"a buffer across the end of RAM", across_end_of_ram, 0, MUST_FAIL},
	{"a buffer that wraps", wrapping, 0, MUST_FAIL},
	{"a buffer at the last byte", at_the_very_end, 0, MUST_FAIL},
	{"a buffer in the registers", into_registers, 0, MUST_FAIL},
	{"a buffer in the local APIC", into_local_apic, 0, MUST_FAIL},
	{"a header beyond RAM", header_beyond_ram, 0, MUST_FAIL},
	{"a status byte beyond RAM", status_beyond_ram, 0, MUST_FAIL},
	{"a length of 4 GiB", huge_length, 0, MUST_FAIL},
	{"lengths whose sum is over 32 bits", sum_over_32_bits, 0, MAY_ANSWER},
	{"a loop of two", loop_of_two, 0, MUST_FAIL},
	{"a loop of one", loop_of_one, 0, MUST_FAIL},
	{"next out of range", next_out_of_range, 0, MUST_FAIL},
	{"next far out of range", next_far_out_of_range, 0, MUST_FAIL},
	{"a head out of range", head_out_of_range, 0, MUST_FAIL},
	{"a head far out of range", head_far_out_of_range, 0, MUST_FAIL},
	{"a negative head", head_negative, 0, MUST_FAIL},
	{"the index jumps by more than the size", index_jumps, 0, MUST_FAIL},
	{"the index jumps back", index_jumps_back, 0, MUST_FAIL},
	{"the index jumps far", index_jumps_far, 0, MUST_FAIL},
	{"an unknown flag", unknown_flags, 0, MUST_FAIL},
	{"an unknown high flag", unknown_high_flags, 0, MUST_FAIL},
	{"writable before readable", writable_before_readable, 0, MUST_FAIL},
	/* If the first is done before the second is looked at, it is no crime. */
	{"the same head twice", same_head_twice, 0, MAY_ANSWER},
	{"the same head in every slot", every_slot_the_same_head, 0, MAY_ANSWER},
	{"an indirect table without the feature", indirect_not_negotiated, 0, MUST_FAIL},
	{"an empty indirect table", indirect_empty, F_INDIRECT, MUST_FAIL},
	{"an indirect table of an odd length", indirect_odd_length, F_INDIRECT, MUST_FAIL},
	{"an indirect table of a million entries", indirect_too_long, F_INDIRECT, MUST_FAIL},
	{"an indirect table across the end of RAM", indirect_beyond_ram, F_INDIRECT, MUST_FAIL},
	{"an indirect table that wraps", indirect_wraps, F_INDIRECT, MUST_FAIL},
	{"an indirect table in the registers", indirect_in_registers, F_INDIRECT, MUST_FAIL},
	{"an indirect table in a table", indirect_nested, F_INDIRECT, MUST_FAIL},
	{"an indirect table that is its own", indirect_itself, F_INDIRECT, MUST_FAIL},
	{"a loop in an indirect table", indirect_loop, F_INDIRECT, MUST_FAIL},
	{"next out of an indirect table", indirect_next_out_of_table, F_INDIRECT, MUST_FAIL},
	{"indirect and next at once", indirect_and_next, F_INDIRECT, MUST_FAIL},
	{"a table in a table after a direct descriptor", indirect_after_direct, F_INDIRECT,
	 MUST_FAIL},
};

static bool needs_reset(void)
{
	return vio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static bool answered(void)
{
	return *(volatile uint16_t *)&q->used->idx != q->last_used;
}

static bool works_again(void)
{
	return vio_reset(dev) && vio_start(dev, 0, 1, QUEUE_SIZE) &&
	       blk_read(q, 0, page, PAGE) == VIRTIO_BLK_S_OK;
}

static void try_crime(const struct crime *c)
{
	size_t mark = heap_mark();

	if (!vio_start(dev, c->features, 1, QUEUE_SIZE)) {
		CHECK(false, "start before %s", c->name);
		return;
	}
	lay_good_read();
	c->commit();
	if (c->verdict == MUST_FAIL)
		CHECK(WAIT_UNTIL(needs_reset()), "NEEDS_RESET after %s", c->name);
	else
		CHECK(WAIT_UNTIL(needs_reset() || answered()), "NEEDS_RESET or an answer after %s",
		      c->name);
	/* It stays stopped, whatever is asked of it. */
	if (needs_reset()) {
		uint16_t used = *(volatile uint16_t *)&q->used->idx;

		lay_good_read();
		go(0);
		vio_driver_ok(dev);
		go(0);
		delay_us(2000);
		CHECK(needs_reset() && *(volatile uint16_t *)&q->used->idx == used,
		      "stopped until the reset after %s", c->name);
	}
	CHECK(works_again(), "works again after %s", c->name);
	heap_release(mark);
}

static void set_up(void)
{
	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	page = alloc(64 * 1024, PAGE);
	guard = alloc(64 * 1024, PAGE);
	table = alloc(PAGE, 16);
	hdr = alloc(sizeof(*hdr), 16);
	status = alloc(16, 16);
	pattern_fill(guard, 64 * 1024, GUARD_SEED, 0);
}

void test_hostile(void)
{
	set_up();
	for (unsigned i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++)
		try_crime(&crimes[i]);
	CHECK(bystander_works(dev), "other devices work");
	CHECK_EQ(pattern_check(guard, 64 * 1024, GUARD_SEED, 0), 64 * 1024,
		 "no other memory was written");
}

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
