// SPDX-License-Identifier: BSD-2-Clause
/* Split virtqueues as a well-behaved driver uses them: interrupts, EVENT_IDX, indirect descriptors,
 * reset; and the number of exits that they take. */
#include "support.h"

#define VECTOR 40u
#define DEPTH  8u

#define EVENT_IDX FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  FEATURE(VIRTIO_RING_F_INDIRECT_DESC)

/* Reads sector 0 and takes the interrupt. */
static bool read_with_interrupt(struct vio *d)
{
	static uint8_t buf[SECTOR];
	static struct blk r;
	uint32_t before = irq_count[VECTOR];
	bool ok;

	if (blk_add(&d->vq[0], &r, VIRTIO_BLK_T_IN, 0, &(struct sg){buf, SECTOR}, 1) < 0)
		return false;
	vq_publish(&d->vq[0]);
	vq_notify(&d->vq[0]);
	ok = WAIT_UNTIL(irq_count[VECTOR] != before);
	ok = vq_wait(&d->vq[0], NULL) >= 0 && r.status == VIRTIO_BLK_S_OK && ok;
	ok = (vio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING) && ok;
	vio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	return ok;
}

/* Submits `n` reads in one batch without waiting, then waits for all. */
static bool batch(struct vio *d, unsigned n)
{
	static uint8_t buf[DEPTH][SECTOR];
	static struct blk r[DEPTH];
	struct vq *q = &d->vq[0];

	for (unsigned i = 0; i < n; i++)
		if (blk_add(q, &r[i], VIRTIO_BLK_T_IN, i, &(struct sg){buf[i], SECTOR}, 1) < 0)
			return false;
	vq_publish(q);
	vq_notify(q);
	for (unsigned i = 0; i < n; i++)
		if (vq_wait(q, NULL) < 0)
			return false;
	return true;
}

static void check_interrupts(struct vio *d)
{
	uint32_t before;

	CHECK(vio_start(d, 0, 1, 64), "start");
	irq_route(d->pin, VECTOR, 0);
	for (unsigned i = 0; i < 200; i++) {
		if (!read_with_interrupt(d)) {
			CHECK(false, "interrupt %u", i);
			return;
		}
	}
	CHECK(true, "200 requests, each with its interrupt");
	if (cmdline_get("trap"))
		CHECK_EQ(vio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0, "the ACK clears the status");
	vio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	CHECK(read_with_interrupt(d), "ACKs of what never was do no harm");

	*(volatile uint16_t *)&d->vq[0].avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	before = irq_count[VECTOR];
	CHECK(batch(d, DEPTH), "a batch without interrupts");
	delay_us(20000);
	CHECK_EQ(irq_count[VECTOR], before, "NO_INTERRUPT is respected");
	*(volatile uint16_t *)&d->vq[0].avail->flags = 0;
	CHECK(read_with_interrupt(d), "and can be taken back");

	irq_mask(d->pin);
	before = irq_count[VECTOR];
	CHECK(batch(d, 1), "a request with the pin masked");
	delay_us(20000);
	CHECK_EQ(irq_count[VECTOR], before, "no interrupt from a masked pin");
	irq_route(d->pin, VECTOR, 0);
	CHECK(read_with_interrupt(d), "interrupts again after unmasking");
	irq_mask(d->pin);
}

static void check_event_idx(struct vio *d)
{
	struct vq *q = &d->vq[0];
	uint32_t before;

	if (!(vio_device_features(d) & EVENT_IDX)) {
		check_skip("EVENT_IDX is not offered");
		return;
	}
	CHECK(vio_start(d, EVENT_IDX, 1, 64), "start with EVENT_IDX");
	irq_route(d->pin, VECTOR, 0);
	for (unsigned i = 0; i < 100; i++) {
		VQ_USED_EVENT(q) = q->last_used;
		if (!read_with_interrupt(d)) {
			CHECK(false, "interrupt %u with EVENT_IDX", i);
			return;
		}
	}
	CHECK(true, "100 requests, each with the interrupt it asked for");

	VQ_USED_EVENT(q) = (uint16_t)(q->last_used + 5);
	before = irq_count[VECTOR];
	for (unsigned i = 0; i < 5; i++)
		batch(d, 1);
	delay_us(20000);
	CHECK_EQ(irq_count[VECTOR], before, "no interrupt before used_event");
	batch(d, 1);
	CHECK(WAIT_UNTIL(irq_count[VECTOR] == before + 1), "one when it is reached");
	batch(d, 3);
	delay_us(20000);
	CHECK_EQ(irq_count[VECTOR], before + 1, "and none after it");

	VQ_USED_EVENT(q) = (uint16_t)(q->last_used + 3);
	CHECK(batch(d, DEPTH) && WAIT_UNTIL(irq_count[VECTOR] >= before + 2),
	      "one when it is passed inside a batch");
	irq_mask(d->pin);
}

