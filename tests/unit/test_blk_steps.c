// SPDX-License-Identifier: BSD-2-Clause
/* Large ranges go in steps, and not all at once. */
#include "blk_fake_fixture.h"

static void test_a_large_discard_goes_in_steps(void **state)
{
	struct fixture *f = *state;
	uint64_t step, at = 3 * 512, end = SIZE - 512;

	up(f, NULL);
	step = f->disk.image->discard_step = 4 * MIB;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 3, SECTORS - 4, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(f->fake.submitted, SIZE / step, SIZE / step + 1);
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		const struct seen *s = &f->fake.log[i];

		assert_int_equal(s->op, BLK_DISCARD);
		assert_int_equal(s->offset, at);
		assert_true(s->length <= step);
		at += s->length;
		assert_true(at % step == 0 || at == end);
	}
	assert_int_equal(at, end);
}

/* After a read steps are short, so that the next one does not wait long; when none comes they are
 * as long as before. */
static void test_steps_are_short_while_the_guest_reads(void **state)
{
	struct fixture *f = *state;
	unsigned shorts = 0, first = 0, last = 0, steps = 0;
	uint64_t at = 0;

	up(f, NULL);
	f->disk.image->discard_step = 2 * BLK_SHORT_STEP;
	f->fake.hold = true;
	for (unsigned i = 0; i < 4; i++)
		send_range(&f->disk, i, VIRTIO_BLK_T_DISCARD, 0, SECTORS);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
			      &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	let_go(f);
	reap_ok(f, 5);
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		const struct seen *s = &f->fake.log[i];

		if (s->op != BLK_DISCARD)
			continue;
		at += s->length;
		if (s->length == BLK_SHORT_STEP && !shorts++)
			first = steps;
		if (s->length == BLK_SHORT_STEP)
			last = steps;
		steps++;
	}
	assert_int_equal(at, 4 * SIZE);
	/* Those that had begun before the read, or before it was done, are long. */
	assert_in_range(first, BLK_MAX_RANGES_AT_WORK, 2 * BLK_MAX_RANGES_AT_WORK);
	assert_in_range(shorts, BLK_SHORT_STEPS, BLK_SHORT_STEPS + 8);
	assert_true(last < steps - 1);
}

static void test_only_some_ranges_are_at_work_at_once(void **state)
{
	struct fixture *f = *state;
	unsigned reads = 0, last_discard = 0, read_at = 0;

	up(f, NULL);
	f->disk.image->discard_step = MIB;
	f->fake.hold = true;
	for (unsigned i = 0; i < 20; i++)
		send_range(&f->disk, i, i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0,
			   SECTORS / 2);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
			      &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	usleep(20000);
	assert_int_equal(f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	let_go(f);
	reap_ok(f, 21);
	/* A read that came after them all did not wait for them all. */
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		if (f->fake.log[i].op == BLK_READ) {
			reads++;
			read_at = i;
		} else {
			last_discard = i;
		}
	}
	assert_int_equal(reads, 1);
	assert_int_equal(read_at, BLK_MAX_RANGES_AT_WORK);
	assert_true(last_discard >= 20 * (SIZE / 2 / MIB));
}

/* Discards that wait go together when they touch, as far as a step goes. */
static void test_discards_that_touch_go_together(void **state)
{
	static const struct seen together[] = {
		{BLK_DISCARD, 0, 512, 0},	    {BLK_DISCARD, 1024, 512, 0},
		{BLK_DISCARD, MIB, 3 * MIB, 0}, /* up to a multiple of the step */
		{BLK_DISCARD, 4 * MIB, 2 * MIB, 0}, {BLK_ZERO_RANGE, 6 * MIB, MIB, 0},
		{BLK_DISCARD, 7 * MIB, 512, 0},
	};
	struct fixture *f = *state;

	up(f, run_fails);
	f->disk.image->discard_step = 4 * MIB;
	for (unsigned round = 0; round < 2; round++) {
		f->fake.submitted = 0;
		f->fake.error = 0;
		f->fake.hold = true;
		send_range(&f->disk, 0, VIRTIO_BLK_T_DISCARD, 0, 1);
		send_range(&f->disk, 1, VIRTIO_BLK_T_DISCARD, 2, 1);
		for (unsigned i = 0; i < 5; i++)
			send_range(&f->disk, 2 + i, VIRTIO_BLK_T_DISCARD, 2048 + i * 2048, 2048);
		send_range(&f->disk, 7, VIRTIO_BLK_T_WRITE_ZEROES, 6 * 2048, 2048);
		send_range(&f->disk, 8, VIRTIO_BLK_T_DISCARD, 7 * 2048, 1);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, 2);
		if (round == 0) {
			let_go(f);
			reap_ok(f, 9);
			assert_int_equal(f->fake.submitted, ARRAY_SIZE(together));
			for (size_t i = 0; i < ARRAY_SIZE(together); i++) {
				assert_int_equal(f->fake.log[i].op, together[i].op);
				assert_int_equal(f->fake.log[i].offset, together[i].offset);
				assert_int_equal(f->fake.log[i].length, together[i].length);
			}
			continue;
		}
		/* They fail together, too. */
		f->fake.error = EIO;
		let_go(f);
		for (unsigned i = 0; i < 9; i++) {
			uint8_t status;

			disk_reap(&f->disk, 0, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_IOERR);
		}
	}
}

