// SPDX-License-Identifier: BSD-2-Clause
/* The virtio-mmio transport (virtio 1.3, section 4.2): what its registers promise to a driver. */
#include "support.h"

#define S_ACK	 VIRTIO_CONFIG_S_ACKNOWLEDGE
#define S_DRIVER VIRTIO_CONFIG_S_DRIVER
#define S_FEAT	 VIRTIO_CONFIG_S_FEATURES_OK
#define S_OK	 VIRTIO_CONFIG_S_DRIVER_OK
#define S_RESET	 VIRTIO_CONFIG_S_NEEDS_RESET
#define S_FAILED VIRTIO_CONFIG_S_FAILED

static void set_status(const struct vio *d, uint8_t status)
{
	vio_write(d, VIRTIO_MMIO_STATUS, status);
}

static void check_identity(struct vio *d)
{
	vio_reset(d);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976, "magic");
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_VERSION), 2, "version");
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_STATUS), 0, "status after reset");
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS), 0, "interrupt status after reset");
	/* Section 4.2.2: a shared memory region that does not exist has a length of all ones. */
	vio_write(d, VIRTIO_MMIO_SHM_SEL, 0);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff, "no shared memory, low");
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff, "no shared memory, high");
	/* Read-only registers do not change by writes. */
	vio_write(d, VIRTIO_MMIO_MAGIC_VALUE, 0);
	vio_write(d, VIRTIO_MMIO_VERSION, 1);
	vio_write(d, VIRTIO_MMIO_DEVICE_ID, 0);
	vio_write(d, VIRTIO_MMIO_QUEUE_NUM_MAX, 1);
	CHECK(vio_read(d, VIRTIO_MMIO_MAGIC_VALUE) == 0x74726976 &&
		      vio_read(d, VIRTIO_MMIO_VERSION) == 2 &&
		      vio_read(d, VIRTIO_MMIO_DEVICE_ID) == d->id &&
		      vio_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX) > 1,
	      "read-only registers ignore writes");
}

static void check_features(struct vio *d)
{
	uint64_t offered;

	vio_reset(d);
	offered = vio_device_features(d);
	CHECK(offered & FEATURE(VIRTIO_F_VERSION_1), "VERSION_1 is offered");
	vio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 0, "features 64 to 95");
	vio_write(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0xffffffff);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_DEVICE_FEATURES), 0, "features far beyond");

	set_status(d, S_ACK);
	set_status(d, S_ACK | S_DRIVER);
	vio_driver_features(d, 0);
	set_status(d, S_ACK | S_DRIVER | S_FEAT);
	CHECK(!(vio_status(d) & S_FEAT), "FEATURES_OK is refused without VERSION_1");

	for (unsigned bit = 0; bit < 64; bit++) {
		if (offered & FEATURE(bit))
			continue;
		vio_reset(d);
		set_status(d, S_ACK);
		set_status(d, S_ACK | S_DRIVER);
		vio_driver_features(d, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(bit));
		set_status(d, S_ACK | S_DRIVER | S_FEAT);
		if (vio_status(d) & S_FEAT) {
			CHECK(false, "FEATURES_OK with feature %u, which is not offered", bit);
			return;
		}
	}
	CHECK(true, "FEATURES_OK is refused with any feature that is not offered");

	vio_reset(d);
	set_status(d, S_ACK);
	set_status(d, S_ACK | S_DRIVER);
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	vio_write(d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	vio_driver_features(d, FEATURE(VIRTIO_F_VERSION_1));
	set_status(d, S_ACK | S_DRIVER | S_FEAT);
	CHECK(!(vio_status(d) & S_FEAT), "a feature above 63 is refused like any other");

	CHECK(vio_negotiate(d, offered), "all that is offered is accepted");
	CHECK(vio_negotiate(d, 0), "VERSION_1 alone is accepted");
}

