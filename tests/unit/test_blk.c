// SPDX-License-Identifier: BSD-2-Clause
/* virtio-blk on a regular file, from the driver's side; every test runs on both engines. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk_model.h"
#include "disk.h"
#include "util.h"

#define SIZE	(32 * MIB)
#define SECTORS (SIZE / BLK_SECTOR)
#define UNMAP	VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define BIT(n)	(1ull << (n))

/* One for each engine: what cmocka hands to every test. */
struct fixture {
	enum disk_engine engine;
	char *path;
	struct disk disk;
	uint8_t *data; /* DISK_BUFFER */
};

static struct disk_options options(const struct fixture *f)
{
	return (struct disk_options){.engine = f->engine};
}

static void up(struct fixture *f, uint64_t filled)
{
	struct disk_options o = options(f);

	if (filled)
		disk_fill(f->path, 0, filled);
	disk_up(&f->disk, f->path, &o);
}

static int setup(void **state)
{
	struct fixture *f = *state;

	f->path = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->disk.dev)
		disk_close(&f->disk);
	f->disk.dev = NULL;
	unlink(f->path);
	free(f->path);
	free(f->data);
	return 0;
}

static bool file_holds_fill(struct fixture *f, uint64_t offset, uint64_t len)
{
	FILE *file = fopen(f->path, "r");
	bool ok = file && fseek(file, (long)offset, SEEK_SET) == 0 &&
		  fread(f->data, 1, len, file) == len && disk_is_fill(f->data, offset, len);

	if (file)
		fclose(file);
	return ok;
}

static const struct virtio_blk_config *config(const struct disk *d)
{
	return (const void *)d->dev->config;
}

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

static void put_header(struct disk *d, gpa_t at, uint32_t type, uint64_t sector)
{
	*(struct virtio_blk_outhdr *)drv_ptr(&d->drv, at, 16) =
		(struct virtio_blk_outhdr){.type = type, .sector = sector};
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
	assert_true(disk_is_zero(f->data, 4096));
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
	/* More than the whole disk, piece by piece. */
	ranges[0] = (struct virtio_blk_discard_write_zeroes){.num_sectors = SECTORS};
	ranges[1] = (struct virtio_blk_discard_write_zeroes){.num_sectors = 1};
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, 2),
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
	assert_true(disk_is_zero(f->data, 128 * 1024));
}

static void test_unknown_types_are_unsupported(void **state)
{
	static const uint32_t types[] = {2, 3, 5, 6, 7, 9, 10, 12, 14, 99, 0x80000000, UINT32_MAX};
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
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_true(file_holds_fill(f, 0, MIB));
}

/* A driver for 4 KiB blocks once counted ranges in these, and lost eight times what it meant. */
static void test_ranges_are_in_sectors_of_512(void **state)
{
	struct fixture *f = *state;

	up(f, 4 * MIB);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 2048, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, 4096));
	assert_true(file_holds_fill(f, 0, MIB));
	assert_true(file_holds_fill(f, MIB + 4096, MIB));
	assert_in_range(disk_allocated(f->path), 4 * MIB - 4096, 4 * MIB + 20 * KIB);
}

static void test_discard_frees_blocks(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes ranges[] = {
		{.sector = 0, .num_sectors = 2048},
		{.sector = 4096, .num_sectors = 0},
		{.sector = 8192, .num_sectors = 8192},
		{.sector = SECTORS - 2048, .num_sectors = 2048},
	};
	struct disk_result result;

	up(f, SIZE);
	assert_in_range(disk_allocated(f->path), SIZE, SIZE + 64 * KIB);
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_DISCARD, ranges, ARRAY_SIZE(ranges)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 1);
	assert_in_range(disk_allocated(f->path), SIZE - 6 * MIB, SIZE - 6 * MIB + 64 * KIB);
	assert_true(file_holds_fill(f, MIB, 3 * MIB));
	assert_true(file_holds_fill(f, 8 * MIB, 4 * MIB));
	assert_int_equal(disk_read(&f->disk, 8192, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, 4 * MIB));
	/* All of it in one range. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 0, 64 * KIB);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.discards, 2);
	assert_int_equal(result.discarded_bytes, 6 * MIB + SIZE);
	/* Of which it gave back what was there. */
	assert_in_range(result.allocated_start, SIZE, SIZE + 64 * KIB);
	assert_in_range(result.allocated_end, 0, 64 * KIB);
	assert_int_equal(result.returned_bytes, result.allocated_start - result.allocated_end);
	assert_int_equal(result.errors, 0);
}

