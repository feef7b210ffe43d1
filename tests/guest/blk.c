// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-blk (virtio 1.3, section 5.2) as a well-behaved driver uses it. The runner has filled the
 * image with pattern IMAGE_SEED and looks at it afterwards; docs of the layout in blk_areas.h.
 */
#include "blk_areas.h"
#include "support.h"

#define VECTOR 40u
#define FEATURES                                                                                   \
	(FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_BLK_F_DISCARD) |                             \
	 FEATURE(VIRTIO_BLK_F_WRITE_ZEROES) | FEATURE(VIRTIO_BLK_F_RO) |                           \
	 FEATURE(VIRTIO_BLK_F_MQ) | FEATURE(VIRTIO_RING_F_EVENT_IDX) |                             \
	 FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

#define CONFIG(d, field)                                                                           \
	vio_config(d, offsetof(struct virtio_blk_config, field),                                   \
		   sizeof(((struct virtio_blk_config *)0)->field))

static bool holds(struct vq *q, uint64_t sector, unsigned sectors, uint64_t seed)
{
	uint8_t buf[8 * SECTOR];

	for (unsigned n; sectors; sector += n, sectors -= n) {
		n = sectors < 8 ? sectors : 8;
		if (blk_read(q, sector, buf, n * SECTOR) != VIRTIO_BLK_S_OK ||
		    pattern_check(buf, n * SECTOR, seed, sector) != n * SECTOR)
			return false;
	}
	return true;
}

static bool holds_zeros(struct vq *q, uint64_t sector, unsigned sectors)
{
	uint8_t buf[SECTOR];

	for (; sectors; sector++, sectors--) {
		if (blk_read(q, sector, buf, SECTOR) != VIRTIO_BLK_S_OK)
			return false;
		for (unsigned i = 0; i < SECTOR; i++)
			if (buf[i])
				return false;
	}
	return true;
}

static void check_offer(struct vio *d)
{
	uint64_t offered = vio_device_features(d);

	CHECK_EQ(blk_capacity(d), cmdline_u64("sectors", 0), "capacity");
	CHECK(offered & FEATURE(VIRTIO_BLK_F_FLUSH), "FLUSH is offered");
	CHECK(!(offered & FEATURE(VIRTIO_BLK_F_RO)), "RO is not");
	CHECK(!(offered & FEATURE(VIRTIO_BLK_F_SEG_MAX)) || CONFIG(d, seg_max) > 0, "seg_max");
	CHECK(!(offered & FEATURE(VIRTIO_BLK_F_BLK_SIZE)) || CONFIG(d, blk_size) >= 512,
	      "blk_size");
	/* One guest OS crashes on features whose limits are zero. */
	if (CHECK_EQ(!(offered & FEATURE(VIRTIO_BLK_F_DISCARD)), !cmdline_u64("discard", 1),
		     "DISCARD is offered as configured") &&
	    offered & FEATURE(VIRTIO_BLK_F_DISCARD)) {
		CHECK(CONFIG(d, max_discard_sectors) > 0, "max_discard_sectors");
		CHECK(CONFIG(d, max_discard_seg) > 0, "max_discard_seg");
		CHECK(CONFIG(d, discard_sector_alignment) > 0, "discard_sector_alignment");
	}
	CHECK(offered & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES), "WRITE_ZEROES is offered");
	CHECK(CONFIG(d, max_write_zeroes_sectors) > 0, "max_write_zeroes_sectors");
	CHECK(CONFIG(d, max_write_zeroes_seg) > 0, "max_write_zeroes_seg");
	if (offered & FEATURE(VIRTIO_BLK_F_MQ))
		CHECK_EQ(CONFIG(d, num_queues), cmdline_u64("queues", 1), "num_queues");
	else
		CHECK_EQ(cmdline_u64("queues", 1), 1, "one queue without MQ");
}

static void check_read(struct vq *q)
{
	static uint8_t buf[16 * SECTOR];
	static struct blk r;
	/* Odd pieces at odd addresses: only the total counts. */
	const struct sg pieces[] = {{buf, 1},		{buf + 1, 511},	 {buf + 512, 513},
				    {buf + 1025, 1023}, {buf + 2048, 7}, {buf + 2055, 2041}};

	CHECK(holds(q, 0, 64, IMAGE_SEED), "the image's first sectors");
	CHECK(holds(q, blk_capacity(q->dev) - 8, 8, IMAGE_SEED), "and its last");
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_IN, 100, pieces, 6), VIRTIO_BLK_S_OK,
		 "a read into odd pieces");
	CHECK_EQ(r.written, 8 * SECTOR + 1, "its used length is data and status");
	CHECK_EQ(pattern_check(buf, 8 * SECTOR, IMAGE_SEED, 100), 8 * SECTOR, "its data");
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_IN, 300, &(struct sg){buf, sizeof(buf)}, 1),
		 VIRTIO_BLK_S_OK, "a read of 16 sectors");
	CHECK_EQ(pattern_check(buf, sizeof(buf), IMAGE_SEED, 300), sizeof(buf), "its data");
}

