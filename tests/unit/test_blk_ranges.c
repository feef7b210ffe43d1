// SPDX-License-Identifier: BSD-2-Clause
/* Discard, write zeroes, and zeros that become holes. */
#include "blk_fixture.h"

/* A driver for 4 KiB blocks once counted ranges in these, and lost eight times what it meant. */
static void test_ranges_are_in_sectors_of_512(void **state)
{
	struct fixture *f = *state;

	up(f, 4 * MIB);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 2048, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 4096));
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
	assert_true(mem_is_zero(f->data, 4 * MIB));
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

/* Each has to lie on the disk; that together they are more than the disk is no fault. */
static void test_ranges_may_overlap(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct fixture *f = *state;
	struct virtio_blk_discard_write_zeroes ranges[256];

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){
			.sector = i, .num_sectors = (uint32_t)(SECTORS - i)};
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		up(f, SIZE);
		assert_int_equal(disk_ranges(&f->disk, types[i], ranges, 2), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_ranges(&f->disk, types[i], ranges, 256), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
		assert_true(mem_is_zero(f->data, 8 * MIB));
		ranges[255].num_sectors++;
		assert_int_equal(disk_ranges(&f->disk, types[i], ranges, 256), VIRTIO_BLK_S_IOERR);
		ranges[255].num_sectors--;
		disk_close(&f->disk);
	}
	f->disk.dev = NULL;
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
	assert_true(mem_is_zero(f->data, MIB));
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 8192, 2048, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(f->path), 7 * MIB, 7 * MIB + 64 * KIB);
	assert_int_equal(disk_read(&f->disk, 8192, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, MIB));
	/* One odd sector, with neighbours. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 77, 1, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_true(file_holds_fill(f, 0, 77 * 512));
	assert_true(file_holds_fill(f, 78 * 512, MIB - 78 * 512));
	assert_int_equal(disk_read(&f->disk, 77, f->data, 512), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 512));
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
	assert_true(mem_is_zero(f->data, MIB));
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
	assert_true(mem_is_zero(f->data + MIB, MIB + 8191));
	assert_int_equal(f->data[2 * MIB + 8191], 0x40);
	assert_true(disk_is_fill(f->data + 2 * MIB + 8192, 2 * MIB + 8192, MIB - 8192));
	assert_true(mem_is_zero(f->data + 3 * MIB, 8192 + 512));
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

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(ranges_are_in_sectors_of_512),
		TEST(discard_frees_blocks),
		TEST(returned_bytes_are_of_discards),
		TEST(no_more_sectors_than_offered),
		TEST(ranges_may_overlap),
		TEST(write_zeroes),
		TEST(discard_ignore_keeps_what_is_allocated),
		TEST(zeros_become_holes),
		TEST(zeros_are_written_by_default),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk_ranges", tests, NULL, NULL);
}
