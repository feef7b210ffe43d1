// SPDX-License-Identifier: BSD-2-Clause
/* Block requests that must be refused: each with the right status, exactly one used entry, and no
 * effect. The runner compares the whole image with what it was. */
#include "blk_areas.h"
#include "support.h"

#define FEATURES                                                                                   \
	(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_DISCARD) |                             \
	 FEATURE(VIRTIO_BLK_F_WRITE_ZEROES) | FEATURE(VIRTIO_BLK_F_RO))

#define OK     VIRTIO_BLK_S_OK
#define IOERR  VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static struct vio *dev;
static struct vq *q;
static uint8_t *buf; /* 64 KiB, not what is on the disk */
static struct blk req;

static void expect(int want, const char *what, uint32_t type, uint64_t sector,
		   const struct sg *data, unsigned n)
{
	CHECK_EQ(blk_do(q, &req, type, sector, data, n), want, what);
}

static void expect_rw(int want, const char *what, uint32_t type, uint64_t sector, uint32_t len)
{
	expect(want, what, type, sector, &(struct sg){buf, len}, 1);
}

static void check_bounds(uint64_t cap)
{
	static const struct {
		uint64_t sector;
		const char *what;
	} far[] = {
		{1ull << 55, "at sector 2^55, whose offset wraps to 0"},
		{(1ull << 55) + 1, "at sector 2^55 + 1"},
		{(1ull << 54) - 1, "at the last offset that a signed number holds"},
		{1ull << 63, "at sector 2^63"},
		{~0ull, "at sector 2^64 - 1"},
		{~0ull - 7, "at sector 2^64 - 8"},
	};
	const struct sg split[] = {
		{buf, SECTOR}, {buf + SECTOR, SECTOR}, {buf + 2 * SECTOR, SECTOR}};

	expect_rw(OK, "a read of the last sector", VIRTIO_BLK_T_IN, cap - 1, SECTOR);
	expect_rw(IOERR, "a read at the end", VIRTIO_BLK_T_IN, cap, SECTOR);
	expect_rw(IOERR, "a write at the end", VIRTIO_BLK_T_OUT, cap, SECTOR);
	expect_rw(IOERR, "a read across the end", VIRTIO_BLK_T_IN, cap - 1, 2 * SECTOR);
	expect_rw(IOERR, "a write across the end", VIRTIO_BLK_T_OUT, cap - 1, 2 * SECTOR);
	expect(IOERR, "a read whose buffers cross the end together", VIRTIO_BLK_T_IN, cap - 2,
	       split, 3);
	expect(IOERR, "a write whose buffers cross the end together", VIRTIO_BLK_T_OUT, cap - 2,
	       split, 3);
	for (unsigned i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		print("# %s\n", far[i].what);
		expect_rw(IOERR, "a read there", VIRTIO_BLK_T_IN, far[i].sector, SECTOR);
		expect_rw(IOERR, "a write there", VIRTIO_BLK_T_OUT, far[i].sector, SECTOR);
		expect_rw(IOERR, "a longer write there", VIRTIO_BLK_T_OUT, far[i].sector,
			  8 * SECTOR);
	}
	expect_rw(IOERR, "a read of 513 bytes", VIRTIO_BLK_T_IN, 0, SECTOR + 1);
	expect_rw(IOERR, "a write of 511 bytes", VIRTIO_BLK_T_OUT, 0, SECTOR - 1);
}

#define DISCARD	     VIRTIO_BLK_T_DISCARD
#define WRITE_ZEROES VIRTIO_BLK_T_WRITE_ZEROES
#define UNMAP	     VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

static struct virtio_blk_discard_write_zeroes *ranges;

static void expect_range(int want, const char *what, uint32_t type, uint64_t sector, uint32_t n,
			 uint32_t flags)
{
	ranges[0] = (struct virtio_blk_discard_write_zeroes){
		.sector = sector, .num_sectors = n, .flags = flags};
	expect(want, what, type, 0, &(struct sg){ranges, sizeof(ranges[0])}, 1);
}