/* What is written meanwhile, or before, is not set off against what is given back. */
static void test_returned_bytes_are_of_discards(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up(f, 0);
	memset(f->data, 0x5a, 4 * MIB);
	for (unsigned round = 1; round <= 3; round++) {
		assert_int_equal(disk_write(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 2048, UNMAP),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 4096, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(disk_write(&f->disk, 16384, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
		blk_device_result(f->disk.dev, &result);
		assert_in_range(result.returned_bytes, round * 2 * MIB - 64 * KIB,
				round * 2 * MIB + 64 * KIB);
		assert_in_range(result.allocated_end, 6 * MIB, 6 * MIB + 128 * KIB);
	}
	assert_in_range(result.allocated_start, 0, 64 * KIB);
}

static void test_no_more_sectors_than_offered(void **state)
{
	struct fixture *f = *state;
	uint32_t max;

	assert_int_equal(truncate(f->path, (off_t)(8 * GIB)), 0);
	up(f, MIB);
	max = config(&f->disk)->max_discard_sectors;
	assert_true(max < 16 * MIB);
	assert_int_equal(config(&f->disk)->max_write_zeroes_sectors, max);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, max + 1, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, max + 1, UNMAP),
			 VIRTIO_BLK_S_IOERR);
	assert_true(file_holds_fill(f, 0, MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 2048, max, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, max, 0), VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 0, 64 * KIB);
}

static void test_write_zeroes(void **state)
{
	struct fixture *f = *state;

	up(f, 8 * MIB);
	/* Without UNMAP, what is zeroed stays allocated. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 8 * MIB, 8 * MIB + 64 * KIB);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 8192, 2048, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 7 * MIB, 7 * MIB + 64 * KIB);
	assert_int_equal(disk_read(&f->disk, 8192, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, MIB));
	/* One odd sector, with neighbours. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 77, 1, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_true(file_holds_fill(f, 0, 77 * 512));
	assert_true(file_holds_fill(f, 78 * 512, MIB - 78 * 512));
	assert_int_equal(disk_read(&f->disk, 77, f->data, 512), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, 512));
}

static void test_discard_ignore_keeps_what_is_allocated(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);

	disk_fill(f->path, 0, 2 * MIB);
	o.ignore = true;
	disk_up(&f->disk, f->path, &o);
	assert_false(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(config(&f->disk)->write_zeroes_may_unmap, 0);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 2048, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, MIB));
	assert_in_range(disk_allocated(f->path), 2 * MIB, 2 * MIB + 64 * KIB);
}

static void test_zeros_become_holes(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct drv_buf two[2];
	struct disk_result result;
	uint8_t *p;

	disk_fill(f->path, 0, 4 * MIB);
	o.detect_zeroes = true;
	disk_up(&f->disk, f->path, &o);
	memset(f->data, 0, MIB);
	assert_int_equal(disk_write(&f->disk, 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 1);
	assert_in_range(disk_allocated(f->path), 3 * MIB, 3 * MIB + 64 * KIB);
	/* In two buffers, cut oddly. */
	p = drv_ptr(&f->disk.drv, f->disk.buffer, 16 * KIB);
	memset(p, 0, 16 * KIB);
	two[0] = (struct drv_buf){f->disk.buffer, 4095, false};
	two[1] = (struct drv_buf){GPA(f->disk.buffer.v + 8192), 4097, false};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 4096, two, 2), VIRTIO_BLK_S_OK);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.detected_zero_bytes, MIB + 8192);
	/* One bit in the last byte is data. */
	p[8192 + 4096] = 0x40;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 4096, two, 2), VIRTIO_BLK_S_OK);
	/* No whole units: written, beside what is there. */
	assert_int_equal(disk_write(&f->disk, 6145, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 6144, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.detected_zero_bytes, MIB + 8192);
	assert_int_equal(result.writes, 5);
	assert_int_equal(result.written_bytes, MIB + 3 * 8192 + 512);
	assert_int_equal(result.write_zeroes, 0);
	assert_int_equal(result.discards, 0);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
	assert_true(disk_is_zero(f->data + MIB, MIB + 8191));
	assert_int_equal(f->data[2 * MIB + 8191], 0x40);
	assert_true(disk_is_fill(f->data + 2 * MIB + 8192, 2 * MIB + 8192, MIB - 8192));
	assert_true(disk_is_zero(f->data + 3 * MIB, 8192 + 512));
	assert_true(disk_is_fill(f->data + 3 * MIB + 8704, 3 * MIB + 8704, MIB - 8704));
	/* A disk that grows by zeros takes no space. */
	memset(f->data, 0, 4 * MIB);
	for (uint64_t at = 4 * MIB; at < SIZE; at += 4 * MIB)
		assert_int_equal(disk_write(&f->disk, at / 512, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 3 * MIB, 3 * MIB + 64 * KIB);
}

static void test_zeros_are_written_by_default(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up(f, MIB);
	memset(f->data, 0, MIB);
	assert_int_equal(disk_write(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), MIB, MIB + 64 * KIB);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.detected_zero_bytes, 0);
}

