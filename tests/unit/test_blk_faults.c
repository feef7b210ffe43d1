// SPDX-License-Identifier: BSD-2-Clause
/* What the disk makes of the answers an engine may give, and what it asks of it. */
#include "blk_fake_fixture.h"

static void test_short_transfers_go_on(void **state)
{
	struct fixture *f = *state;
	struct drv_buf pieces[12];

	up(f, run_short);
	/* More buffers than a request holds itself, of odd lengths. */
	for (unsigned i = 0; i < 12; i++)
		pieces[i] = (struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
					     i == 11 ? 12 * 2048 - 11 * 2047 : 2047, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 9, pieces, 12), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 12 * 2048 + 1);
	for (unsigned i = 0; i < 12; i++)
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, pieces[i].addr, pieces[i].len),
					 9 * 512 + i * 2047, pieces[i].len));
	for (unsigned i = 0; i < 12; i++)
		pieces[i].write = false;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 20000, pieces, 12), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 20000, f->data, 12 * 2048), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 9 * 512, 12 * 2048));
}

static int64_t run_after_some_retries(struct fake *fake, const struct blk_req *req)
{
	if (fake->step++ % 8 != 7)
		return fake->step % 2 ? -EAGAIN : -EINTR;
	return blk_sync_run(fake->engine.image, req);
}

static void test_transient_errors_are_tried_again(void **state)
{
	struct fixture *f = *state;

	up(f, run_after_some_retries);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 8192));
	assert_int_equal(disk_write(&f->disk, 0, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 4 * 8);
}

static void test_transient_errors_end(void **state)
{
	struct fixture *f = *state;

	up(f, run_fails);
	f->fake.error = EAGAIN;
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_in_range(f->fake.submitted, 2, 100);
}

static void test_errors_reach_the_guest(void **state)
{
	static const int errors[] = {EIO, ENOSPC, EFBIG, EBADF, ECANCELED, ENODEV};
	struct fixture *f = *state;
	struct disk_result result;

	up(f, run_fails);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		f->fake.error = errors[i];
		assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->disk.length, 0);
		assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, UNMAP),
				 VIRTIO_BLK_S_IOERR);
	}
	f->fake.error = 0;
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4096));
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.errors, 6 * ARRAY_SIZE(errors));
	assert_int_equal(result.reads, 1);
	assert_int_equal(result.writes, 0);
	assert_int_equal(result.discarded_bytes, 0);
}

/* What the guest cannot be told, the user is, once: what it was, and what to do. */
static void test_the_first_failure_of_each_kind_is_told(void **state)
{
	static const int errors[] = {EIO, EFBIG, EIO, EFBIG, EIO};
	struct fixture *f = *state;
	FILE *log = tmpfile();
	int real = dup(STDERR_FILENO), lines = 0;
	char text[2048] = "";

	assert_non_null(log);
	up(f, run_fails);
	dup2(fileno(log), STDERR_FILENO);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		f->fake.error = errors[i];
		disk_write(&f->disk, 0, f->data, 512);
		disk_flush(&f->disk);
	}
	dup2(real, STDERR_FILENO);
	close(real);
	assert_true(pread(fileno(log), text, sizeof(text) - 1, 0) > 0);
	fclose(log);
	assert_non_null(strstr(text, "a write failed on the host: Input/output error: see the "));
	assert_non_null(
		strstr(text, "a write failed on the host: File too large: raise the limit"));
	for (const char *at = text; (at = strstr(at, "failed on the host")); at++)
		lines++;
	assert_int_equal(lines, 2);
}

/* A result that makes no sense must not be believed. */
static int64_t run_too_much(struct fake *fake, const struct blk_req *req)
{
	(void)fake;
	return (int64_t)req->length + 512;
}

static void test_more_than_was_asked_for_is_an_error(void **state)
{
	struct fixture *f = *state;

	up(f, run_too_much);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
}

static void test_a_discard_refused_is_unsupported(void **state)
{
	struct fixture *f = *state;

	up(f, run_fails);
	f->fake.error = EOPNOTSUPP;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

/* No device at hand has it: what is asked of one, and what is made of its answers. */
static int64_t run_erases(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_SECURE_ERASE)
		return -fake->error;
	return blk_sync_run(fake->engine.image, req);
}

static void up_erasing(struct fixture *f, uint64_t decline)
{
	up_with(f,
		&(struct disk_options){
			.engine = ENGINE_SYNC, .secure_erase = true, .decline = decline},
		run_erases);
}

static uint8_t erase(struct fixture *f, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	return disk_range(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, sector, sectors, flags);
}

