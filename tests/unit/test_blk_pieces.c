// SPDX-License-Identifier: BSD-2-Clause
/* The driver decides how large its requests are, but not how large the host's operations are. */
#include "blk_fake_fixture.h"

#define HUGE_SIZE (4ull * GIB)

/* Takes no time. */
static int64_t run_nothing(struct fake *fake, const struct blk_req *req)
{
	(void)fake;
	return req->op == BLK_READ || req->op == BLK_WRITE ? (int64_t)req->length : 0;
}

/* Almost 2 GiB: the same buffer over and over. */
static uint64_t send_huge(struct fixture *f, uint32_t type)
{
	struct drv_buf bufs[254];

	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++)
		bufs[i] = (struct drv_buf){f->disk.buffer, DISK_BUFFER, type == VIRTIO_BLK_T_IN};
	assert_true(disk_send(&f->disk, 0, type, 0, bufs, ARRAY_SIZE(bufs)) >= 0);
	return ARRAY_SIZE(bufs) * DISK_BUFFER;
}

static void up_huge(struct fixture *f)
{
	assert_int_equal(truncate(f->path, (off_t)HUGE_SIZE), 0);
	up(f, run_nothing);
}

static void test_huge_requests_go_in_pieces(void **state)
{
	struct fixture *f = *state;

	up_huge(f);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_SIZE_MAX));
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = 0, size = send_huge(f, i ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);

		f->fake.submitted = 0;
		disk_kick(&f->disk, 0);
		reap_ok(f, 1);
		assert_true(f->fake.submitted <= size / BLK_PIECE);
		for (unsigned n = 0; n < f->fake.submitted; n++) {
			const struct seen *s = &f->fake.log[n];

			assert_int_equal(s->op, i ? BLK_READ : BLK_WRITE);
			assert_int_equal(s->offset, at);
			assert_in_range(s->length, 1, BLK_PIECE);
			at += s->length;
		}
		assert_int_equal(at, size);
	}
}

static void test_bytes_in_flight_are_bounded(void **state)
{
	struct fixture *f = *state;
	uint64_t bytes = 0, done = 0;

	up_huge(f);
	f->fake.hold = true;
	for (unsigned i = 0; i < 100; i++)
		send_huge(f, i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, BLK_IN_FLIGHT / BLK_PIECE);
	usleep(1000);
	for (unsigned n = 0; n < f->fake.submitted; n++)
		bytes += f->fake.log[n].length;
	assert_in_range(bytes, BLK_IN_FLIGHT, BLK_IN_FLIGHT + BLK_PIECE - 1);
	/* Reset cancels them, and begins no more. */
	done = f->fake.submitted;
	drv_reset(&f->disk.drv);
	assert_int_equal(f->fake.submitted, done);
	assert_int_equal(f->fake.carried_out, 0);
	f->fake.hold = false;
	drv_start(&f->disk.drv, f->disk.features, 0);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
}

/* Small ones all are at work at once, as before. */
static void test_small_requests_do_not_wait(void **state)
{
	struct fixture *f = *state;

	up(f, NULL);
	f->fake.hold = true;
	for (unsigned i = 0; i < 100; i++)
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 8 * i,
				      &(struct drv_buf){f->disk.buffer, 4096, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, 100);
	let_go(f);
	reap_ok(f, 100);
}

/* Buffers of any length, also those that end within a sector or a piece. */
static void test_pieces_of_odd_buffers(void **state)
{
	static const uint32_t lens[] = {1, 3 * MIB - 1, 2 * MIB, 511, 513, MIB + 7, MIB - 7};
	struct fixture *f = *state;
	struct drv_buf bufs[ARRAY_SIZE(lens)];
	uint64_t at = 0;

	up(f, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(lens); at += lens[i++])
		bufs[i] = (struct drv_buf){GPA(f->disk.buffer.v + at), lens[i], true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 3, bufs, ARRAY_SIZE(bufs)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, at + 1);
	assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, at), 3 * 512, at));
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		bufs[i].write = false;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 20000, bufs, ARRAY_SIZE(bufs)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 20000, f->data, (uint32_t)at), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 3 * 512, at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(huge_requests_go_in_pieces),
		TEST(bytes_in_flight_are_bounded),
		TEST(small_requests_do_not_wait),
		TEST(pieces_of_odd_buffers),
	};

	return cmocka_run_group_tests_name("blk_pieces", tests, NULL, NULL);
}