/* Both indexes wrap, and the driver notifies only when the device asked for it. */
static void check_wrap(struct vio *d, uint64_t features)
{
	static uint8_t buf[DEPTH][16];
	struct vq *q = &d->vq[0];
	const uint32_t total = 70000;
	uint32_t submitted = 0, done = 0, kicks = 0;

	if (!vio_start(d, features, 1, 16)) {
		CHECK(false, "start for the wrap-around");
		return;
	}
	while (done < total) {
		while (submitted - done < DEPTH && submitted < total) {
			vq_add(q, &(struct sg){buf[submitted % DEPTH], 16}, 0, 1);
			submitted++;
			vq_publish(q);
			if (vq_wants_notify(q)) {
				vq_notify(q);
				kicks++;
			}
		}
		if (vq_wait(q, NULL) < 0)
			break;
		done++;
	}
	CHECK_EQ(done, total, "70,000 requests, notified only as asked");
	print("# %u notifications\n", kicks);
}

static void check_indirect(struct vio *d)
{
	struct vring_desc *table;
	struct virtio_blk_outhdr *hdr;
	uint8_t *data, *expect, *status;
	struct sg sg[18];
	struct vq *q = &d->vq[0];
	uint32_t len;

	if (!(vio_device_features(d) & INDIRECT)) {
		check_skip("INDIRECT_DESC is not offered");
		return;
	}
	CHECK(vio_start(d, INDIRECT, 1, 4), "start with INDIRECT_DESC, a queue of 4");
	table = alloc(16 * 18, 16);
	hdr = alloc(16, 16);
	data = alloc(8192, 16);
	expect = alloc(8192, 16);
	status = alloc(1, 1);
	CHECK(blk_read(q, 0, expect, 8192) == VIRTIO_BLK_S_OK, "a direct read");
	sg[0] = (struct sg){hdr, 16};
	for (unsigned i = 0; i < 16; i++)
		sg[1 + i] = (struct sg){data + 512 * i, 512};
	sg[17] = (struct sg){status, 1};
	*status = STATUS_NONE;
	vq_add_indirect(q, table, sg, 1, 17);
	vq_publish(q);
	vq_notify(q);
	CHECK(vq_wait(q, &len) >= 0,
	      "16 buffers, more than the queue has entries, by one descriptor");
	CHECK_EQ(*status, VIRTIO_BLK_S_OK, "status");
	CHECK_EQ(len, 8193, "written length");
	CHECK(!memcmp(data, expect, 8192), "data");
}

void test_rings(void)
{
	struct vio *blk = need(VIRTIO_ID_BLOCK, 0), *rng = need(VIRTIO_ID_RNG, 0);

	check_interrupts(blk);
	check_event_idx(blk);
	check_indirect(blk);
	check_wrap(rng, 0);
	check_wrap(rng, EVENT_IDX);
	for (unsigned i = 0; i < 50; i++) {
		if (!vio_start(blk, EVENT_IDX, 1, 16) || !batch(blk, 3)) {
			CHECK(false, "start %u", i);
			return;
		}
	}
	CHECK(true, "50 times reset and started");
}

/*
 * n block requests between two writes to an unused port: the runner compares the exits of runs with
 * different n. "irq" takes each interrupt: a read of InterruptStatus and an ACK.
 */
void test_exits(void)
{
	static uint8_t buf[DEPTH][4096];
	static struct blk r[DEPTH];
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	struct vq *q = &d->vq[0];
	uint64_t n = cmdline_u64("n", 10000), sectors = blk_capacity(d) - 8, rnd = 1, bad = 0;
	bool irq = cmdline_get("irq") != NULL;
	unsigned depth = irq ? 1 : DEPTH;

	CHECK(vio_start(d, irq ? 0 : EVENT_IDX, 1, 64), "start");
	if (irq)
		irq_route(d->pin, VECTOR, 0);
	else
		VQ_USED_EVENT(q) = (uint16_t)(q->last_used - 1);
	outl(0x510, 1);
	for (uint64_t done = 0; done < n;) {
		unsigned some = n - done < depth ? (unsigned)(n - done) : depth;
		uint32_t before = irq_count[VECTOR];

		for (unsigned i = 0; i < some; i++)
			blk_add(q, &r[i], i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				random64(&rnd) % sectors, &(struct sg){buf[i], 4096}, 1);
		vq_publish(q);
		vq_notify(q);
		if (irq && !WAIT_UNTIL(irq_count[VECTOR] != before))
			panic("no interrupt");
		for (unsigned i = 0; i < some; i++, done++)
			if (vq_wait(q, NULL) < 0)
				panic("no answer");
		if (irq) {
			bad += !(vio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS) & 1);
			vio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
		}
		for (unsigned i = 0; i < some; i++)
			bad += r[i].status != VIRTIO_BLK_S_OK;
	}
	outl(0x510, 2);
	if (irq)
		irq_mask(d->pin);
	CHECK_EQ(bad, 0, "every request done");
}