static void test_secure_erase(void **state)
{
	struct fixture *f = *state;
	const struct virtio_blk_config *c;
	struct virtio_blk_discard_write_zeroes two[2] = {{.sector = 9, .num_sectors = 8192},
							 {.sector = SECTORS - 1, .num_sectors = 1}};
	struct disk_result result;

	up_erasing(f, 0);
	f->disk.image->discard_step = 2 * MIB;
	c = (const void *)f->disk.dev->config;
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_SECURE_ERASE));
	assert_int_equal(c->max_secure_erase_sectors, BLK_MAX_RANGE_SECTORS);
	assert_int_equal(c->max_secure_erase_seg, BLK_MAX_RANGES);
	assert_int_equal(c->secure_erase_sector_alignment, f->disk.image->granularity / 512);
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, two, 2), VIRTIO_BLK_S_OK);
	/* In steps, that end at multiples of their size. */
	assert_int_equal(f->fake.submitted, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f->fake.log[i].op, BLK_SECURE_ERASE);
	assert_int_equal(f->fake.log[0].offset, 9 * 512);
	assert_int_equal(f->fake.log[0].length, 2 * MIB - 9 * 512);
	assert_int_equal(f->fake.log[1].length, 2 * MIB);
	assert_int_equal(f->fake.log[2].length, 9 * 512);
	assert_int_equal(f->fake.log[3].offset, SIZE - 512);
	f->fake.error = EIO;
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	f->fake.error = EOPNOTSUPP;
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->fake.submitted, 6);
	/* These are not asked of the device. */
	assert_int_equal(erase(f, 0, 8, UNMAP), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(erase(f, SECTORS - 7, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->fake.submitted, 6);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.secure_erases, 1);
	assert_int_equal(result.errors, 4);
	assert_int_equal(result.discarded_bytes, 0);
}

static void test_secure_erase_is_for_those_who_accepted_it(void **state)
{
	struct fixture *f = *state;

	up_erasing(f, BIT(VIRTIO_BLK_F_SECURE_ERASE));
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->fake.submitted, 0);
}

/* As on a file system that can neither punch holes for zeros nor zero ranges. */
static int64_t run_no_zeroing(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_ZERO_PUNCH || req->op == BLK_ZERO_RANGE)
		return -EOPNOTSUPP;
	return run_short(fake, req);
}

static uint8_t may_unmap(const struct fixture *f)
{
	return f->disk.drv.page[VIRTIO_MMIO_CONFIG +
				offsetof(struct virtio_blk_config, write_zeroes_may_unmap)];
}

static void test_zeros_are_written_as_a_last_resort(void **state)
{
	struct fixture *f = *state;

	up(f, run_no_zeroing);
	assert_int_equal(may_unmap(f), 1);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 3, 5000, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.log[1].op, BLK_ZERO_RANGE);
	assert_int_equal(f->fake.log[2].op, BLK_WRITE);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 3 * 512));
	assert_true(mem_is_zero(f->data + 3 * 512, 5000 * 512));
	assert_true(disk_is_fill(f->data + 5003 * 512, 5003 * 512, MIB));
	/* It is known from now on, to the driver as well. */
	assert_int_equal(may_unmap(f), 0);
	assert_true(drv_read32(&f->disk.drv, VIRTIO_MMIO_INTERRUPT_STATUS) &
		    VIRTIO_MMIO_INT_CONFIG);
	f->fake.submitted = 0;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 3, 1, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 1);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
}

/* The granularity is what the image says, and need not be a power of two. */
static void test_zeros_smaller_than_a_hole_are_written(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, 0, NULL);
	f->disk.image->granularity = 192 * KIB;
	memset(f->data, 0, MIB);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 128 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
	assert_int_equal(disk_write(&f->disk, 256, f->data, 192 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[1].op, BLK_WRITE);
	assert_int_equal(disk_write(&f->disk, 384, f->data, 384 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[2].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.submitted, 3);
}

static void test_zeros_are_written_where_no_hole_can_be(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, 0, run_no_zeroing);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 16384), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4096));
	assert_true(mem_is_zero(f->data + 4096, 8192));
	assert_true(disk_is_fill(f->data + 12288, 12288, 4096));
	/* From now on a write is a write. */
	f->fake.submitted = 0;
	memset(f->data, 0, 512);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
}

static int64_t run_errors_on_punch(struct fake *fake, const struct blk_req *req)
{
	return req->op == BLK_ZERO_PUNCH ? -fake->error : blk_sync_run(fake->engine.image, req);
}

