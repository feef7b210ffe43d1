// SPDX-License-Identifier: BSD-2-Clause
/* werror=enospc-pause: writes wait for space. */
#include "blk_fake_fixture.h"

static int64_t run_full(struct fake *fake, const struct blk_req *req)
{
	bool allocates = req->op == BLK_WRITE || req->op == BLK_ZERO_RANGE;

	return allocates && fake->error ? -fake->error : run_short(fake, req);
}

static void up_waiting(struct fixture *f)
{
	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true}, run_full);
}

static void expect_pauses(struct fixture *f, uint64_t n)
{
	uint64_t end = patience_end();
	struct disk_result result;

	do {
		blk_device_result(f->disk.dev, &result);
		assert_true(now_ns() < end);
	} while (result.space_pauses < n);
	assert_int_equal(result.space_pauses, n);
	assert_int_equal(result.errors, 0);
}

/* All that write wait, in whatever way they go: straight, by bounce buffer, as ranges. */
static void send_writes(struct fixture *f)
{
	uint64_t b = f->disk.buffer.v;

	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	memset(drv_ptr(&f->disk.drv, GPA(b + MIB), 8193), 0x33, 8193);
	for (unsigned i = 0; i < 6; i++) {
		struct drv_buf straight = {GPA(b + MIB), 8192, false};
		struct drv_buf odd = {GPA(b + MIB + 1), 8192, false};

		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 1024 + 32 * i, &straight, 1) >=
			    0);
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 1024 + 32 * i + 16, &odd, 1) >=
			    0);
		send_range(&f->disk, i, VIRTIO_BLK_T_WRITE_ZEROES, 2048 + 16 * i, 16);
	}
	disk_kick(&f->disk, 0);
}

static void test_writes_wait_for_space(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up_waiting(f);
	for (unsigned round = 1; round <= 3; round++) {
		f->fake.error = round == 2 ? EDQUOT : ENOSPC;
		send_writes(f);
		expect_pauses(f, round);
		/* Reads go on, and discards, though ranges wait. The buffer is that of the writes.
		 */
		send_range(&f->disk, 100, VIRTIO_BLK_T_DISCARD, 4096, 2048);
		assert_true(
			disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
				  &(struct drv_buf){GPA(f->disk.buffer.v + 4 * MIB), 4096, true},
				  1) >= 0);
		disk_kick(&f->disk, 0);
		reap_ok(f, 2);
		assert_true(disk_is_fill(
			drv_ptr(&f->disk.drv, GPA(f->disk.buffer.v + 4 * MIB), 4096), 0, 4096));
		assert_false(drv_used(&f->disk.drv.queue[0], NULL, NULL));
		f->fake.error = 0;
		reap_ok(f, 18);
		blk_device_result(f->disk.dev, &result);
		assert_int_equal(result.writes, 12 * round);
		assert_int_equal(result.write_zeroes, 6 * round);
		assert_int_equal(result.errors, 0);
	}
	assert_int_equal(disk_read(&f->disk, 1024, f->data, 6 * 32 * 512), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 6 * 32 * 512; i++)
		assert_int_equal(f->data[i], 0x33);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 6 * 8192), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 6 * 8192));
}

static int64_t run_half_full(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_WRITE && req->offset >= 2 * MIB && fake->error)
		return -ENOSPC;
	if (req->op == BLK_WRITE && req->offset < 2 * MIB && fake->error) {
		struct blk_req part = *req;
		struct iovec iov = {req->iov->iov_base, 2 * MIB - req->offset};

		part.iov = &iov;
		part.num_iov = 1;
		return blk_sync_run(fake->engine.image, &part);
	}
	return blk_sync_run(fake->engine.image, req);
}

/* It goes on where it stopped. */
static void test_half_a_write_waits(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true},
		run_half_full);
	f->fake.error = 1;
	buf = (struct drv_buf){f->disk.buffer, 2 * MIB, false};
	memset(drv_ptr(&f->disk.drv, buf.addr, buf.len), 0x44, buf.len);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 2048, &buf, 1) >= 0);
	disk_kick(&f->disk, 0);
	expect_pauses(f, 1);
	f->fake.error = 0;
	reap_ok(f, 1);
	assert_int_equal(f->fake.log[1].offset, 2 * MIB);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 2 * MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 2 * MIB; i++)
		assert_int_equal(f->data[i], 0x44);
}

static void test_another_error_ends_the_wait(void **state)
{
	struct fixture *f = *state;
	uint8_t status;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true},
		run_fails);
	f->fake.error = ENOSPC;
	/* Neither a read nor a flush waits: see docs/design.md. */
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 0,
			      &(struct drv_buf){f->disk.buffer, 512, false}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.carried_out, 2 + 3);
	f->fake.error = EIO;
	disk_reap(&f->disk, 0, &status, NULL);
	assert_int_equal(status, VIRTIO_BLK_S_IOERR);
}

static void test_reset_while_writes_wait(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	up_waiting(f);
	for (unsigned round = 1; round <= 4; round++) {
		f->fake.error = ENOSPC;
		send_writes(f);
		expect_pauses(f, round);
		if (round % 2) /* some are being tried when the reset comes */
			f->fake.hold = true;
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		f->fake.error = 0;
		n = f->fake.submitted;
		drv_start(&f->disk.drv, f->disk.features, 0);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
		assert_int_equal(f->fake.submitted, n + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_wait_for_space),
		TEST(half_a_write_waits),
		TEST(another_error_ends_the_wait),
		TEST(reset_while_writes_wait),
	};

	return cmocka_run_group_tests_name("blk_waits", tests, NULL, NULL);
}