static void check_ranges(uint64_t cap, uint32_t type, uint32_t max_sectors, uint32_t max_segs)
{
	const uint32_t size = sizeof(ranges[0]);

	print("# %s\n", type == DISCARD ? "discard" : "write zeroes");
	if (type == DISCARD)
		expect_range(UNSUPP, "UNMAP on discard", type, 0, 8, UNMAP);
	expect_range(UNSUPP, "a reserved flag", type, 0, 8, 2);
	expect_range(UNSUPP, "the highest reserved flag", type, 0, 8, 0x80000000);
	expect_range(IOERR, "at the end", type, cap, 1, 0);
	expect_range(IOERR, "across the end", type, cap - 1, 2, 0);
	expect_range(IOERR, "at sector 2^55", type, 1ull << 55, 8, 0);
	expect_range(IOERR, "at the highest sector", type, ~0ull, 1, 0);
	expect_range(IOERR, "that wraps", type, ~0ull - 3, 8, 0);
	expect_range(IOERR, "of 2^32 - 1 sectors", type, 0, 0xffffffff, 0);
	if (max_sectors < cap) {
		ranges[0] =
			(struct virtio_blk_discard_write_zeroes){.num_sectors = max_sectors + 1};
		CHECK(blk_do(q, &req, type, 0, &(struct sg){ranges, size}, 1) != OK,
		      "more sectors than offered");
	}
	expect(IOERR, "no range at all", type, 0, NULL, 0);
	expect(IOERR, "half a range", type, 0, &(struct sg){ranges, size / 2}, 1);
	expect(IOERR, "a range and a half", type, 0, &(struct sg){ranges, size + size / 2}, 1);

	/* Nothing of the first may be done when the second is bad. */
	ranges[0] = (struct virtio_blk_discard_write_zeroes){.sector = 0, .num_sectors = 64};
	ranges[1] = (struct virtio_blk_discard_write_zeroes){.sector = cap, .num_sectors = 64};
	if (max_segs >= 2)
		expect(IOERR, "a good range and one beyond the end", type, 0,
		       &(struct sg){ranges, 2 * size}, 1);
	ranges[1] = (struct virtio_blk_discard_write_zeroes){.num_sectors = 8, .flags = 0x80};
	expect(UNSUPP, "a good range and one with a reserved flag", type, 0,
	       &(struct sg){ranges, 2 * size}, 1);
	if (max_segs < 1024) {
		for (uint32_t i = 0; i <= max_segs; i++)
			ranges[i] = (struct virtio_blk_discard_write_zeroes){.sector = i,
									     .num_sectors = 1};
		expect(UNSUPP, "more ranges than offered", type, 0,
		       &(struct sg){ranges, (max_segs + 1) * size}, 1);
	}
}

static void check_types(void)
{
	static const uint32_t types[] = {2,  3,	 5,  6,	 7,	 9,	     10,	12,
					 14, 15, 16, 99, 0x1000, 0x80000000, 0xffffffff};

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (blk_do(q, &req, types[i], 0, NULL, 0) != UNSUPP)
			CHECK(false, "request type %u is unsupported", types[i]);
	CHECK(true, "unknown types are unsupported");
}

/* Chains that are good as chains, but no requests. An answer or NEEDS_RESET; never silence. */
static void malformed(const char *what, const struct sg *sg, unsigned out, unsigned in)
{
	uint32_t len = 0;
	bool answered;

	vq_add(q, sg, out, in);
	vq_publish(q);
	vq_notify(q);
	answered = WAIT_UNTIL(*(volatile uint16_t *)&q->used->idx != q->last_used ||
			      vio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	CHECK(answered, "an answer to %s", what);
	if (*(volatile uint16_t *)&q->used->idx != q->last_used)
		CHECK(vq_poll(q, &len) >= 0 && len <= 5, "%u bytes in it", len);
	if (vio_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET)
		vio_start(dev, FEATURES, 1, 128);
	CHECK_EQ(blk_read(q, 0, buf + 32768, SECTOR), OK, "and the next request is done");
}

static void check_malformed(void)
{
	struct virtio_blk_outhdr *hdr = alloc(16, 16);
	uint8_t *status = alloc(16, 16);

	*hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = 0};
	malformed("a write without a status byte", (struct sg[]){{hdr, 16}, {buf, SECTOR}}, 2, 0);
	malformed("a header alone", (struct sg[]){{hdr, 16}}, 1, 0);
	malformed("a status byte alone", (struct sg[]){{status, 1}}, 0, 1);
	malformed("a short header", (struct sg[]){{hdr, 15}, {status, 1}}, 1, 1);
	malformed("an empty chain", (struct sg[]){{hdr, 0}, {status, 0}}, 1, 1);
	hdr->type = VIRTIO_BLK_T_IN;
	malformed("a read into a readable buffer",
		  (struct sg[]){{hdr, 16}, {buf, SECTOR}, {status, 1}}, 2, 1);
	malformed("a read without a status byte", (struct sg[]){{hdr, 16}}, 1, 0);
	malformed("a read of nothing", (struct sg[]){{hdr, 16}, {status, 1}}, 1, 1);
	hdr->type = VIRTIO_BLK_T_GET_ID;
	malformed("an identifier in 4 bytes", (struct sg[]){{hdr, 16}, {buf, 4}, {status, 1}}, 1,
		  2);
	hdr->type = VIRTIO_BLK_T_OUT;
	malformed("a write from a writable buffer",
		  (struct sg[]){{hdr, 16}, {buf, SECTOR}, {status, 1}}, 1, 2);
}

