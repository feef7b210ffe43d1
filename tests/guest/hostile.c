// SPDX-License-Identifier: BSD-2-Clause
/*
 * A driver that breaks the rules of virtqueues (virtio 1.3, section 2.7), one at a time.
 *
 * After each crime the device must have set DEVICE_NEEDS_RESET (or, where the specification leaves
 * it open, have answered with an error), the rest of the VM must go on, and the device must work
 * again after a reset. No memory that the driver did not offer may have changed.
 */
#include "hostile.h"

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

void test_hostile(void)
{
	set_up();
	for (unsigned i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++)
		try_crime(&crimes[i]);
	CHECK(bystander_works(dev), "other devices work");
	CHECK_EQ(pattern_check(guard, 64 * 1024, GUARD_SEED, 0), 64 * 1024,
		 "no other memory was written");
}