static void test_reset_cancels_what_is_left_of_discards(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;
	unsigned n;

	up(f, NULL);
	f->disk.image->discard_step = MIB;
	for (unsigned round = 0; round < 3; round++) {
		/* The rounds after the first follow a read. */
		unsigned at_work = round ? 1 : BLK_MAX_RANGES_AT_WORK;

		f->fake.hold = true;
		n = f->fake.submitted;
		for (unsigned i = 0; i < 50; i++)
			send_range(&f->disk, i, VIRTIO_BLK_T_DISCARD, SECTORS / 2, SECTORS / 2);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, n + at_work);
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		assert_int_equal(f->fake.submitted, n + at_work);
		/* What was cancelled is no error. */
		blk_device_result(f->disk.dev, &result);
		assert_int_equal(result.errors, 0);
		drv_start(&f->disk.drv, f->disk.features, 0);
		assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(f->data, 0, 4096));
		assert_int_equal(f->fake.submitted, n + at_work + 1);
	}
}

static int64_t run_no_zeroing(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_ZERO_PUNCH || req->op == BLK_ZERO_RANGE)
		return -EOPNOTSUPP;
	return blk_sync_run(fake->engine.image, req);
}

static void up_limited(struct fixture *f,
		       int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC,
				       .limits = {.bytes_per_s = 1000, .burst_ns = 1}},
		script);
}

/* Until the limits change; then they end. */
static void expect_one_step(struct fixture *f, enum blk_op op, unsigned before)
{
	wait_for(&f->fake.submitted, before + 1);
	usleep(10000);
	assert_int_equal(f->fake.submitted, before + 1);
	assert_int_equal(f->fake.log[before].op, op);
	blk_device_set_limits(f->disk.dev, &(struct rate_limits){0});
	reap_ok(f, 1);
	assert_true(f->fake.submitted > before + 1);
}

/* Zeros that the host writes are bytes like all others: one step of them is a quarter of an hour's.
 */
static void test_limits_count_zeros_that_are_written(void **state)
{
	struct fixture *f = *state;

	up_limited(f, run_no_zeroing);
	send_range(&f->disk, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, SECTORS);
	disk_kick(&f->disk, 0);
	/* After the one that is refused. */
	wait_for(&f->fake.submitted, 1);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_RANGE);
	expect_one_step(f, BLK_WRITE, 1);
}

static void test_limits_count_discards(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct fixture *f = *state;

	up_limited(f, NULL);
	f->disk.image->discard_step = MIB;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		unsigned n = f->fake.submitted;

		blk_device_set_limits(f->disk.dev, &(struct rate_limits){1000, 0, 1});
		send_range(&f->disk, 0, types[i], 0, SECTORS);
		disk_kick(&f->disk, 0);
		expect_one_step(f, i ? BLK_ZERO_RANGE : BLK_DISCARD, n);
	}
	/* A reset does not wait for its turn. */
	blk_device_set_limits(f->disk.dev, &(struct rate_limits){1000, 0, 1});
	send_range(&f->disk, 0, VIRTIO_BLK_T_DISCARD, 0, SECTORS);
	disk_kick(&f->disk, 0);
	disk_restart(&f->disk);
	/* Reads do not wait for what discards have to. */
	send_range(&f->disk, 0, VIRTIO_BLK_T_DISCARD, 0, SECTORS);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
			      &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	reap_ok(f, 1);
	assert_int_equal(f->disk.drv.queue[0].last_used, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_large_discard_goes_in_steps),
		TEST(steps_are_short_while_the_guest_reads),
		TEST(only_some_ranges_are_at_work_at_once),
		TEST(discards_that_touch_go_together),
		TEST(reset_cancels_what_is_left_of_discards),
		TEST(limits_count_zeros_that_are_written),
		TEST(limits_count_discards),
	};

	return cmocka_run_group_tests_name("blk_steps", tests, NULL, NULL);
}