static void check_status(struct vio *d)
{
	static const uint8_t out_of_order[] = {S_DRIVER, S_FEAT, S_OK, S_ACK | S_FEAT,
					       S_ACK | S_DRIVER | S_OK};

	for (unsigned i = 0; i < sizeof(out_of_order); i++) {
		vio_reset(d);
		set_status(d, out_of_order[i]);
		CHECK(!(vio_status(d) & (S_OK | S_FEAT)), "status 0x%x out of order is refused",
		      out_of_order[i]);
	}
	vio_reset(d);
	set_status(d, S_ACK);
	CHECK_EQ(vio_status(d), S_ACK, "ACKNOWLEDGE");
	set_status(d, S_ACK | S_DRIVER);
	CHECK_EQ(vio_status(d), S_ACK | S_DRIVER, "DRIVER");
	set_status(d, S_ACK);
	CHECK_EQ(vio_status(d), S_ACK | S_DRIVER, "no bit is cleared but by reset");
	vio_write(d, VIRTIO_MMIO_STATUS, 0x100);
	CHECK_EQ(vio_status(d), S_ACK | S_DRIVER, "what is above bit 7 is not a status");
	set_status(d, S_ACK | S_DRIVER | S_RESET);
	CHECK(!(vio_status(d) & S_RESET), "the driver cannot set NEEDS_RESET");
	set_status(d, S_ACK | S_DRIVER | S_FAILED);
	CHECK(vio_status(d) & S_FAILED, "FAILED can be set");
	vio_driver_features(d, FEATURE(VIRTIO_F_VERSION_1));
	set_status(d, S_ACK | S_DRIVER | S_FEAT | S_FAILED);
	set_status(d, S_ACK | S_DRIVER | S_FEAT | S_OK | S_FAILED);
	CHECK(!(vio_status(d) & S_OK), "after FAILED only a reset helps");
	CHECK(vio_reset(d), "reset");
	CHECK(vio_start(d, 0, 1, 8), "which helps");
}

static void check_queue_select(struct vio *d)
{
	static const uint32_t beyond[] = {VIO_MAX_QUEUES + 46, 0x100,	  0xffff, 0x10000,
					  0x80000000,	       0xffffffff};

	vio_negotiate(d, 0);
	for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
		vio_write(d, VIRTIO_MMIO_QUEUE_SEL, beyond[i]);
		CHECK(vio_read(d, VIRTIO_MMIO_QUEUE_NUM_MAX) == 0 &&
			      vio_read(d, VIRTIO_MMIO_QUEUE_READY) == 0,
		      "queue 0x%x does not exist", beyond[i]);
		vio_write(d, VIRTIO_MMIO_QUEUE_NUM, 4);
		vio_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xdeadbee0);
		vio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
		CHECK_EQ(vio_read(d, VIRTIO_MMIO_QUEUE_READY), 0, "nor can it be made ready");
	}
	CHECK(vio_queue(d, 0, 8), "queue 0 is untouched by that");
}

