// SPDX-License-Identifier: BSD-2-Clause
/* virtio-blk on a regular file: what a request may look like, and what becomes of it. */
#include "blk_fixture.h"

static void test_features_and_limits(void **state)
{
	struct fixture *f = *state;
	const struct virtio_blk_config *c;
	uint64_t features;

	up(f, 0);
	c = config(&f->disk);
	features = drv_device_features(&f->disk.drv);
	assert_true(features & BIT(VIRTIO_BLK_F_SEG_MAX));
	assert_true(features & BIT(VIRTIO_BLK_F_BLK_SIZE));
	assert_true(features & BIT(VIRTIO_BLK_F_TOPOLOGY));
	assert_true(features & BIT(VIRTIO_BLK_F_FLUSH));
	assert_true(features & BIT(VIRTIO_BLK_F_DISCARD));
	assert_true(features & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_false(features & BIT(VIRTIO_BLK_F_RO));
	assert_false(features & BIT(VIRTIO_BLK_F_MQ));
	assert_int_equal(c->capacity, SECTORS);
	assert_int_equal(c->seg_max, 254);
	assert_int_equal(c->blk_size, 512);
	assert_true(c->physical_block_exp <= 7);
	/* A guest OS is known to crash on zeros here. */
	assert_true(c->max_discard_sectors > 0);
	assert_true(c->max_discard_seg > 0);
	assert_true(c->discard_sector_alignment > 0);
	assert_true(c->max_write_zeroes_sectors > 0);
	assert_true(c->max_write_zeroes_seg > 0);
	assert_int_equal(c->write_zeroes_may_unmap, 1);
}

static void test_read_write_flush_and_id(void **state)
{
	struct fixture *f = *state;
	struct drv_buf id = {f->disk.buffer, 20, true};
	char text[21] = "";

	up(f, MIB);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 65537);
	assert_true(disk_is_fill(f->data, 0, 65536));
	memset(f->data, 0x5a, 4096);
	assert_int_equal(disk_write(&f->disk, SECTORS - 8, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 1);
	memset(f->data, 0, 4096);
	assert_int_equal(disk_read(&f->disk, SECTORS - 8, f->data, 4096), VIRTIO_BLK_S_OK);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(f->data[i], 0x5a);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 1);

	id.addr = f->disk.buffer;
	memset(drv_ptr(&f->disk.drv, id.addr, 21), 'x', 21);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_GET_ID, 0, &id, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 21);
	memcpy(text, drv_ptr(&f->disk.drv, id.addr, 21), 21);
	assert_memory_equal(text, "test\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0x", 21);
	/* A short buffer gets what fits, and the status all the same. */
	id.len = 3;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_GET_ID, 0, &id, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 4);
}

static void test_an_empty_transfer_is_ok(void **state)
{
	struct fixture *f = *state;

	up(f, 0);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, SECTORS, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, SECTORS, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, SECTORS + 1, NULL, 0),
			 VIRTIO_BLK_S_IOERR);
}

/* Requests by hand: one area of guest memory, cut as the test likes. */
static uint8_t do_raw(struct disk *d, const struct drv_buf *bufs, unsigned n, gpa_t status)
{
	struct drv_queue *q = &d->drv.queue[0];
	uint8_t *s = drv_ptr(&d->drv, status, 1);
	uint32_t id;
	int head;

	*s = DISK_PENDING;
	head = drv_add_indirect(q, bufs, n);
	drv_kick_if_needed(q);
	drv_wait_used(q, &id, &d->length);
	assert_int_equal(id, head);
	return *s;
}