static void check_write(struct vq *q)
{
	static uint8_t buf[8 * SECTOR];
	static struct blk r;
	const struct sg pieces[] = {{buf, 511}, {buf + 511, 2}, {buf + 513, 3583}};

	pattern_fill(buf, sizeof(buf), WRITE_SEED, WRITE_AREA);
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_OUT, WRITE_AREA, &(struct sg){buf, sizeof(buf)}, 1),
		 VIRTIO_BLK_S_OK, "a write");
	CHECK_EQ(r.written, 1, "its used length is the status");
	pattern_fill(buf, sizeof(buf), WRITE_SEED, WRITE_AREA + 8);
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_OUT, WRITE_AREA + 8, pieces, 3), VIRTIO_BLK_S_OK,
		 "a write from odd pieces");
	for (unsigned i = 16; i < WRITE_SECTORS; i++) {
		pattern_fill(buf, SECTOR, WRITE_SEED, WRITE_AREA + i);
		if (blk_write(q, WRITE_AREA + i, buf, SECTOR) != VIRTIO_BLK_S_OK)
			CHECK(false, "write of sector %u", WRITE_AREA + i);
	}
	CHECK(holds(q, WRITE_AREA, WRITE_SECTORS, WRITE_SEED), "what was written is read");
	CHECK(holds(q, WRITE_AREA - 8, 8, IMAGE_SEED), "what is before it is as it was");
	CHECK(holds(q, WRITE_AREA + WRITE_SECTORS, 8, IMAGE_SEED), "and what is after it");
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK, "a flush");
	CHECK_EQ(r.written, 1, "its used length");
}

/* Section 2.7.4.2: the device must not assume how buffers are cut into descriptors. */
static void check_framing(struct vq *q)
{
	static struct {
		struct virtio_blk_outhdr hdr;
		uint8_t data[SECTOR];
	} out;
	static uint8_t in[SECTOR + 1], status;
	uint32_t len;
	int64_t got;

	out.hdr = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = FRAME_AREA};
	pattern_fill(out.data, SECTOR, WRITE_SEED, FRAME_AREA);
	status = STATUS_NONE;
	got = vq_do(q, (struct sg[]){{&out, sizeof(out)}, {&status, 1}}, 1, 1);
	CHECK(got == 1 && status == VIRTIO_BLK_S_OK, "header and data in one buffer");

	out.hdr.type = VIRTIO_BLK_T_IN;
	memset(in, STATUS_NONE, sizeof(in));
	got = vq_do(q, (struct sg[]){{&out.hdr, 16}, {in, sizeof(in)}}, 1, 1);
	CHECK(got == SECTOR + 1 && in[SECTOR] == VIRTIO_BLK_S_OK &&
		      pattern_check(in, SECTOR, WRITE_SEED, FRAME_AREA) == SECTOR,
	      "data and status in one buffer");

	memset(in, STATUS_NONE, sizeof(in));
	vq_add(q,
	       (struct sg[]){{&out.hdr, 3},
			     {(uint8_t *)&out.hdr + 3, 8},
			     {(uint8_t *)&out.hdr + 11, 5},
			     {in, 500},
			     {in + 500, 13}},
	       3, 2);
	vq_publish(q);
	vq_notify(q);
	CHECK(vq_wait(q, &len) >= 0 && len == SECTOR + 1 && in[SECTOR] == VIRTIO_BLK_S_OK &&
		      pattern_check(in, SECTOR, WRITE_SEED, FRAME_AREA) == SECTOR,
	      "a header in three pieces");
}

static void check_id(struct vq *q)
{
	static char id[21];
	static struct blk r;
	const char *want = cmdline_get("serial");

	memset(id, 'x', sizeof(id));
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_GET_ID, 0, &(struct sg){id, 20}, 1), VIRTIO_BLK_S_OK,
		 "GET_ID");
	CHECK_EQ(r.written, 21, "its used length");
	CHECK_EQ(id[20], 'x', "20 bytes and no more");
	id[20] = '\0';
	if (want)
		CHECK(!strcmp(id, want), "the serial %s", id);
}