static void check_widths(struct vio *d)
{
	const uint64_t b = d->base;

	vio_negotiate(d, 0);
	CHECK(vio_queue(d, 0, 8), "queue 0");
	/* Each of these would reset the device, or worse, if it counted. */
	mmio_write8(b + VIRTIO_MMIO_STATUS, 0);
	mmio_write16(b + VIRTIO_MMIO_STATUS, 0);
	mmio_write64(b + VIRTIO_MMIO_STATUS, 0);
	mmio_write32(b + VIRTIO_MMIO_STATUS + 1, 0);
	mmio_write32(b + VIRTIO_MMIO_STATUS - 2, 0);
	CHECK_EQ(vio_status(d), S_ACK | S_DRIVER | S_FEAT,
		 "status takes aligned 32-bit writes only");
	mmio_write8(b + VIRTIO_MMIO_QUEUE_READY, 0);
	mmio_write16(b + VIRTIO_MMIO_QUEUE_READY, 0);
	mmio_write64(b + VIRTIO_MMIO_QUEUE_READY, 0);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_QUEUE_READY), 1, "so does QueueReady");
	mmio_write16(b + VIRTIO_MMIO_QUEUE_NUM, 3);
	mmio_write64(b + VIRTIO_MMIO_QUEUE_DESC_LOW, 0xffffffffffffffff);
	mmio_write64(b + VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0xffffffffffffffff);
	mmio_write8(b + VIRTIO_MMIO_QUEUE_USED_LOW, 1);
	vio_driver_ok(d);
	CHECK_EQ(vio_status(d), S_ACK | S_DRIVER | S_FEAT | S_OK, "so do the queue's addresses");
	mmio_write8(b + VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	mmio_write16(b + VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	mmio_write64(b + VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	mmio_write8(b + VIRTIO_MMIO_INTERRUPT_ACK, 1);
	mmio_write64(b + VIRTIO_MMIO_INTERRUPT_ACK, ~0ull);
	CHECK(!(vio_status(d) & S_RESET), "odd notifications and ACKs do no harm");

	/* Everywhere in the page, in every width: nothing but no harm is asked for. */
	for (uint64_t at = VIRTIO_MMIO_CONFIG; at < 4096; at += 64) {
		(void)mmio_read8(b + at + 1);
		(void)mmio_read16(b + at + 3);
		(void)mmio_read64(b + at);
	}
	(void)mmio_read64(b + 4092 - 4);
	for (uint64_t at = 0xc8; at < 0xfc; at += 4)
		vio_write(d, (uint32_t)at, 0xffffffff);
	CHECK(!(vio_status(d) & S_RESET), "reserved registers do no harm");
}

/* Queue registers change only between FEATURES_OK and DRIVER_OK (CVE-2026-5747). */
static void check_queue_lock(struct vio *d)
{
	uint8_t buf[SECTOR], before[SECTOR];

	vio_reset(d);
	set_status(d, S_ACK);
	set_status(d, S_ACK | S_DRIVER);
	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	vio_write(d, VIRTIO_MMIO_QUEUE_NUM, 8);
	vio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_QUEUE_READY), 0, "no queue before FEATURES_OK");

	CHECK(vio_start(d, 0, 1, 8), "start");
	CHECK(blk_read(&d->vq[0], 0, before, SECTOR) == VIRTIO_BLK_S_OK, "a read before");
	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	vio_write(d, VIRTIO_MMIO_QUEUE_NUM, 4);
	vio_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xfffffff0);
	vio_write(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffffffff);
	vio_write(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1000);
	vio_write(d, VIRTIO_MMIO_QUEUE_USED_LOW, 0x2000);
	vio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
	for (unsigned i = 0; i < 20; i++) {
		memset(buf, 0x55, SECTOR);
		if (blk_read(&d->vq[0], 0, buf, SECTOR) != VIRTIO_BLK_S_OK ||
		    memcmp(buf, before, SECTOR) != 0)
			break;
		if (i == 19)
			CHECK(true, "the queue works as it was set up, whatever is written later");
	}
	CHECK_EQ(d->vq[0].last_used, 21, "all 21 requests came back on it");
	set_status(d, S_ACK | S_DRIVER | S_FEAT | S_OK);
	CHECK(blk_read(&d->vq[0], 0, buf, SECTOR) == VIRTIO_BLK_S_OK, "DRIVER_OK twice is no harm");
	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_QUEUE_READY), 1, "QueueReady reads back");
	vio_reset(d);
	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_QUEUE_READY), 0, "and is 0 after a reset");
}

/* A ring of a shape that cannot be: the device must not run it. */
static void bad_queue(struct vio *d, const char *what, uint32_t size, uint64_t desc, uint64_t avail,
		      uint64_t used)
{
	bool inert;

	vio_negotiate(d, 0);
	vio_write(d, VIRTIO_MMIO_QUEUE_SEL, 0);
	vio_write(d, VIRTIO_MMIO_QUEUE_NUM, size);
	vio_write(d, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)desc);
	vio_write(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(desc >> 32));
	vio_write(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)avail);
	vio_write(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(avail >> 32));
	vio_write(d, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)used);
	vio_write(d, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(used >> 32));
	vio_write(d, VIRTIO_MMIO_QUEUE_READY, 1);
	vio_driver_ok(d);
	vio_write(d, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	inert = !vio_read(d, VIRTIO_MMIO_QUEUE_READY) || WAIT_UNTIL(vio_status(d) & S_RESET);
	CHECK(inert, "refused: %s", what);
}

