// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes and flushes without end, and says what was acknowledged: crash_areas.h. run=N picks the
 * slots; "through" switches the disk to write-through, where a write that is done needs no flush.
 */
#include "crash_areas.h"
#include "support.h"

#define BYTES (CRASH_SLOT_SECTORS * SECTOR)

static struct vio *dev;
static struct vq *q;
static uint64_t crash_run;
static struct blk writes[CRASH_WRITES], flush;
static uint8_t *data;

static void write_round(uint64_t round)
{
	static uint8_t begun[SECTOR] __attribute__((aligned(SECTOR)));

	pattern_fill(begun, SECTOR, CRASH_SEED(round), CRASH_BEGUN);
	if (blk_write(q, CRASH_BEGUN, begun, SECTOR) != VIRTIO_BLK_S_OK)
		panic("a write failed");
	for (unsigned i = 0; i < CRASH_WRITES; i++) {
		uint64_t sector = crash_slot(crash_run, round, i) * CRASH_SLOT_SECTORS;
		uint8_t *at = data + i * BYTES;

		pattern_fill(at, BYTES, CRASH_SEED(round), sector);
		if (blk_add(q, &writes[i], VIRTIO_BLK_T_OUT, sector, &(struct sg){at, BYTES}, 1) <
		    0)
			panic("queue full");
	}
}

static void wait_all(unsigned n)
{
	vq_publish(q);
	vq_notify(q);
	while (n--)
		if (vq_wait(q, NULL) < 0)
			panic("a request was lost");
	for (unsigned i = 0; i < CRASH_WRITES; i++)
		if (writes[i].status != VIRTIO_BLK_S_OK)
			panic("a write failed");
}

void test_crash(void)
{
	bool through = cmdline_get("through");

	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	crash_run = cmdline_u64("run", 1);
	data = alloc(CRASH_WRITES * BYTES, 4096);
	if (!vio_start(dev, FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 1, 128))
		panic("no start");
	if (through)
		mmio_write8(dev->base + VIRTIO_MMIO_CONFIG +
				    offsetof(struct virtio_blk_config, wce),
			    0);
	for (uint64_t round = 1; round <= CRASH_MAX_ROUND; round++) {
		write_round(round);
		if (through) {
			wait_all(CRASH_WRITES);
			print("acked=%lu\n", round);
			continue;
		}
		if (round > 1 && blk_add(q, &flush, VIRTIO_BLK_T_FLUSH, 0, NULL, 0) < 0)
			panic("queue full");
		wait_all(CRASH_WRITES + (round > 1));
		if (round > 1) {
			if (flush.status != VIRTIO_BLK_S_OK)
				panic("a flush failed");
			print("acked=%lu\n", round - 1);
		}
	}
}