static void check_zeroes(struct vio *d, struct vq *q)
{
	static struct virtio_blk_discard_write_zeroes range[2];
	static struct blk r;
	const struct sg one = {range, sizeof(range[0])};
	const struct sg both = {range, sizeof(range)};

	range[0] = (struct virtio_blk_discard_write_zeroes){.sector = ZERO_AREA,
							    .num_sectors = ZERO_SECTORS};
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1), VIRTIO_BLK_S_OK,
		 "WRITE_ZEROES");
	CHECK_EQ(r.written, 1, "its used length");
	CHECK(holds_zeros(q, ZERO_AREA, ZERO_SECTORS), "zeros are there");
	CHECK(holds(q, ZERO_AREA - 1, 1, IMAGE_SEED) &&
		      holds(q, ZERO_AREA + ZERO_SECTORS, 1, IMAGE_SEED),
	      "and only there");

	range[0] = (struct virtio_blk_discard_write_zeroes){
		.sector = UNMAP_AREA,
		.num_sectors = UNMAP_SECTORS,
		.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP};
	CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1), VIRTIO_BLK_S_OK,
		 "WRITE_ZEROES with UNMAP");
	CHECK(holds_zeros(q, UNMAP_AREA, UNMAP_SECTORS), "zeros are there");
	CHECK(holds(q, UNMAP_AREA - 1, 1, IMAGE_SEED) &&
		      holds(q, UNMAP_AREA + UNMAP_SECTORS, 1, IMAGE_SEED),
	      "and only there");

	/* One odd sector, as no file system would zero it. */
	range[0] = (struct virtio_blk_discard_write_zeroes){.sector = ODD_AREA, .num_sectors = 1};
	CHECK(blk_do(q, &r, VIRTIO_BLK_T_WRITE_ZEROES, 0, &one, 1) == VIRTIO_BLK_S_OK &&
		      holds_zeros(q, ODD_AREA, 1) && holds(q, ODD_AREA - 1, 1, IMAGE_SEED) &&
		      holds(q, ODD_AREA + 1, 1, IMAGE_SEED),
	      "WRITE_ZEROES of one sector");

	if (!(d->features & FEATURE(VIRTIO_BLK_F_DISCARD)))
		return;
	range[0] = (struct virtio_blk_discard_write_zeroes){.sector = DISCARD_AREA,
							    .num_sectors = DISCARD_SECTORS / 2};
	range[1] = (struct virtio_blk_discard_write_zeroes){
		.sector = DISCARD_AREA + DISCARD_SECTORS / 2, .num_sectors = DISCARD_SECTORS / 2};
	if (CONFIG(d, max_discard_seg) > 1) {
		CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_DISCARD, 0, &both, 1), VIRTIO_BLK_S_OK,
			 "DISCARD of two ranges");
	} else {
		range[0].num_sectors = DISCARD_SECTORS;
		CHECK_EQ(blk_do(q, &r, VIRTIO_BLK_T_DISCARD, 0, &one, 1), VIRTIO_BLK_S_OK,
			 "DISCARD");
	}
	CHECK_EQ(r.written, 1, "its used length");
	CHECK(holds(q, DISCARD_AREA - 1, 1, IMAGE_SEED) &&
		      holds(q, DISCARD_AREA + DISCARD_SECTORS, 1, IMAGE_SEED),
	      "what is around it is as it was");
}

/* As many requests at once as the queue takes, reads among writes, in every queue. */
static void check_parallel(struct vio *d, unsigned queues)
{
	enum { DEPTH = 16, ROUNDS = 20 };
	uint8_t *buf = alloc(DEPTH * SECTOR, 16);
	struct blk *r = alloc(DEPTH * sizeof(*r), 16);
	unsigned bad = 0;

	for (unsigned round = 0; round < ROUNDS * queues; round++) {
		struct vq *q = &d->vq[round % queues];
		bool write = round / queues % 2 == 0;

		for (unsigned i = 0; i < DEPTH; i++) {
			uint64_t sector = PARALLEL_AREA + (round % queues) * DEPTH + i;

			if (write)
				pattern_fill(buf + i * SECTOR, SECTOR, WRITE_SEED, sector);
			else
				memset(buf + i * SECTOR, 0, SECTOR);
			blk_add(q, &r[i], write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, sector,
				&(struct sg){buf + i * SECTOR, SECTOR}, 1);
		}
		vq_publish(q);
		vq_notify(q);
		for (unsigned i = 0; i < DEPTH; i++)
			if (vq_wait(q, NULL) < 0)
				panic("a request was lost");
		for (unsigned i = 0; i < DEPTH; i++)
			bad += r[i].status != VIRTIO_BLK_S_OK ||
			       pattern_check(buf + i * SECTOR, SECTOR, WRITE_SEED,
					     PARALLEL_AREA + (round % queues) * DEPTH + i) !=
				       SECTOR;
	}
	CHECK_EQ(bad, 0, "parallel requests");
}

