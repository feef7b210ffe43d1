// SPDX-License-Identifier: BSD-2-Clause
/* When a write is durable: the cache modes, with and without FLUSH and CONFIG_WCE. */
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
	assert_true(f->fake.log[0].durable);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[1].op, BLK_ZERO_RANGE);
	assert_int_equal(f->fake.log[2].op, BLK_FLUSH);
	assert_int_equal(f->fake.submitted, 3);
	assert_int_equal(f->disk.length, 1);
}

static void test_with_flush_they_are_not(void **state)
{
	struct fixture *f = *state;

	up(f, NULL);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_false(f->fake.log[0].durable);
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
	assert_int_equal(f->fake.submitted, n + 1);
	return f->fake.log[n].durable;
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
	};

	return cmocka_run_group_tests_name("blk_durable", tests, NULL, NULL);
}
