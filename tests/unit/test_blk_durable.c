// SPDX-License-Identifier: BSD-2-Clause
/* When a write is durable: the cache modes, with and without FLUSH and CONFIG_WCE; and what is told
 * when the host cannot keep it. */
#include "blk_fake_fixture.h"

/* Virtio 1.3, section 5.2.6.2: without FLUSH, a write that is done is stable. */
static void test_without_flush_writes_are_durable(void **state)
{
	struct fixture *f = *state;

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC, .decline = BIT(VIRTIO_BLK_F_FLUSH)},
		NULL);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
	assert_int_equal(f->fake.log[1].op, BLK_FLUSH);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[2].op, BLK_ZERO_RANGE);
	assert_int_equal(f->fake.log[3].op, BLK_FLUSH);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 5);
	assert_int_equal(f->disk.length, 1);
}

static void test_with_flush_they_are_not(void **state)
{
	struct fixture *f = *state;

	up(f, NULL);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 2);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[2].op, BLK_FLUSH);
}

static void test_a_hole_for_zeros_is_durable_like_a_write(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, BIT(VIRTIO_BLK_F_FLUSH), NULL);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 2);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.log[0].offset, 4096);
	assert_int_equal(f->fake.log[0].length, 8192);
	assert_int_equal(f->fake.log[1].op, BLK_FLUSH);
}

static unsigned shown_wce(struct fixture *f)
{
	return f->disk.drv.page[VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce)];
}

static void write_wce(struct fixture *f, uint8_t value)
{
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &value, 1);
}

static bool next_write_is_durable(struct fixture *f)
{
	unsigned n = f->fake.submitted;

	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[n].op, BLK_WRITE);
	if (f->fake.submitted == n + 1)
		return false;
	assert_int_equal(f->fake.submitted, n + 2);
	assert_int_equal(f->fake.log[n + 1].op, BLK_FLUSH);
	return true;
}

static void expect_cache_mode(struct fixture *f, enum disk_cache cache)
{
	bool through = cache == CACHE_WRITETHROUGH, unsafe = cache == CACHE_UNSAFE;
	unsigned n;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .cache = cache}, NULL);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_CONFIG_WCE));
	assert_int_equal(shown_wce(f), !through);
	assert_int_equal(next_write_is_durable(f), through);
	write_wce(f, 0);
	assert_int_equal(shown_wce(f), 0);
	assert_int_equal(next_write_is_durable(f), !unsafe);
	write_wce(f, 1);
	assert_int_equal(shown_wce(f), 1);
	assert_false(next_write_is_durable(f));
	n = f->fake.submitted;
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, n + !unsafe);
	/* Reset forgets what the driver wrote. */
	write_wce(f, through);
	disk_restart(&f->disk);
	assert_int_equal(shown_wce(f), !through);
	assert_int_equal(next_write_is_durable(f), through);
}

static void test_writeback(void **state)
{
	expect_cache_mode(*state, CACHE_WRITEBACK);
}

static void test_writethrough(void **state)
{
	expect_cache_mode(*state, CACHE_WRITETHROUGH);
}

static void test_unsafe(void **state)
{
	expect_cache_mode(*state, CACHE_UNSAFE);
}

/* The features that the field depends on (virtio 1.3, section 5.2.5). */
static void test_the_cache_mode_as_negotiated(void **state)
{
	struct fixture *f = *state;
	uint32_t all = 0;

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC,
				       .decline = BIT(VIRTIO_BLK_F_CONFIG_WCE)},
		NULL);
	write_wce(f, 0);
	assert_int_equal(shown_wce(f), 1);
	assert_false(next_write_is_durable(f));
	disk_close(&f->disk);

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC, .decline = BIT(VIRTIO_BLK_F_FLUSH)},
		NULL);
	assert_int_equal(shown_wce(f), 0);
	write_wce(f, 1);
	assert_int_equal(shown_wce(f), 0);
	assert_true(next_write_is_durable(f));
	drv_reset(&f->disk.drv);
	assert_int_equal(shown_wce(f), 1);
	/* It is so as soon as the features are accepted. */
	assert_true(drv_negotiate(&f->disk.drv,
				  BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_F_VERSION_1)));
	assert_int_equal(shown_wce(f), 0);
	disk_close(&f->disk);

	/* Nothing else can be written. */
	up(f, NULL);
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG, &all, 4);
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &all, 2);
	assert_int_equal(shown_wce(f), 1);
	assert_int_equal(drv_page32(&f->disk.drv, VIRTIO_MMIO_CONFIG), SECTORS);
}

static int64_t run_loses(struct fake *fake, const struct blk_req *req)
{
	return req->op == BLK_FLUSH && fake->error ? -fake->error
						   : blk_sync_run(fake->engine.image, req);
}

static void write_through(struct fixture *f)
{
	up_with(f,
		&(struct disk_options){
			.engine = ENGINE_SYNC, .cache = CACHE_WRITETHROUGH, .detect_zeroes = true},
		run_loses);
}

/* The kernel tells it once. */
static void test_after_a_failed_sync_nothing_is_stable(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	write_through(f);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	f->fake.error = EIO;
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	f->fake.error = 0;
	n = f->fake.submitted;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->fake.submitted, n);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0),
			 VIRTIO_BLK_S_IOERR);
	/* What promises nothing goes on. */
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	write_wce(f, 1);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
	disk_restart(&f->disk);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
}

/* One sync speaks for all that came before it began, and for none that came later. */
static void expect_shared_sync(struct fixture *f, int error)
{
	unsigned n = f->fake.submitted;

	f->fake.error = error;
	f->fake.hold = true;
	for (unsigned i = 0; i < 20; i++) {
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0) >= 0);
		if (i % 10 != 0)
			continue;
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, n + 1);
	}
	disk_kick(&f->disk, 0);
	/* The first one's sync does not speak for those after it. */
	usleep(1000);
	assert_int_equal(f->fake.submitted, n + 1);
	let_go(f);
	for (unsigned i = 0; i < 20; i++) {
		uint8_t status;

		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, error ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	}
	if (error)
		assert_int_equal(f->fake.submitted, n + 1);
	else
		assert_in_range(f->fake.submitted, n + 2, n + 3);
}

static void test_concurrent_syncs_share_one_result(void **state)
{
	struct fixture *f = *state;

	up(f, run_loses);
	expect_shared_sync(f, 0);
	expect_shared_sync(f, EIO);
}

/* What reset cancels was neither done nor lost. */
static void test_reset_cancels_a_sync(void **state)
{
	struct fixture *f = *state;

	up(f, run_loses);
	for (unsigned round = 0; round < 3; round++) {
		unsigned n = f->fake.submitted;

		f->fake.hold = true;
		for (unsigned i = 0; i < 5; i++)
			assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0) >= 0);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, n + 1);
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		drv_start(&f->disk.drv, f->disk.features, 0);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
		assert_int_equal(f->fake.submitted, n + 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_flush_writes_are_durable),
		TEST(with_flush_they_are_not),
		TEST(a_hole_for_zeros_is_durable_like_a_write),
		TEST(writeback),
		TEST(writethrough),
		TEST(unsafe),
		TEST(the_cache_mode_as_negotiated),
		TEST(after_a_failed_sync_nothing_is_stable),
		TEST(concurrent_syncs_share_one_result),
		TEST(reset_cancels_a_sync),
	};

	return cmocka_run_group_tests_name("blk_durable", tests, NULL, NULL);
}