static void test_framing_means_nothing(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct drv_buf bytes[16 + 1];
	uint64_t b;

	up(f, MIB);
	b = d->buffer.v;

	/* The header byte by byte, data and status in one buffer. */
	put_header(d, GPA(b), VIRTIO_BLK_T_IN, 3);
	for (unsigned i = 0; i < 16; i++)
		bytes[i] = (struct drv_buf){GPA(b + i), 1, false};
	bytes[16] = (struct drv_buf){GPA(b + 4096), 1024 + 1, true};
	assert_int_equal(do_raw(d, bytes, 17, GPA(b + 4096 + 1024)), VIRTIO_BLK_S_OK);
	assert_int_equal(d->length, 1025);
	assert_true(disk_is_fill(drv_ptr(&d->drv, GPA(b + 4096), 1024), 3 * 512, 1024));

	/* Header and data in one buffer. */
	put_header(d, GPA(b), VIRTIO_BLK_T_OUT, 100);
	memset(drv_ptr(&d->drv, GPA(b + 16), 512), 0x77, 512);
	assert_int_equal(
		do_raw(d, (struct drv_buf[]){{GPA(b), 16 + 512, false}, {GPA(b + 8192), 1, true}},
		       2, GPA(b + 8192)),
		VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(d, 100, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[0], 0x77);
	assert_int_equal(f->data[511], 0x77);

	/* Header across two buffers, the second of which begins the data; a status after more
	 * writable bytes than anything needs. */
	put_header(d, GPA(b), VIRTIO_BLK_T_OUT, 200);
	memset(drv_ptr(&d->drv, GPA(b + 16), 512), 0x78, 512);
	assert_int_equal(do_raw(d,
				(struct drv_buf[]){{GPA(b), 10, false},
						   {GPA(b + 10), 100, false},
						   {GPA(b + 110), 418, false},
						   {GPA(b + 8192), 5, true},
						   {GPA(b + 9000), 2, true}},
				5, GPA(b + 9001)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(d->length, 0); /* nothing before the status was written */
	assert_int_equal(disk_read(d, 200, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[0], 0x78);
	assert_int_equal(f->data[511], 0x78);

	/* Ranges cut in the middle. */
	put_header(d, GPA(b), VIRTIO_BLK_T_DISCARD, 0);
	*(struct virtio_blk_discard_write_zeroes *)drv_ptr(&d->drv, GPA(b + 16), 16) =
		(struct virtio_blk_discard_write_zeroes){.sector = 200, .num_sectors = 8};
	assert_int_equal(do_raw(d,
				(struct drv_buf[]){{GPA(b), 20, false},
						   {GPA(b + 20), 12, false},
						   {GPA(b + 8192), 1, true}},
				3, GPA(b + 8192)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(d, 200, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 4096));
}

static void test_a_request_of_many_buffers(void **state)
{
	struct fixture *f = *state;
	struct drv_buf pieces[254];

	up(f, MIB);
	for (unsigned i = 0; i < 254; i++)
		pieces[i] = (struct drv_buf){GPA(f->disk.buffer.v + i * 1024), 512, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 10, pieces, 254), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 254 * 512 + 1);
	for (unsigned i = 0; i < 254; i++)
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, pieces[i].addr, 512), (10 + i) * 512,
					 512));
}

/* Sector 2^55 is byte 2^64, which wraps to byte 0 where nobody looks. */
static void test_sectors_do_not_wrap(void **state)
{
	static const uint64_t sectors[] = {1ull << 55, (1ull << 55) - 1, UINT64_MAX, UINT64_MAX - 7,
					   SECTORS,    SECTORS - 7,	 1ull << 63};
	struct fixture *f = *state;

	up(f, SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
		memset(f->data, 0, 4096);
		assert_int_equal(disk_write(&f->disk, sectors[i], f->data, 4096),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_read(&f->disk, sectors[i], f->data, 4096),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, sectors[i], 8, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(
			disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, sectors[i], 8, UNMAP),
			VIRTIO_BLK_S_IOERR);
	}
	for (uint64_t at = 0; at < SIZE; at += 4 * MIB)
		assert_true(file_holds_fill(f, at, 4 * MIB));
}

/* Each buffer fits before the end, all together do not; nothing is transferred. */
static void test_bounds_hold_for_the_total(void **state)
{
	struct fixture *f = *state;
	struct drv_buf two[2];
	struct virtio_blk_discard_write_zeroes ranges[2] = {
		{.sector = SECTORS - 8, .num_sectors = 8},
		{.sector = SECTORS - 8, .num_sectors = 16},
	};

	up(f, SIZE);
	two[0] = (struct drv_buf){f->disk.buffer, 4096, false};
	two[1] = (struct drv_buf){f->disk.buffer, 4096, false};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, SECTORS - 8, two, 2),
			 VIRTIO_BLK_S_IOERR);
	two[0].write = two[1].write = true;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, SECTORS - 8, two, 2),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->disk.length, 0);
	/* The first range is fine, and is not carried out. */
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 2),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, ranges, 2),
			 VIRTIO_BLK_S_IOERR);
	for (uint64_t at = 0; at < SIZE; at += 4 * MIB)
		assert_true(file_holds_fill(f, at, 4 * MIB));
}