void test_blk_bad(void)
{
	uint64_t cap;

	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	buf = alloc(65536, 4096);
	ranges = alloc(65536, 16);
	memset(buf, 0xee, 65536);
	CHECK(vio_start(dev, FEATURES, 1, 128), "start");
	cap = blk_capacity(dev);
	check_bounds(cap);
	check_types();
	if (dev->features & FEATURE(VIRTIO_BLK_F_DISCARD))
		check_ranges(
			cap, DISCARD,
			(uint32_t)vio_config(
				dev, offsetof(struct virtio_blk_config, max_discard_sectors), 4),
			(uint32_t)vio_config(
				dev, offsetof(struct virtio_blk_config, max_discard_seg), 4));
	check_ranges(cap, WRITE_ZEROES,
		     (uint32_t)vio_config(
			     dev, offsetof(struct virtio_blk_config, max_write_zeroes_sectors), 4),
		     (uint32_t)vio_config(
			     dev, offsetof(struct virtio_blk_config, max_write_zeroes_seg), 4));
	memset(buf, 0xee, 65536);
	check_malformed();

	/* Features that were not negotiated are not there. */
	CHECK(vio_start(dev, 0, 1, 128), "start without features");
	expect_range(UNSUPP, "discard without its feature", DISCARD, 0, 8, 0);
	expect_range(UNSUPP, "write zeroes without its feature", WRITE_ZEROES, 0, 8, 0);
	CHECK(bystander_works(dev), "other devices work");
}

/* A read-only disk. */
void test_blk_readonly(void)
{
	uint64_t offered;

	dev = need(VIRTIO_ID_BLOCK, 0);
	q = &dev->vq[0];
	buf = alloc(65536, 4096);
	ranges = alloc(65536, 16);
	offered = vio_device_features(dev);
	CHECK(offered & FEATURE(VIRTIO_BLK_F_RO), "RO is offered");
	CHECK(!(offered & FEATURE(VIRTIO_BLK_F_DISCARD)), "DISCARD is not");
	CHECK(!(offered & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES)), "nor WRITE_ZEROES");
	CHECK(vio_start(dev, FEATURES, 1, 128), "start");
	expect_rw(OK, "a read", VIRTIO_BLK_T_IN, 8, 8 * SECTOR);
	CHECK_EQ(pattern_check(buf, 8 * SECTOR, IMAGE_SEED, 8), 8 * SECTOR, "its data");
	expect_rw(IOERR, "a write", VIRTIO_BLK_T_OUT, 8, SECTOR);
	ranges[0] = (struct virtio_blk_discard_write_zeroes){.num_sectors = 8};
	CHECK(blk_do(q, &req, DISCARD, 0, &(struct sg){ranges, 16}, 1) != OK, "no discard");
	CHECK(blk_do(q, &req, WRITE_ZEROES, 0, &(struct sg){ranges, 16}, 1) != OK, "no zeros");
	/* Not accepting RO does not make it writable. */
	CHECK(vio_start(dev, 0, 1, 128), "start without accepting RO");
	expect_rw(IOERR, "a write then", VIRTIO_BLK_T_OUT, 8, SECTOR);
}