static void expect_needs_reset(struct disk *d)
{
	uint64_t end = now_ns() + DRV_TIMEOUT_MS * 1000000ull;

	while (!(drv_read32(&d->drv, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
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

static void test_a_head_in_flight_is_not_taken_twice(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct drv_buf buf;

	up(f, 0);
	buf = (struct drv_buf){d->buffer, DISK_BUFFER, true};
	/* Long enough to be in flight when the same head comes again, in the same batch. */
	assert_int_equal(disk_send(d, 0, VIRTIO_BLK_T_IN, 0, &buf, 1), 0);
	drv_make_available(&d->drv.queue[0], 0);
	drv_kick(&d->drv.queue[0]);
	expect_needs_reset(d);
	disk_restart(d);
	assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
}

static void test_every_request_gets_its_status_once(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;
	unsigned seen[VIRTQ_MAX_SIZE] = {0};
	uint8_t status;
	uint32_t length;

	up(f, MIB);
	for (unsigned round = 0; round < 8; round++) {
		memset(seen, 0, sizeof(seen));
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			buf = (struct drv_buf){GPA(f->disk.buffer.v + i * 4096), 512 * (i % 9),
					       i % 2};
			assert_true(disk_send(&f->disk, 0, i % 17, i, &buf, i % 9 ? 1 : 0) >= 0);
		}
		disk_kick(&f->disk, 0);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			int head = disk_reap(&f->disk, 0, &status, &length);

			assert_int_equal(seen[head]++, 0);
			assert_in_range(status, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP);
		}
	}
	assert_false(drv_used(&f->disk.drv.queue[0], NULL, NULL));
}

/* More than one turn's budget, by a driver that uses every entry again at once. */
static void test_a_flood_is_worked_off(void **state)
{
	struct fixture *f = *state;
	unsigned sent = 0, done = 0;
	uint8_t status;

	up(f, MIB);
	while (done < 5000) {
		while (disk_send(&f->disk, 0, sent % 3 ? VIRTIO_BLK_T_GET_ID : VIRTIO_BLK_T_IN,
				 sent % 100,
				 &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true},
				 1) >= 0)
			sent++;
		disk_kick(&f->disk, 0);
		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
		done++;
	}
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

/* Far more requests in flight than completions fit in the ring: none is lost. */
static void test_completions_overflow(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	bool seen[VIRTQ_MAX_SIZE];

	o.entries = 2;
	disk_fill(f->path, 0, MIB);
	disk_up(&f->disk, f->path, &o);
	for (unsigned round = 0; round < 20; round++) {
		memset(seen, 0, sizeof(seen));
		memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++)
			assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, i * 8,
					      &(struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
								4096, true},
					      1) >= 0);
		disk_kick(&f->disk, 0);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			uint8_t status;
			int head = disk_reap(&f->disk, 0, &status, NULL);

			assert_int_equal(status, VIRTIO_BLK_S_OK);
			assert_false(seen[head]);
			seen[head] = true;
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB));
	}
}

