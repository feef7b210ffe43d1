// SPDX-License-Identifier: BSD-2-Clause
/*
 * Storage that takes writes into the page cache and cannot keep them: a loop device over a tmpfs
 * that is full. The kernel tells it once, to whoever syncs first.
 */
#include "host_fixture.h"

#define WRITES 160u /* a queue */

/* Queues share the one file that the kernel tells its error to. */
static void up_on_full(struct fixture *f, uint64_t decline)
{
	struct disk_options o = f->options;
	char path[64];

	assert_int_equal(mount("tmpfs", mount_point, "tmpfs", 0, "size=1m"), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 16M %s", path), 0);
	assert_int_not_equal(run("dd if=/dev/zero of=%s/fill bs=4k 2>/dev/null", mount_point), 0);
	f->loop_fd = attach(path, 0, 0, f->device);
	f->options.queues = 2;
	f->options.decline = decline;
	up_on(f, f->device);
	f->options = o;
}

static void make_room(void)
{
	assert_int_equal(mount("tmpfs", mount_point, "tmpfs", MS_REMOUNT, "size=64m"), 0);
}

static void down_on_full(struct fixture *f)
{
	down(f);
	close(f->loop_fd);
	f->loop_fd = -1;
	unmount();
}

static uint8_t one(struct fixture *f, unsigned q, uint32_t type, uint64_t sector, unsigned len)
{
	struct drv_buf buf = {f->disk.buffer, len, false};
	uint8_t status;

	assert_true(disk_send(&f->disk, q, type, sector, &buf, len ? 1 : 0) >= 0);
	disk_kick(&f->disk, q);
	disk_reap(&f->disk, q, &status, NULL);
	return status;
}

static void test_a_lost_write_fails_every_flush(void **state)
{
	struct fixture *f = *state;

	up_on_full(f, 0);
	memset(drv_ptr(&f->disk.drv, f->disk.buffer, 65536), 0xaa, 65536);
	for (unsigned q = 0; q < 2; q++)
		assert_int_equal(one(f, q, VIRTIO_BLK_T_OUT, 8192 * q, 65536), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(one(f, i % 2, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	/* Room for what comes brings nothing back. */
	make_room();
	assert_int_equal(one(f, 0, VIRTIO_BLK_T_OUT, 0, 65536), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(one(f, i % 2, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	/* A driver that starts anew has been told nothing. */
	disk_restart(&f->disk);
	for (unsigned q = 0; q < 2; q++) {
		assert_int_equal(one(f, q, VIRTIO_BLK_T_OUT, 8192 * q, 65536), VIRTIO_BLK_S_OK);
		assert_int_equal(one(f, q, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	}
	down_on_full(f);
}

static void test_no_lost_write_through_is_ok(void **state)
{
	struct fixture *f = *state;
	unsigned ok = 0;

	up_on_full(f, BIT(VIRTIO_BLK_F_FLUSH));
	memset(drv_ptr(&f->disk.drv, f->disk.buffer, 4096), 0xaa, 4096);
	for (unsigned i = 0; i < WRITES; i++)
		for (unsigned q = 0; q < 2; q++)
			assert_true(disk_send(&f->disk, q, VIRTIO_BLK_T_OUT, 8 * (2 * i + q),
					      &(struct drv_buf){f->disk.buffer, 4096, false},
					      1) >= 0);
	for (unsigned q = 0; q < 2; q++)
		disk_kick(&f->disk, q);
	for (unsigned i = 0; i < 2 * WRITES; i++) {
		uint8_t status;

		disk_reap(&f->disk, i % 2, &status, NULL);
		ok += status == VIRTIO_BLK_S_OK;
	}
	assert_int_equal(ok, 0);
	down_on_full(f);
}

#define TEST(name) NAMED(uring, name), NAMED(sync, name)

int main(void)
{
	static struct fixture uring = {.options = {.engine = ENGINE_URING}};
	static struct fixture sync = {.options = {.engine = ENGINE_SYNC}};
	const struct CMUnitTest tests[] = {
		TEST(a_lost_write_fails_every_flush),
		TEST(no_lost_write_through_is_ok),
	};

	return host_tests("blk_lost", tests);
}
