// SPDX-License-Identifier: BSD-2-Clause
/* Guests that make it hard to end them: what they have begun is at work when the VM's end comes. */
#include "support.h"

static volatile bool going;

static void restart_forever(void *arg)
{
	struct vio *c = arg;

	for (;;) {
		vio_write(c, VIRTIO_MMIO_STATUS, 0);
		vio_write(c, VIRTIO_MMIO_STATUS,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		vio_write(c, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		vio_write(c, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		vio_write(c, VIRTIO_MMIO_STATUS,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				  VIRTIO_CONFIG_S_FEATURES_OK);
		for (uint32_t q = 0; q < 2; q++) {
			vio_write(c, VIRTIO_MMIO_QUEUE_SEL, q);
			vio_write(c, VIRTIO_MMIO_QUEUE_NUM, 1);
			vio_write(c, VIRTIO_MMIO_QUEUE_READY, 1);
		}
		vio_write(c, VIRTIO_MMIO_STATUS,
			  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				  VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
		going = true;
	}
}

/* The other CPUs go on resetting and starting a console or disk while this one ends the VM. */
void test_end_while_reset(void)
{
	struct vio *d = need(cmdline_get("disk") ? VIRTIO_ID_BLOCK : VIRTIO_ID_CONSOLE, 0);

	print("ready\n");
	if (!cmdline_get("disk"))
		console_lost();
	for (unsigned i = 1; i < cmdline_u64("cpus", 2); i++)
		if (!smp_start((uint8_t)i, restart_forever, d))
			panic("CPU %u does not start", i);
	while (!going)
		cpu_relax();
	delay_us((unsigned)cmdline_u64("us", 1000));
	if (!cmdline_get("hang"))
		power_off();
	for (;;)
		cpu_relax();
}

/*
 * 16 writes at once, of `mib` MiB each, and no look at what becomes of them. All parts of a write
 * are the same memory, so they have more bytes than the guest.
 */
#define WRITES 16u
#define PIECE  (1u << 20)

void test_end_busy(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	unsigned mib = (unsigned)cmdline_u64("mib", 1);
	struct blk *r = alloc(WRITES * sizeof(*r), 16);
	struct sg *sg = alloc((mib + 2) * sizeof(*sg), 16);
	uint8_t *data = alloc(PIECE, 4096);

	if (!vio_start(d, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), 1, WRITES))
		panic("no start");
	memset(data, 0x5a, PIECE);
	for (unsigned i = 0; i < WRITES; i++) {
		r[i].hdr.type = VIRTIO_BLK_T_OUT;
		sg[0] = (struct sg){&r[i].hdr, sizeof(r[i].hdr)};
		for (unsigned p = 1; p <= mib; p++)
			sg[p] = (struct sg){data, PIECE};
		sg[mib + 1] = (struct sg){&r[i].status, 1};
		vq_add_indirect(&d->vq[0], alloc((mib + 2) * 16, 16), sg, mib + 1, 1);
	}
	vq_publish(&d->vq[0]);
	vq_notify(&d->vq[0]);
	print("ready\n");
	for (;;)
		cpu_relax();
}

/* Writes and flushes without end. */
void test_end_writing(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	uint8_t *data = alloc(16 * SECTOR, 4096);
	struct blk r;

	if (!vio_start(d, FEATURE(VIRTIO_BLK_F_FLUSH), 1, 256))
		panic("no start");
	memset(data, 0x5a, 16 * SECTOR);
	print("ready\n");
	for (;;) {
		blk_write(&d->vq[0], 0, data, 16 * SECTOR);
		blk_do(&d->vq[0], &r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	}
}