static void test_lengths_are_whole_sectors(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;

	up(f, MIB);
	buf = (struct drv_buf){f->disk.buffer, 513, false};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 0, &buf, 1), VIRTIO_BLK_S_IOERR);
	buf.write = true;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, &buf, 1), VIRTIO_BLK_S_IOERR);
	buf = (struct drv_buf){f->disk.buffer, 17, false};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_DISCARD, 0, &buf, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_DISCARD, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_true(file_holds_fill(f, 0, MIB));
}

static void test_refused_before_any_side_effect(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes ranges[257] = {{.num_sectors = 8}};
	static const struct {
		uint32_t type, flags;
	} refused[] = {
		{VIRTIO_BLK_T_DISCARD, UNMAP},	  {VIRTIO_BLK_T_DISCARD, 2},
		{VIRTIO_BLK_T_DISCARD, 1u << 31}, {VIRTIO_BLK_T_WRITE_ZEROES, 2},
		{VIRTIO_BLK_T_WRITE_ZEROES, 3},	  {VIRTIO_BLK_T_WRITE_ZEROES, 1u << 31},
	};

	up(f, MIB);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		ranges[1] = (struct virtio_blk_discard_write_zeroes){
			.sector = 8, .num_sectors = 8, .flags = refused[i].flags};
		assert_int_equal(disk_ranges(&f->disk, refused[i].type, ranges, 2),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(f->disk.length, 1);
		/* Whatever else is wrong with it. */
		ranges[0].sector = SECTORS;
		assert_int_equal(disk_ranges(&f->disk, refused[i].type, ranges, 2),
				 VIRTIO_BLK_S_UNSUPP);
		ranges[0].sector = 0;
	}
	for (unsigned i = 0; i < 257; i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){.sector = i, .num_sectors = 1};
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 257),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(config(&f->disk)->max_discard_seg, 256);
	ranges[0].num_sectors = config(&f->disk)->max_discard_sectors + 1;
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 1),
			 VIRTIO_BLK_S_IOERR);
	assert_true(file_holds_fill(f, 0, MIB));
	/* As many as offered. */
	ranges[0].num_sectors = 1;
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 256), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 128 * 1024), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 128 * 1024));
}