static void test_a_failed_hole_is_a_failed_write(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up_detecting(f, 0, run_errors_on_punch);
	f->fake.error = EIO;
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_IOERR);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.errors, 1);
	assert_int_equal(result.detected_zero_bytes, 0);
}

struct racer {
	volatile uint8_t *data;
	_Atomic bool stop;
};

/* Zeros but for the last byte, or the same value at every 64th byte: never all zeros. The race is
 * meant, so no sanitizer needs to know. */
__attribute__((no_sanitize("thread"))) static void *race(void *arg)
{
	struct racer *racer = arg;

	while (!racer->stop) {
		for (unsigned i = 63; i < 4095; i += 64)
			racer->data[i] = 5;
		for (unsigned i = 63; i < 4095; i += 64)
			racer->data[i] = 0;
	}
	return NULL;
}

/* The guest writes to its buffer while that is looked at: what was never all zeros is no hole. */
static void test_a_racing_guest_loses_no_data(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;
	struct racer racer = {0};
	struct disk_result result;
	pthread_t thread;

	up_detecting(f, 0, NULL);
	buf = (struct drv_buf){f->disk.buffer, 4096, false};
	racer.data = drv_ptr(&f->disk.drv, buf.addr, 4096);
	memset(drv_ptr(&f->disk.drv, buf.addr, 4096), 0, 4096);
	racer.data[4095] = 5;
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 8 * (i % 1000), &buf, 1),
				 VIRTIO_BLK_S_OK);
	racer.stop = true;
	pthread_join(thread, NULL);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.writes, 5000);
	assert_int_equal(result.detected_zero_bytes, 0);
}

static void test_errors_in_bounced_requests(void **state)
{
	struct fixture *f = *state;
	struct drv_buf odd;

	up(f, run_fails);
	/* As with O_DIRECT, without its demands on the file system. */
	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	odd = (struct drv_buf){GPA(f->disk.buffer.v + 1), MIB, true};
	for (unsigned round = 0; round < 3; round++) {
		f->fake.error = EIO;
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, &odd, 1),
					 VIRTIO_BLK_S_IOERR);
		f->fake.error = 0;
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, &odd, 1), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd.addr, odd.len), 0, odd.len));
		f->fake.hold = true;
		for (unsigned i = 0; i < 20; i++)
			assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0, &odd, 1) >= 0);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, BLK_MAX_BOUNCES);
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		drv_start(&f->disk.drv, f->disk.features, 0);
	}
}

static void test_what_is_bounced(void **state)
{
	static const struct {
		uint32_t at[2], len[2];
		bool bounced;
	} cases[] = {
		{{0, 8192}, {4096, 4096}, false},    {{512, 8192 + 512}, {512, 7680}, false},
		{{256, 8192}, {4096, 4096}, true},   {{0, 8192 + 1}, {4096, 4096}, true},
		{{0, 8192}, {4096 + 1, 4095}, true}, {{0, 8192}, {512 + 256, 256}, true},
	};
	struct fixture *f = *state;
	struct drv_buf bufs[2];

	up(f, NULL);
	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned j = 0; j < 2; j++)
			bufs[j] = (struct drv_buf){GPA(f->disk.buffer.v + cases[i].at[j]),
						   cases[i].len[j], true};
		f->fake.submitted = 0;
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, bufs, 2), VIRTIO_BLK_S_OK);
		assert_int_equal(f->fake.submitted, 1);
		assert_int_equal(f->fake.log[0].num_iov, cases[i].bounced ? 1 : 2);
		for (unsigned j = 0; j < 2; j++)
			assert_true(disk_is_fill(drv_ptr(&f->disk.drv, bufs[j].addr, bufs[j].len),
						 j * cases[i].len[0], bufs[j].len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(short_transfers_go_on),
		TEST(transient_errors_are_tried_again),
		TEST(transient_errors_end),
		TEST(errors_reach_the_guest),
		TEST(the_first_failure_of_each_kind_is_told),
		TEST(more_than_was_asked_for_is_an_error),
		TEST(a_discard_refused_is_unsupported),
		TEST(secure_erase),
		TEST(secure_erase_is_for_those_who_accepted_it),
		TEST(zeros_are_written_as_a_last_resort),
		TEST(zeros_smaller_than_a_hole_are_written),
		TEST(zeros_are_written_where_no_hole_can_be),
		TEST(a_failed_hole_is_a_failed_write),
		TEST(a_racing_guest_loses_no_data),
		TEST(errors_in_bounced_requests),
		TEST(what_is_bounced),
	};

	return cmocka_run_group_tests_name("blk_faults", tests, NULL, NULL);
}