/* After a reset no request may touch guest memory any more. */
static void test_reset_with_requests_in_flight(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	uint8_t *memory;
	size_t len = 200 * 16 * KIB;

	up(f, SIZE);
	memory = drv_ptr(&d->drv, d->buffer, len);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 200; i++) {
			struct drv_buf in = {GPA(d->buffer.v + i * 16 * KIB), 16 * KIB, true};

			assert_true(disk_send(d, 0, VIRTIO_BLK_T_IN, 32 * (i * 7 % 1000), &in, 1) >=
				    0);
		}
		for (unsigned i = 0; i < 20; i++) {
			gpa_t at = GPA(d->buffer.v + 4 * MIB + i * 16);
			struct drv_buf out = {at, 16, false};

			*(struct virtio_blk_discard_write_zeroes *)drv_ptr(&d->drv, at, 16) =
				(struct virtio_blk_discard_write_zeroes){.sector = SECTORS - 4096,
									 .num_sectors = 4096};
			assert_true(
				disk_send(d, 0,
					  i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES,
					  0, &out, 1) >= 0);
		}
		disk_kick(d, 0);
		if (round % 3)
			usleep(round * 10);
		drv_reset(&d->drv);
		memset(memory, 0xcc, len);
		if (round % 10 == 0)
			usleep(20000);
		for (size_t i = 0; i < len; i += 64)
			assert_int_equal(memory[i], 0xcc);
		drv_start(&d->drv, d->features, 0);
	}
	assert_int_equal(disk_read(d, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4 * MIB));
}

static void test_queues(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct disk_result result;

	disk_fill(f->path, 0, 8 * MIB);
	o.queues = 4;
	disk_up(&f->disk, f->path, &o);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_MQ));
	assert_int_equal(config(&f->disk)->num_queues, 4);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 256; i++) {
			struct drv_buf in = {GPA(f->disk.buffer.v + i * 4096), 4096, true};

			assert_true(disk_send(&f->disk, i % 4, VIRTIO_BLK_T_IN, i * 8, &in, 1) >=
				    0);
		}
		for (unsigned q = 0; q < 4; q++)
			disk_kick(&f->disk, q);
		for (unsigned i = 0; i < 256; i++) {
			uint8_t status;

			disk_reap(&f->disk, i % 4, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB));
		memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB);
		if (round % 5 == 4)
			disk_restart(&f->disk);
	}
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.reads, 20 * 256);
	assert_int_equal(result.read_bytes, 20 * 256 * 4096);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Limits so tight that a request or two are all that a test will see, until they change. */
static void test_limits(void **state)
{
	static const struct blk_limits limits[] = {
		{2, 0, NSEC_PER_SEC}, {1, 0, 0}, {0, 1, 0}, {1, 1, 0}};
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct disk_result result;
	uint8_t status;
	uint64_t before = 0;

	disk_fill(f->path, 0, MIB);
	o.queues = 2;
	o.limits = limits[0];
	disk_up(&f->disk, f->path, &o);
	for (size_t round = 0; round < 2 * ARRAY_SIZE(limits); round++) {
		blk_device_set_limits(f->disk.dev, &limits[round / 2]);
		for (unsigned i = 0; i < 64; i++)
			assert_true(disk_send(&f->disk, i % 2, VIRTIO_BLK_T_IN, i * 8,
					      &(struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
								4096, true},
					      1) >= 0);
		disk_kick(&f->disk, 0);
		disk_kick(&f->disk, 1);
		for (unsigned i = 0; i < 8; i++)
			loop_call(f->disk.loop[i % 2], nothing, NULL);
		blk_device_result(f->disk.dev, &result);
		/* Both queues may have looked before either was charged. */
		assert_in_range(result.reads, before, before + 2);
		if (round % 2) { /* what waits is gone with a reset, and not done after it */
			disk_restart(&f->disk);
			blk_device_result(f->disk.dev, &result);
			assert_in_range(result.reads, before, before + 2);
			before = result.reads;
			continue;
		}
		blk_device_set_limits(f->disk.dev, &(struct blk_limits){0});
		for (unsigned i = 0; i < 64; i++) {
			disk_reap(&f->disk, i % 2, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, 64 * 4096), 0,
					 64 * 4096));
		before += 64;
	}
	blk_device_set_limits(f->disk.dev, &(struct blk_limits){0});
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
}

