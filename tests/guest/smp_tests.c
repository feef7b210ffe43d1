// SPDX-License-Identifier: BSD-2-Clause
/* Several CPUs at once: each on its own queue; and one that changes requests while the device reads
 * them. */
#include "support.h"

#define MAX_CPUS 8u

struct worker {
	struct vq *q;
	uint8_t *buf;
	uint64_t area; /* first sector */
	unsigned requests;
	volatile unsigned bad;
	volatile bool done;
};

static void work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->requests; i++) {
		uint64_t sector = w->area + i % 64;

		pattern_fill(w->buf, SECTOR, i, sector);
		w->bad += blk_write(w->q, sector, w->buf, SECTOR) != VIRTIO_BLK_S_OK;
		memset(w->buf, 0, SECTOR);
		w->bad += blk_read(w->q, sector, w->buf, SECTOR) != VIRTIO_BLK_S_OK;
		w->bad += pattern_check(w->buf, SECTOR, i, sector) != SECTOR;
	}
	w->done = true;
}

void test_smp_blk(void)
{
	static struct worker workers[MAX_CPUS];
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	unsigned cpus = (unsigned)cmdline_u64("cpus", 2);

	if (cpus > MAX_CPUS)
		panic("too many CPUs");
	if (!vio_start(d, FEATURE(VIRTIO_BLK_F_MQ) | FEATURE(VIRTIO_RING_F_EVENT_IDX), cpus, 16))
		panic("no start with %u queues", cpus);
	for (unsigned i = 0; i < cpus; i++)
		workers[i] = (struct worker){.q = &d->vq[i],
					     .buf = alloc(SECTOR, 16),
					     .area = 1024 * i,
					     .requests = (unsigned)cmdline_u64("n", 500)};
	for (unsigned i = 1; i < cpus; i++)
		CHECK(smp_start((uint8_t)i, work, &workers[i]), "CPU %u", i);
	work(&workers[0]);
	for (unsigned i = 0; i < cpus; i++) {
		CHECK(WAIT_UNTIL(workers[i].done), "CPU %u is done", i);
		CHECK_EQ(workers[i].bad, 0, "all its data is right");
	}
}

/*
 * One CPU submits good reads; another goes on changing their descriptors and headers to bad ones
 * and back (FreeBSD-SA-24:17: a length that is fetched twice). Whatever the device sees, it must
 * not touch the guard pages on both sides of the buffer, nor write to the disk, nor stop the VM.
 */
#define QUEUE_SIZE 16u
#define PAGE	   4096u
#define GUARD_SEED 5u

static struct vq *race_q;
static struct virtio_blk_outhdr *race_hdr;
static uint8_t *race_buf;
static volatile bool race_over, flip_over;

static void flip(void *arg)
{
	uint64_t rnd = 3;

	(void)arg;
	while (!race_over) {
		volatile struct vring_desc *d = &race_q->desc[1];
		uint64_t r = random64(&rnd);

		switch (r % 6) {
		case 0:
			d->len = r & 64 ? 0xffffffff : SECTOR;
			break;
		case 1:
			d->addr = r & 64 ? ram_top - 16 : (uint64_t)race_buf;
			break;
		case 2:
			d->next = r & 64 ? 0xffff : 2;
			break;
		case 3:
			*(volatile uint64_t *)&race_hdr->sector = r & 64 ? ~0ull : 0;
			break;
		case 4:
			race_q->desc[0].len = r & 64 ? 3 : sizeof(*race_hdr);
			break;
		default:
			d->flags = VRING_DESC_F_NEXT | (r & 64 ? 0 : VRING_DESC_F_WRITE);
		}
		for (unsigned i = 0; i < r % 32; i++)
			cpu_relax();
		*d = (struct vring_desc){(uint64_t)race_buf, SECTOR,
					 VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2};
		*(volatile uint64_t *)&race_hdr->sector = 0;
		race_q->desc[0].len = sizeof(*race_hdr);
	}
	flip_over = true;
}

void test_hostile_race(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	uint8_t *pages = alloc(3 * PAGE, PAGE), *status = alloc(16, 16);
	unsigned resets = 0, answers = 0;

	race_q = &d->vq[0];
	race_hdr = alloc(sizeof(*race_hdr), 16);
	race_buf = pages + PAGE;
	pattern_fill(pages, PAGE, GUARD_SEED, 0);
	pattern_fill(pages + 2 * PAGE, PAGE, GUARD_SEED, 0);
	CHECK(vio_start(d, 0, 1, QUEUE_SIZE), "start");
	CHECK(smp_start(1, flip, NULL), "the other CPU");
	for (unsigned i = 0; i < (unsigned)cmdline_u64("n", 20000); i++) {
		size_t mark = heap_mark();

		race_hdr->type = VIRTIO_BLK_T_IN;
		vq_set_desc(race_q, 0, (uint64_t)race_hdr, sizeof(*race_hdr), VRING_DESC_F_NEXT, 1);
		vq_set_desc(race_q, 2, (uint64_t)status, 1, VRING_DESC_F_WRITE, 0);
		vq_offer(race_q, 0);
		vq_notify(race_q);
		if (!WAIT_UNTIL(*(volatile uint16_t *)&race_q->used->idx == race_q->avail_idx ||
				vio_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			CHECK(false, "an answer to request %u", i);
			break;
		}
		if (vio_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET) {
			resets++;
			if (!vio_start(d, 0, 1, QUEUE_SIZE)) {
				CHECK(false, "start after request %u", i);
				break;
			}
			heap_release(mark);
		} else {
			answers++;
		}
	}
	race_over = true;
	CHECK(WAIT_UNTIL(flip_over) && vio_reset(d), "the other CPU stops, and the device");
	print("# %u answers, %u resets\n", answers, resets);
	CHECK(pattern_check(pages, PAGE, GUARD_SEED, 0) == PAGE &&
		      pattern_check(pages + 2 * PAGE, PAGE, GUARD_SEED, 0) == PAGE,
	      "the guard pages are untouched");
	CHECK(bystander_works(d), "other devices work");
}