static void check_bad_queues(struct vio *d)
{
	size_t mark = heap_mark();
	uint64_t p = (uint64_t)alloc(16384, 4096), a = p + 4096, u = p + 8192;
	const uint64_t hole = d->base & ~0xfffffull;

	bad_queue(d, "size 0", 0, p, a, u);
	bad_queue(d, "size 3", 3, p, a, u);
	bad_queue(d, "size 32768", 32768, p, a, u);
	bad_queue(d, "size 65544", 65544, p, a, u);
	bad_queue(d, "size 2^31", 0x80000000, p, a, u);
	bad_queue(d, "descriptors not on 16", 8, p + 8, a, u);
	bad_queue(d, "available ring not on 2", 8, p, a + 1, u);
	bad_queue(d, "used ring not on 4", 8, p, a, u + 2);
	bad_queue(d, "descriptors at the end of RAM", 8, ram_top - 64, a, u);
	bad_queue(d, "available ring across the end of RAM", 8, p, ram_top - 2, u);
	bad_queue(d, "used ring across the end of RAM", 8, p, a, ram_top - 4);
	bad_queue(d, "descriptors that wrap", 8, 0xfffffffffffffff0, a, u);
	bad_queue(d, "available ring that wraps", 8, p, 0xfffffffffffffffe, u);
	bad_queue(d, "used ring that wraps", 8, p, a, 0xfffffffffffffffc);
	bad_queue(d, "descriptors in registers", 8, hole, a, u);
	bad_queue(d, "used ring in registers", 8, p, a, d->base + 0x100);
	bad_queue(d, "used ring in the local APIC", 8, p, a, 0xfee00000);
	bad_queue(d, "rings at 2^52", 8, 1ull << 52, 1ull << 52, 1ull << 52);
	CHECK(bystander_works(d), "other devices work");
	CHECK(vio_start(d, 0, 1, 8), "so does this one after a reset");
	heap_release(mark);
}

static void check_config(struct vio *d)
{
	uint32_t generation = vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION);
	bool zero = true;

	for (uint64_t at = VIRTIO_MMIO_CONFIG + 0x100; at < 4096; at += 4)
		zero = zero && mmio_read32(d->base + at) == 0;
	CHECK(zero, "nothing beyond the configuration space");
	for (uint32_t at = VIRTIO_MMIO_CONFIG; at < 4096; at += 4)
		vio_write(d, at, 0xffffffff);
	for (uint32_t at = VIRTIO_MMIO_CONFIG; at < 4096; at += 61)
		mmio_write8(d->base + at, 0xff);
	mmio_write64(d->base + 4088, ~0ull);
	mmio_write64(d->base + VIRTIO_MMIO_CONFIG - 4, ~0ull);
	CHECK(blk_capacity(d) != ~0ull, "the capacity is not the driver's to write");
	CHECK_EQ(vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION), generation,
		 "and the generation stands still");
}

void test_transport(void)
{
	struct vio *blk = need(VIRTIO_ID_BLOCK, 0), *rng = need(VIRTIO_ID_RNG, 0);

	print("# a disk\n");
	check_identity(blk);
	check_features(blk);
	check_status(blk);
	check_queue_select(blk);
	check_widths(blk);
	check_queue_lock(blk);
	check_bad_queues(blk);
	check_config(blk);
	print("# the entropy device\n");
	check_identity(rng);
	check_features(rng);
	check_status(rng);
	check_queue_select(rng);
	check_widths(rng);
	check_bad_queues(rng);
}
