// SPDX-License-Identifier: BSD-2-Clause
/*
 * Block requests as a driver makes them, measured, for tools/bench. The same payload runs under
 * other monitors. Words of the command line:
 *
 *   op=read|write|discard  order=random|sequential  bs=BYTES  depth=N
 *   ms=N            ends after this time
 *   requests=N      or after this many requests; op=discard ends with the disk in any case
 *   irq             waits for interrupts (and reads InterruptStatus and ACKs, as a real driver
 * does) instead of polling the used ring span=BYTES      stays in this much of the disk from its
 * start on storm=BYTES     besides, discards the rest of the disk from `span` on once, in ranges of
 * this size, storm_depth=N at a time; with the last of them it all ends
 *
 * Requests take an indirect table where the device has them, like Linux's. The result is one line:
 * requests, ns, iops, depth (what the queue had room for), storm (discards done), and the latency
 * of requests in ns.
 */
#include "support.h"

#define VECTOR	  40u
#define MAX_SLOTS 256u

#define FEATURES                                                                                   \
	(FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_BLK_F_FLUSH) |                          \
	 FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_BLK_F_DISCARD))

/* A source of requests of one kind, over blocks of the disk. */
struct stream {
	uint32_t type, bs;
	uint64_t first, blocks, next; /* blocks of `bs` */
	bool random;
	uint64_t left, done; /* requests not submitted yet, and completed */
};

struct slot {
	struct stream *stream;
	struct blk request;
	struct virtio_blk_discard_write_zeroes range;
	struct vring_desc table[3];
	uint8_t *data;
	uint64_t submitted; /* ns */
};

static struct vio *dev;
static struct vq *q;
static bool irq;
static struct stream load, storm;
static struct slot *slots;
static struct slot *slot_of_head[MAX_SLOTS];
static uint64_t rnd = 88172645463325252ull;

/* Latencies: 32 classes for each power of two. */
#define SUB_BITS 5u
static uint32_t histogram[64u << SUB_BITS];
static uint64_t longest;

static void count_latency(uint64_t ns)
{
	unsigned shift = 0;

	while (ns >> shift >= 2u << SUB_BITS)
		shift++;
	histogram[(shift << SUB_BITS) + (ns >> shift)]++;
	if (ns > longest)
		longest = ns;
}

/* The end of the class that the request at this place (in millionths) is in. */
static uint64_t percentile(uint64_t total, uint64_t millionths)
{
	uint64_t rank = (total * millionths + 999999) / 1000000, seen = 0;

	for (unsigned i = 0; i < sizeof(histogram) / sizeof(histogram[0]); i++) {
		unsigned shift = i >> SUB_BITS ? (i >> SUB_BITS) - 1 : 0;
		uint64_t end = (uint64_t)(i - (shift << SUB_BITS) + 1) << shift;

		seen += histogram[i];
		if (seen >= rank)
			return end < longest ? end : longest;
	}
	return longest;
}