/* Section 5.2.5: `writeback`, and that the driver can switch it. */
void test_blk_cache(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	uint64_t wce = cmdline_u64("wce", 1);
	static uint8_t buf[8 * SECTOR];
	static struct blk r;

	CHECK(vio_device_features(d) & FEATURE(VIRTIO_BLK_F_CONFIG_WCE), "CONFIG_WCE is offered");
	CHECK_EQ(CONFIG(d, wce), wce, "the mode");
	for (unsigned i = 0; i < 4; i++) {
		CHECK(vio_start(d, FEATURES | FEATURE(VIRTIO_BLK_F_CONFIG_WCE), 1, 16), "start");
		CHECK_EQ(CONFIG(d, wce), wce, "the mode is as configured");
		if (i & 1) {
			wce = !wce;
			mmio_write8(d->base + VIRTIO_MMIO_CONFIG +
					    offsetof(struct virtio_blk_config, wce),
				    (uint8_t)wce);
			CHECK_EQ(CONFIG(d, wce), wce, "the mode is as written");
		}
		pattern_fill(buf, sizeof(buf), WRITE_SEED, WRITE_AREA + 8 * i);
		CHECK_EQ(blk_write(&d->vq[0], WRITE_AREA + 8 * i, buf, sizeof(buf)),
			 VIRTIO_BLK_S_OK, "a write");
		CHECK_EQ(blk_do(&d->vq[0], &r, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK,
			 "a flush");
		CHECK(holds(&d->vq[0], WRITE_AREA + 8 * i, 8, WRITE_SEED), "is read again");
		vio_reset(d);
		wce = cmdline_u64("wce", 1);
		CHECK_EQ(CONFIG(d, wce), wce, "a reset forgets what was written");
	}
}

void test_blk(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	unsigned queues = (unsigned)cmdline_u64("queues", 1);

	check_offer(d);
	CHECK(vio_start(d, FEATURES, queues, 128), "start with %u queues", queues);
	check_read(&d->vq[0]);
	check_write(&d->vq[0]);
	check_framing(&d->vq[0]);
	check_id(&d->vq[queues - 1]);
	check_zeroes(d, &d->vq[0]);
	check_parallel(d, queues);
	vio_reset(d);
}

/* Zeros that are written as data; the runner looks at what the image occupies then. */
void test_blk_zeros(void)
{
	enum { PIECE = 128 };
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	uint8_t *buf = alloc(PIECE * SECTOR, 4096);
	unsigned bad = 0;

	CHECK(vio_start(d, FEATURES, 1, 128), "start");
	for (unsigned i = 0; i < UNMAP_SECTORS; i += PIECE)
		bad += blk_write(&d->vq[0], UNMAP_AREA + i, buf, PIECE * SECTOR) != VIRTIO_BLK_S_OK;
	CHECK_EQ(bad, 0, "writes of zeros");
	CHECK_EQ(blk_write(&d->vq[0], ODD_AREA, buf, SECTOR), VIRTIO_BLK_S_OK,
		 "a write of one sector of zeros");
	CHECK(holds_zeros(&d->vq[0], UNMAP_AREA, UNMAP_SECTORS), "zeros are there");
	CHECK(holds_zeros(&d->vq[0], ODD_AREA, 1), "in the odd sector, too");
	CHECK(holds(&d->vq[0], UNMAP_AREA - 8, 8, IMAGE_SEED) &&
		      holds(&d->vq[0], UNMAP_AREA + UNMAP_SECTORS, 8, IMAGE_SEED),
	      "and only there");
	vio_reset(d);
}

/* Reads a sector: whether the device asked for a kick. */
static bool read_needs_kick(struct vq *q)
{
	uint8_t buf[SECTOR];
	struct blk r;
	bool kick;

	blk_add(q, &r, VIRTIO_BLK_T_IN, 0, &(struct sg){buf, SECTOR}, 1);
	vq_publish(q);
	kick = vq_wants_notify(q);
	if (kick)
		vq_notify(q);
	CHECK(vq_wait(q, &r.written) >= 0 && r.status == VIRTIO_BLK_S_OK, "a read");
	return kick;
}

/* One read after the other. Each needs a kick, unless the disk polls ("poll=1"). */
void test_blk_kicks(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	unsigned kicks = 0;

	CHECK(vio_start(d, FEATURES, 1, 128), "start");
	if (cmdline_u64("poll", 0)) {
		CHECK(WAIT_UNTIL(!read_needs_kick(&d->vq[0])), "a read without a kick");
	} else {
		for (unsigned i = 0; i < 100; i++)
			kicks += read_needs_kick(&d->vq[0]);
		CHECK_EQ(kicks, 100, "kicks");
	}
	vio_reset(d);
}

/* Writes of almost 1 GiB each, of the same memory over and over, as many as the queue takes: how long
 * a reset waits for them is not the driver's to say. The runner looks at how much was written. */
void test_blk_huge(void)
{
	enum { BUFFERS = 60, BUFFER = 16 << 20, REQUESTS = 128 };
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	struct virtio_blk_outhdr *header = alloc(sizeof(*header), 16);
	struct vring_desc *table = alloc((BUFFERS + 2) * sizeof(*table), 16);
	struct sg sg[BUFFERS + 2] = {{header, sizeof(*header)}};
	uint8_t *status = alloc(1, 1), *data = alloc(BUFFER, 4096);

	CHECK(vio_start(d, FEATURES, 1, 128), "start");
	header->type = VIRTIO_BLK_T_OUT;
	for (unsigned i = 1; i <= BUFFERS; i++)
		sg[i] = (struct sg){data, BUFFER};
	sg[BUFFERS + 1] = (struct sg){status, 1};
	for (unsigned i = 0; i < REQUESTS; i++)
		CHECK(vq_add_indirect(&d->vq[0], table, sg, BUFFERS + 1, 1) >= 0, "a request");
	vq_publish(&d->vq[0]);
	vq_notify(&d->vq[0]);
	delay_us(20000); /* so that they are at work */
	CHECK(!(vio_read(d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET), "good requests");
	vio_reset(d);
	CHECK(vio_start(d, FEATURES, 1, 128), "start after it");
	CHECK(holds_zeros(&d->vq[0], blk_capacity(d) - 8, 8), "the end of the disk");
	vio_reset(d);
}

/* The runner makes the disk larger, from "sectors" to "after", once it is ready. */
void test_blk_resize(void)
{
	struct vio *d = need(VIRTIO_ID_BLOCK, 0);
	uint64_t before = cmdline_u64("sectors", 0), after = cmdline_u64("after", 0);
	uint8_t buf[SECTOR];
	uint32_t generation;

	irq_route(d->pin, VECTOR, 0);
	CHECK(vio_start(d, FEATURES, 1, 128), "start");
	CHECK_EQ(blk_capacity(d), before, "the capacity");
	CHECK_EQ(blk_read(&d->vq[0], before, buf, SECTOR), VIRTIO_BLK_S_IOERR, "a read at its end");
	vio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	generation = vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION);
	irq_count[VECTOR] = 0;
	print("ready\n");
	CHECK(WAIT_UNTIL(irq_count[VECTOR] > 0), "an interrupt");
	CHECK(vio_read(d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG,
	      "for the configuration");
	vio_write(d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	CHECK(vio_read(d, VIRTIO_MMIO_CONFIG_GENERATION) != generation, "the generation moved");
	CHECK_EQ(blk_capacity(d), after, "the capacity grew");
	CHECK(holds(&d->vq[0], before - 8, 8, IMAGE_SEED), "the old end is as it was");
	CHECK(holds_zeros(&d->vq[0], before, 8), "the new sectors are zeros");
	pattern_fill(buf, SECTOR, WRITE_SEED, after - 1);
	CHECK_EQ(blk_write(&d->vq[0], after - 1, buf, SECTOR), VIRTIO_BLK_S_OK,
		 "a write of the last sector");
	CHECK(holds(&d->vq[0], after - 1, 1, WRITE_SEED), "is read again");
	CHECK_EQ(blk_write(&d->vq[0], after, buf, SECTOR), VIRTIO_BLK_S_IOERR,
		 "a write at the new end");
	vio_reset(d);
	CHECK_EQ(blk_capacity(d), after, "a reset keeps the capacity");
}