/* O_DIRECT: whatever the buffers are aligned to. */
static void test_direct(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct error e = {""};
	struct drv_buf odd[2];
	uint64_t b;

	disk_fill(f->path, 0, 8 * MIB);
	o.direct = true;
	if (disk_open(&f->disk, f->path, &o, &e) < 0) {
		f->disk.dev = NULL;
		print_message("# no O_DIRECT: %s\n", e.msg);
		skip();
	}
	disk_start(&f->disk);
	b = f->disk.buffer.v;
	assert_int_equal(disk_read(&f->disk, 8, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 4096, 65536));
	/* More than a bounce buffer, cut and placed oddly. */
	odd[0] = (struct drv_buf){GPA(b + 3), 4097, true};
	odd[1] = (struct drv_buf){GPA(b + 8192 + 1), MIB - 4097, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 16, odd, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, MIB + 1);
	assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd[0].addr, 4097), 8192, 4097));
	assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd[1].addr, odd[1].len), 8192 + 4097,
				 odd[1].len));
	odd[0].write = odd[1].write = false;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 16384, odd, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 16384, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 8192, MIB));
	/* More at once than there are bounce buffers. */
	for (unsigned i = 0; i < 64; i++)
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, i * 8,
				      &(struct drv_buf){GPA(b + 1 + i * 8192), 4096, true},
				      1) >= 0);
	disk_kick(&f->disk, 0);
	for (unsigned i = 0; i < 64; i++) {
		uint8_t status;

		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
	}
	for (unsigned i = 0; i < 64; i++)
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, GPA(b + 1 + i * 8192), 4096),
					 i * 4096, 4096));
}

static void run_model(struct fixture *f, struct disk_options o, unsigned align, unsigned depth)
{
	struct error e = {""};
	const char *wrong;

	o.engine = f->engine;
	if (disk_open(&f->disk, f->path, &o, &e) < 0) {
		f->disk.dev = NULL;
		print_message("# not opened: %s\n", e.msg);
		skip();
	}
	disk_start(&f->disk);
	wrong = blk_model(&(struct blk_model_run){
		.disk = &f->disk,
		.path = f->path,
		.requests = 8000,
		.depth = depth,
		.seed = 20261123 + o.direct,
		.odd_buffers = true,
		.align = align,
		.zeros = o.detect_zeroes,
		.check_holes = true,
	});
	if (wrong)
		fail_msg("%s", wrong);
}

static void test_model(void **state)
{
	run_model(*state, (struct disk_options){0}, 1, 48);
}

static void test_model_without_indirect_descriptors(void **state)
{
	/* So that the queue's descriptors are enough. */
	run_model(*state,
		  (struct disk_options){.decline = BIT(VIRTIO_RING_F_INDIRECT_DESC) |
						   BIT(VIRTIO_RING_F_EVENT_IDX)},
		  1, 8);
}

static void test_model_direct(void **state)
{
	run_model(*state, (struct disk_options){.direct = true}, 8, 48);
}

static void test_model_with_zeros_detected(void **state)
{
	run_model(*state, (struct disk_options){.detect_zeroes = true}, 1, 48);
}

#define TEST(name)                                                                                 \
	{"uring: " #name, test_##name, setup, teardown, &uring},                                   \
	{                                                                                          \
		"sync: " #name, test_##name, setup, teardown, &sync                                \
	}

static struct error no_uring;

static void test_no_uring(void **state)
{
	(void)state;
	print_message("# %s\n", no_uring.msg);
	skip();
}

int main(void)
{
	struct loop *loop = NULL;
	static struct fixture uring = {.engine = ENGINE_URING}, sync = {.engine = ENGINE_SYNC};
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
		TEST(readonly),
		TEST(ranges_are_in_sectors_of_512),
		TEST(discard_frees_blocks),
		TEST(returned_bytes_are_of_discards),
		TEST(no_more_sectors_than_offered),
		TEST(write_zeroes),
		TEST(discard_ignore_keeps_what_is_allocated),
		TEST(zeros_become_holes),
		TEST(zeros_are_written_by_default),
		TEST(broken_requests_need_a_reset),
		TEST(a_head_in_flight_is_not_taken_twice),
		TEST(every_request_gets_its_status_once),
		TEST(a_flood_is_worked_off),
		TEST(a_file_that_shrinks_underneath),
		TEST(completions_overflow),
		TEST(reset_with_requests_in_flight),
		TEST(queues),
		TEST(limits),
		TEST(direct),
		TEST(model),
		TEST(model_without_indirect_descriptors),
		TEST(model_direct),
		TEST(model_with_zeros_detected),
	};

	if (loop_new(&loop, "probe", LOOP_URING, 8, &no_uring) < 0)
		for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
			if (tests[i].initial_state == &uring)
				tests[i].test_func = test_no_uring;
	loop_free(loop);
	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