static void submit(struct slot *slot, uint64_t now)
{
	struct stream *s = slot->stream;
	uint64_t n = s->random ? random64(&rnd) % s->blocks : s->next++ % s->blocks;
	uint64_t sector = (s->first + n) * (s->bs / SECTOR);
	bool discard = s->type == VIRTIO_BLK_T_DISCARD;
	unsigned out = s->type == VIRTIO_BLK_T_IN ? 1 : 2;
	struct sg sg[3] = {
		{&slot->request.hdr, sizeof(slot->request.hdr)},
		{slot->data, s->bs},
		{&slot->request.status, 1},
	};
	int head;

	slot->request.hdr = (struct virtio_blk_outhdr){.type = s->type, .sector = sector};
	slot->request.status = STATUS_NONE;
	if (discard) {
		slot->request.hdr.sector = 0;
		slot->range = (struct virtio_blk_discard_write_zeroes){
			.sector = sector,
			.num_sectors = s->bs / SECTOR,
		};
		sg[1] = (struct sg){&slot->range, sizeof(slot->range)};
	}
	head = dev->features & FEATURE(VIRTIO_RING_F_INDIRECT_DESC)
		       ? vq_add_indirect(q, slot->table, sg, out, 3 - out)
		       : vq_add(q, sg, out, 3 - out);
	if (head < 0)
		panic("queue full");
	slot->submitted = now;
	slot_of_head[head] = slot;
	s->left--;
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

static void complete(struct slot *slot, uint64_t now)
{
	if (slot->request.status != VIRTIO_BLK_S_OK)
		panic("request of type %u failed: status %u", slot->stream->type,
		      slot->request.status);
	slot->stream->done++;
	if (slot->stream == &load)
		count_latency(now - slot->submitted);
}

static bool exhausted(void)
{
	return !load.left || (storm.bs && !storm.left);
}

/* Keeps `n` slots busy until `end`, or until a stream has no more. */
static void run(unsigned n, uint64_t end)
{
	uint64_t now = clock_ns(rdtsc());
	unsigned in_flight = 0;
	bool stop = false;

	for (; in_flight < n && slots[in_flight].stream->left; in_flight++)
		submit(&slots[in_flight], now);
	publish();
	while (in_flight) {
		unsigned batch = 0;
		int head;

		if (irq)
			wait_for_interrupt();
		else
			arm(false);
		now = clock_ns(rdtsc());
		while ((head = vq_poll(q, NULL)) >= 0) {
			struct slot *slot = slot_of_head[head];

			complete(slot, now);
			stop = stop || exhausted();
			if (stop) {
				in_flight--;
			} else {
				submit(slot, now);
				batch++;
			}
		}
		if (batch)
			publish();
		else
			cpu_relax();
		stop = stop || now > end;
	}
}

static void make_slots(unsigned depth, unsigned storm_depth)
{
	slots = alloc((depth + storm_depth) * sizeof(*slots), 16);
	for (unsigned i = 0; i < depth + storm_depth; i++) {
		slots[i].stream = i < depth ? &load : &storm;
		if (slots[i].stream->type != VIRTIO_BLK_T_DISCARD)
			slots[i].data = alloc(slots[i].stream->bs, 4096);
	}
}

static void make_streams(uint64_t capacity)
{
	const char *op = cmdline_get("op"), *order = cmdline_get("order");
	uint64_t span = cmdline_u64("span", capacity);

	load.bs = (uint32_t)cmdline_u64("bs", 4096);
	load.type = VIRTIO_BLK_T_IN;
	if (op && !strcmp(op, "write"))
		load.type = VIRTIO_BLK_T_OUT;
	else if (op && !strcmp(op, "discard"))
		load.type = VIRTIO_BLK_T_DISCARD;
	load.random = !order || strcmp(order, "sequential") != 0;
	load.blocks = span / load.bs;
	load.left = cmdline_u64("requests", ~0ull);
	if (load.type == VIRTIO_BLK_T_DISCARD && load.left > load.blocks)
		load.left = load.blocks;
	storm.bs = (uint32_t)cmdline_u64("storm", 0);
	if (storm.bs) {
		storm.type = VIRTIO_BLK_T_DISCARD;
		storm.first = (span + storm.bs - 1) / storm.bs;
		storm.blocks = storm.left = capacity / storm.bs - storm.first;
	}
	if (span > capacity || !load.blocks || (storm.bs && !storm.blocks))
		panic("a disk of %lu bytes is too small", capacity);
}

void test_bench(void)
{
	unsigned depth = (unsigned)cmdline_u64("depth", 1), room, storm_depth;
	uint64_t start, ns;

	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	irq = cmdline_get("irq") != NULL;
	if (!vio_start(dev, FEATURES, 1, MAX_SLOTS))
		panic("no start");
	make_streams(blk_capacity(dev) * SECTOR);
	if ((load.type == VIRTIO_BLK_T_DISCARD || storm.bs) &&
	    !(dev->features & FEATURE(VIRTIO_BLK_F_DISCARD))) {
		print("bench unsupported=discard\n");
		check_skip("no discard here");
		return;
	}
	room = dev->features & FEATURE(VIRTIO_RING_F_INDIRECT_DESC) ? q->size : q->size / 3;
	storm_depth = storm.bs ? (unsigned)cmdline_u64("storm_depth", 32) : 0;
	if (!depth || storm_depth >= room)
		panic("depth is 1 to %u", room);
	if (depth > room - storm_depth)
		depth = room - storm_depth;
	make_slots(depth, storm_depth);
	if (irq)
		irq_route(dev->pin, VECTOR, 0);
	if (load.type != VIRTIO_BLK_T_DISCARD && load.left == ~0ull)
		run(depth, 0); /* warm */
	load.done = 0;
	longest = 0;
	memset(histogram, 0, sizeof(histogram));
	start = clock_ns(rdtsc());
	run(depth + storm_depth, start + cmdline_u64("ms", 2000) * 1000000);
	ns = clock_ns(rdtsc()) - start;
	if (irq)
		irq_mask(dev->pin);
	print("bench requests=%lu ns=%lu iops=%lu depth=%u storm=%lu", load.done, ns,
	      load.done * 1000000000u / ns, depth, storm.done);
	print(" p50=%lu p99=%lu p999=%lu max=%lu\n", percentile(load.done, 500000),
	      percentile(load.done, 990000), percentile(load.done, 999000), longest);
	CHECK(true, "done");
}
