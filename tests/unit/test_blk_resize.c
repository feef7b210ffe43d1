// SPDX-License-Identifier: BSD-2-Clause
/* A disk that grows while the driver uses it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (4 * MIB)
#include "disk_fixture.h"

struct fixture {
	char *path;
	struct disk disk;
	uint8_t *data;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->path = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	disk_fill(f->path, 0, SIZE);
	*state = f;
	return 0;
}

static void up(struct fixture *f, const struct disk_options *options)
{
	disk_up(&f->disk, f->path, options);
	drv_irqs(&f->disk.drv);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->disk.dev)
		disk_close(&f->disk);
	unlink(f->path);
	free(f->path);
	free(f->data);
	free(f);
	return 0;
}

/* As the guest reads it: from the page. */
static uint64_t capacity(const struct disk *d)
{
	struct drv *drv = (struct drv *)(uintptr_t)&d->drv;

	return drv_page32(drv, VIRTIO_MMIO_CONFIG) |
	       (uint64_t)drv_page32(drv, VIRTIO_MMIO_CONFIG + 4) << 32;
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void expect_refused(struct disk *d, uint64_t size, int code, const char *why)
{
	uint64_t before = capacity(d);
	struct error e = {""};

	assert_int_equal(blk_device_resize(d->dev, size, &e), code);
	if (!strstr(e.msg, why))
		fail_msg("%s", e.msg);
	assert_int_equal(capacity(d), before);
	assert_int_equal(blk_device_size(d->dev), before * BLK_SECTOR);
	assert_int_equal(drv_irqs(&d->drv), 0);
}

static void grows(void **state, enum disk_engine engine)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	uint32_t generation;

	up(f, &(struct disk_options){.engine = engine});
	assert_int_equal(capacity(d), SECTORS);
	assert_int_equal(disk_write(d, SECTORS, f->data, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_write(d, SECTORS - 4, f->data, 4096), VIRTIO_BLK_S_IOERR);
	drv_irqs(&d->drv);
	drv_write32(&d->drv, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
	generation = drv_page32(&d->drv, VIRTIO_MMIO_CONFIG_GENERATION);

	assert_int_equal(blk_device_resize(d->dev, SIZE + 8 * GIB, NULL), SIZE + 8 * GIB);
	assert_int_equal(drv_irqs(&d->drv), 1);
	assert_int_equal(drv_page32(&d->drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_not_equal(drv_page32(&d->drv, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(capacity(d), SECTORS + 8 * GIB / BLK_SECTOR);
	assert_int_equal(blk_device_size(d->dev), SIZE + 8 * GIB);
	assert_int_equal(size_of(f->path), SIZE + 8 * GIB);

	/* The old data is there, the new end is zeros, can be written, and has an end itself. */
	assert_int_equal(disk_read(d, 0, f->data, SIZE), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, SIZE));
	assert_int_equal(disk_read(d, SECTORS, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 65536));
	memset(f->data, 0x5a, 4096);
	assert_int_equal(disk_write(d, SECTORS + 8 * GIB / BLK_SECTOR - 8, f->data, 4096),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(d, SECTORS + 8 * GIB / BLK_SECTOR - 7, f->data, 4096),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_range(d, VIRTIO_BLK_T_DISCARD, SECTORS, 8, 0), VIRTIO_BLK_S_OK);

	/* The same size once more is no news, and a reset forgets nothing. */
	drv_irqs(&d->drv);
	assert_int_equal(blk_device_resize(d->dev, SIZE + 8 * GIB, NULL), SIZE + 8 * GIB);
	assert_int_equal(drv_irqs(&d->drv), 0);
	disk_restart(d);
	assert_int_equal(capacity(d), SECTORS + 8 * GIB / BLK_SECTOR);
}

static void test_sync_grows(void **state)
{
	grows(state, ENGINE_SYNC);
}

static void test_uring_grows(void **state)
{
	struct loop *loop = NULL;
	struct error e;

	if (loop_new(&loop, "probe", LOOP_URING, 8, &e) < 0) {
		print_message("# %s\n", e.msg);
		skip();
	}
	loop_free(loop);
	grows(state, ENGINE_URING);
}

static void test_before_the_driver_is_there(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(disk_open(&f->disk, f->path, &(struct disk_options){0}, NULL), 0);
	assert_int_equal(blk_device_resize(f->disk.dev, 2 * SIZE, NULL), 2 * SIZE);
	assert_int_equal(drv_irqs(&f->disk.drv), 0);
	assert_int_equal(capacity(&f->disk), 2 * SECTORS);
}

/* Linux reads the capacity some time before it sets DRIVER_OK. */
static void test_after_the_driver_read_the_capacity(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;

	up(f, &(struct disk_options){0});
	assert_true(drv_negotiate(&d->drv, drv_device_features(&d->drv)));
	assert_int_equal(capacity(d), SECTORS);
	assert_int_equal(blk_device_resize(d->dev, 2 * SIZE, NULL), 2 * SIZE);
	drv_queue_setup(&d->drv, 0, 0);
	assert_int_equal(drv_irqs(&d->drv), 0);
	drv_driver_ok(&d->drv);
	assert_int_equal(drv_irqs(&d->drv), 1);
	assert_int_equal(drv_page32(&d->drv, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(capacity(d), 2 * SECTORS);
}

/* Without a size it is the file's own; nothing is cut off that is there already. */
static void test_what_the_file_has(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;

	up(f, &(struct disk_options){0});
	assert_int_equal(blk_device_resize(d->dev, 0, NULL), SIZE);
	assert_int_equal(drv_irqs(&d->drv), 0);
	assert_int_equal(truncate(f->path, 3 * SIZE), 0);
	assert_int_equal(blk_device_resize(d->dev, 2 * SIZE, NULL), 2 * SIZE);
	assert_int_equal(size_of(f->path), 3 * SIZE);
	assert_int_equal(blk_device_resize(d->dev, 0, NULL), 3 * SIZE);
	assert_int_equal(capacity(d), 3 * SECTORS);
	drv_irqs(&d->drv);
	assert_int_equal(truncate(f->path, 3 * SIZE + 100), 0);
	expect_refused(d, 0, -EINVAL, "not a multiple of its block of 512");
	assert_int_equal(truncate(f->path, SIZE), 0);
	expect_refused(d, 0, -EINVAL, "cannot shrink");
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;

	up(f, &(struct disk_options){0});
	expect_refused(d, SIZE - BLK_SECTOR, -EINVAL, "cannot shrink");
	expect_refused(d, 1, -EINVAL, "cannot shrink");
	expect_refused(d, SIZE + 1, -EINVAL, "not a multiple of its block of 512");
	expect_refused(d, 1ull << 63, -EFBIG, "no files of 9223372036854775808 bytes");
	expect_refused(d, UINT64_MAX - 511, -EFBIG, "no files of");
	assert_int_equal(size_of(f->path), SIZE);
}

static void test_a_limit_on_files(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, limit;

	up(f, &(struct disk_options){0});
	signal(SIGXFSZ, SIG_IGN); /* as in a VM */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){2 * SIZE, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_refused(&f->disk, 3 * SIZE, -EFBIG, "no files of");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;

	up(f, &(struct disk_options){.readonly = true});
	expect_refused(&f->disk, 2 * SIZE, -EROFS, "read-only");
	assert_int_equal(truncate(f->path, 2 * SIZE), 0);
	assert_int_equal(blk_device_resize(f->disk.dev, 0, NULL), 2 * SIZE);
	assert_int_equal(capacity(&f->disk), 2 * SECTORS);
	assert_int_equal(drv_irqs(&f->disk.drv), 1);
}

static void test_ephemeral(void **state)
{
	struct fixture *f = *state;

	up(f, &(struct disk_options){.ephemeral = true});
	expect_refused(&f->disk, 2 * SIZE, -ENOTSUP, "ephemeral");
	expect_refused(&f->disk, 0, -ENOTSUP, "ephemeral");
}

struct grower {
	struct virtio_dev *dev;
	_Atomic bool done;
};

static void *grow_on(void *arg)
{
	struct grower *g = arg;

	for (uint64_t size = SIZE; size <= 2 * SIZE; size += 4096)
		if (blk_device_resize(g->dev, size, NULL) != (int64_t)size)
			abort();
	atomic_store(&g->done, true);
	return NULL;
}

/* What the driver sees of the capacity works, at every moment, in all queues. */
static void test_while_it_is_used(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct grower g;
	pthread_t thread;

	up(f, &(struct disk_options){.queues = 2});
	g = (struct grower){.dev = d->dev};
	assert_int_equal(pthread_create(&thread, NULL, grow_on, &g), 0);
	while (!atomic_load(&g.done)) {
		uint64_t last = capacity(d) - 8;

		assert_int_equal(disk_write(d, last, f->data, 4096), VIRTIO_BLK_S_OK);
		assert_int_equal(disk_read(d, last, f->data, 4096), VIRTIO_BLK_S_OK);
	}
	pthread_join(thread, NULL);
	assert_int_equal(capacity(d), 2 * SECTORS);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sync_grows),
		T(uring_grows),
		T(before_the_driver_is_there),
		T(what_the_file_has),
		T(refusals),
		T(a_limit_on_files),
		T(readonly),
		T(ephemeral),
		T(while_it_is_used),
		T(after_the_driver_read_the_capacity),
	};

	return cmocka_run_group_tests_name("blk_resize", tests, NULL, NULL);
}