static void test_unknown_types_are_unsupported(void **state)
{
	/* With SCSI commands, barriers, lifetime, and all that is for zones. */
	static const uint32_t types[] = {2,  3,	 5,  6,	 7,  9,	 10, 12,	 14,	    15,
					 16, 18, 20, 22, 24, 26, 99, 0x80000000, UINT32_MAX};
	struct fixture *f = *state;
	struct drv_buf out, in;

	up(f, 0);
	out = (struct drv_buf){f->disk.buffer, 512, false};
	in = (struct drv_buf){f->disk.buffer, 512, true};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(disk_do(&f->disk, types[i], 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(disk_do(&f->disk, types[i], 0, &out, 1), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(disk_do(&f->disk, types[i], 0, &in, 1), VIRTIO_BLK_S_UNSUPP);
	}
}

static void test_only_what_was_negotiated(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);

	disk_fill(f->path, 0, MIB);
	o.decline = BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	disk_up(&f->disk, f->path, &o);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_true(file_holds_fill(f, 0, MIB));
}

/* Section 5.2.2: without MQ there is one queue. */
static void test_one_queue_without_mq(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct drv *drv = &f->disk.drv;

	o.queues = 4;
	o.decline = BIT(VIRTIO_BLK_F_MQ);
	disk_up(&f->disk, f->path, &o);
	for (unsigned q = 0; q < 5; q++) {
		drv_write32(drv, VIRTIO_MMIO_QUEUE_SEL, q);
		assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_NUM_MAX), q ? 0 : 256);
		assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_READY), !q);
	}
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);

	/* It is known with FEATURES_OK, also of a queue that was selected before. */
	drv_reset(drv);
	drv_write32(drv, VIRTIO_MMIO_QUEUE_SEL, 3);
	assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
	drv_write32(drv, VIRTIO_MMIO_STATUS, 1);
	drv_write32(drv, VIRTIO_MMIO_STATUS, 3);
	drv_write32(drv, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	drv_write32(drv, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	drv_write32(drv, VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(drv_page32(drv, VIRTIO_MMIO_STATUS), 11);
	assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	drv_write32(drv, VIRTIO_MMIO_QUEUE_NUM, 16);
	drv_write32(drv, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_READY), 0);

	f->disk.features = UINT64_MAX;
	disk_restart(&f->disk);
	drv_write32(drv, VIRTIO_MMIO_QUEUE_SEL, 3);
	assert_int_equal(drv_page32(drv, VIRTIO_MMIO_QUEUE_READY), 1);
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	uint64_t features;

	disk_fill(f->path, 0, MIB);
	o.readonly = true;
	disk_up(&f->disk, f->path, &o);
	features = drv_device_features(&f->disk.drv);
	assert_true(features & BIT(VIRTIO_BLK_F_RO));
	assert_false(features & BIT(VIRTIO_BLK_F_DISCARD));
	assert_false(features & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, UNMAP),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_true(file_holds_fill(f, 0, MIB));
}

static void test_broken_requests_need_a_reset(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct drv_buf bufs[2];
	uint8_t *status;

	up(f, MIB);
	status = drv_ptr(&d->drv, GPA(d->buffer.v + 64), 1);
	for (uint32_t len = 0; len < 16; len += 5) {
		/* A header that ends early; its status says so. */
		bufs[0] = (struct drv_buf){d->buffer, len, false};
		bufs[1] = (struct drv_buf){GPA(d->buffer.v + 64), 1, true};
		*status = DISK_PENDING;
		assert_true(drv_add(&d->drv.queue[0], bufs, 2) >= 0);
		drv_kick(&d->drv.queue[0]);
		expect_needs_reset(d);
		assert_int_equal(*status, VIRTIO_BLK_S_IOERR);
		disk_restart(d);
	}
	/* No place for a status. */
	put_header(d, d->buffer, VIRTIO_BLK_T_FLUSH, 0);
	bufs[0] = (struct drv_buf){d->buffer, 16, false};
	assert_true(drv_add(&d->drv.queue[0], bufs, 1) >= 0);
	drv_kick(&d->drv.queue[0]);
	expect_needs_reset(d);
	disk_restart(d);
	assert_int_equal(disk_read(d, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
}

static void test_a_file_that_shrinks_underneath(void **state)
{
	struct fixture *f = *state;

	up(f, SIZE);
	assert_int_equal(truncate(f->path, MIB), 0);
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, SECTORS / 2, f->data, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->disk.length, 0);
	/* The first half is there: the used length says how much came. */
	assert_int_equal(disk_read(&f->disk, 2048 - 8, f->data, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->disk.length, 4096);
	assert_true(disk_is_fill(f->data, MIB - 4096, 4096));
	/* The disk lives. */
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(features_and_limits),
		TEST(read_write_flush_and_id),
		TEST(an_empty_transfer_is_ok),
		TEST(framing_means_nothing),
		TEST(a_request_of_many_buffers),
		TEST(sectors_do_not_wrap),
		TEST(bounds_hold_for_the_total),
		TEST(lengths_are_whole_sectors),
		TEST(refused_before_any_side_effect),
		TEST(unknown_types_are_unsupported),
		TEST(only_what_was_negotiated),
		TEST(one_queue_without_mq),
		TEST(readonly),
		TEST(broken_requests_need_a_reset),
		TEST(a_file_that_shrinks_underneath),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
