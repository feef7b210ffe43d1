// SPDX-License-Identifier: BSD-2-Clause
/*
 * Block throughput as a driver sees it, for tools/bench: op=read|write, order=random|sequential,
 * bs=BYTES, depth=N, seconds=S; "irq" waits for interrupts (and reads InterruptStatus and ACKs as a
 * real driver does) instead of polling the used ring. The same payload runs under other monitors.
 */
#include "support.h"

#define VECTOR	  40u
#define MAX_DEPTH 64u

#define FEATURES                                                                                   \
	(FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_BLK_F_FLUSH) |                          \
	 FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

static struct vio *dev;
static struct vq *q;
static bool irq, sequential;
static uint32_t type, bs;
static uint64_t blocks, next_block, rnd = 88172645463325252ull;
static struct blk *reqs;
static uint8_t *data;
static uint16_t slot_of_head[256];

static void submit(unsigned slot)
{
	uint64_t block = sequential ? next_block++ % blocks : random64(&rnd) % blocks;
	int head = blk_add(q, &reqs[slot], type, block * (bs / SECTOR),
			   &(struct sg){data + (uint64_t)slot * bs, bs}, 1);

	if (head < 0)
		panic("queue full");
	slot_of_head[head] = (uint16_t)slot;
}

static void publish(void)
{
	vq_publish(q);
	if (vq_wants_notify(q))
		vq_notify(q);
}

/* When to be interrupted: at the next used entry, or never. */
static void arm(bool on)
{
	if (dev->features & FEATURE(VIRTIO_RING_F_EVENT_IDX))
		VQ_USED_EVENT(q) = (uint16_t)(on ? q->last_used : q->last_used - 1);
	else
		*(volatile uint16_t *)&q->avail->flags = on ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
	full_fence();
}

static bool any_used(void)
{
	return *(volatile uint16_t *)&q->used->idx != q->last_used;
}

/* An interrupt that came early counts: where the line is a level, no other comes before its ACK. */
static void wait_for_interrupt(void)
{
	static uint32_t handled;

	arm(true);
	if (!any_used() && !WAIT_UNTIL(irq_count[VECTOR] != handled))
		panic("no interrupt");
	if (irq_count[VECTOR] != handled) {
		handled = irq_count[VECTOR];
		vio_write(dev, VIRTIO_MMIO_INTERRUPT_ACK,
			  vio_read(dev, VIRTIO_MMIO_INTERRUPT_STATUS));
	}
}

/* Runs until `end`; the number of requests done. */
static uint64_t run(unsigned depth, uint64_t end)
{
	uint64_t done = 0;
	unsigned in_flight = depth;
	bool stop = false;

	for (unsigned slot = 0; slot < depth; slot++)
		submit(slot);
	publish();
	while (in_flight) {
		unsigned batch = 0;
		int head;

		if (irq)
			wait_for_interrupt();
		else
			arm(false);
		while ((head = vq_poll(q, NULL)) >= 0) {
			unsigned slot = slot_of_head[head];

			if (reqs[slot].status != VIRTIO_BLK_S_OK)
				panic("request failed: status %u", reqs[slot].status);
			done++;
			if (stop) {
				in_flight--;
			} else {
				submit(slot);
				batch++;
			}
		}
		if (batch)
			publish();
		else
			cpu_relax();
		stop = stop || past(end);
	}
	return done;
}

void test_bench(void)
{
	const char *op = cmdline_get("op"), *order = cmdline_get("order");
	unsigned depth = (unsigned)cmdline_u64("depth", 1);
	uint64_t start, ns, n;

	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	bs = (uint32_t)cmdline_u64("bs", 4096);
	type = op && !strcmp(op, "write") ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	sequential = order && !strcmp(order, "sequential");
	irq = cmdline_get("irq") != NULL;
	if (!depth || depth > MAX_DEPTH)
		panic("depth is 1 to %u", MAX_DEPTH);
	reqs = alloc(depth * sizeof(*reqs), 16);
	data = alloc((size_t)depth * bs, 4096);
	if (!vio_start(dev, FEATURES, 1, 256))
		panic("no start");
	blocks = blk_capacity(dev) * SECTOR / bs;
	if (irq)
		irq_route(dev->pin, VECTOR, 0);
	run(depth, deadline_in(0)); /* warm */
	start = clock_ns(rdtsc());
	n = run(depth, deadline_in((unsigned)cmdline_u64("seconds", 2)));
	ns = clock_ns(rdtsc()) - start;
	if (irq)
		irq_mask(dev->pin);
	print("bench requests=%lu ns=%lu iops=%lu\n", n, ns, n * 1000000000u / ns);
	CHECK(true, "done");
}
