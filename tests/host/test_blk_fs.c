// SPDX-License-Identifier: BSD-2-Clause
/* The disk on images on ext4, xfs, btrfs, tmpfs and ramfs, also where these are full. */
#include "blk_host_fixture.h"

/* File systems. */

static void test_full_file_system(void **state)
{
	struct fixture *f = *state;
	char path[64];
	unsigned ok = 0, failed = 0;

	assert_int_equal(mount("tmpfs", mount_point, "tmpfs", 0, "size=8m"), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 32M %s", path), 0);
	up_on(f, path);
	memset(f->data, 0x11, MIB);
	for (unsigned i = 0; i < 32; i++) {
		uint8_t status = disk_write(&f->disk, i * 2048, f->data, MIB);

		assert_in_range(status, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_IOERR);
		ok += status == VIRTIO_BLK_S_OK;
		failed += status == VIRTIO_BLK_S_IOERR;
	}
	assert_in_range(ok, 6, 8);
	assert_int_equal(ok + failed, 32);
	/* What the guest gives back is there for it again. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 31 * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 31 * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[MIB - 1], 0x11);
	down(f);
	unmount();
}

/* Where blocks are allocated late, and with O_DIRECT at once. */
static void test_full_ext4(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;
	char path[64], device[32];
	uint8_t *pattern;
	int fd;

	if (run("command -v mkfs.ext4 >/dev/null"))
		skip();
	fd = attach(f->backing, 0, 0, device);
	assert_int_equal(run("mkfs.ext4 -q -m 0 -O ^has_journal %s", device), 0);
	assert_int_equal(mount(device, mount_point, "ext4", 0, NULL), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 64M %s", path), 0);
	up_on(f, path);
	memset(f->data, 0x22, MIB);
	for (unsigned i = 0; i < 64; i++)
		assert_in_range(disk_write(&f->disk, i * 2048, f->data, MIB), VIRTIO_BLK_S_OK,
				VIRTIO_BLK_S_IOERR);
	blk_device_result(f->disk.dev, &result);
	assert_in_range(result.writes, 20, 32);
	assert_int_equal(result.writes + result.errors, 64);
	/* What it said was written is there, and its end is no end of the disk. */
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	pattern = malloc(MIB);
	memset(pattern, 0x22, MIB);
	for (unsigned i = 0; i < result.writes; i++) {
		assert_int_equal(disk_read(&f->disk, i * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
		assert_memory_equal(f->data, pattern, MIB);
	}
	free(pattern);
	assert_int_equal(disk_read(&f->disk, 63 * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	/* An overwrite needs no space; a discard makes some. */
	assert_int_equal(disk_write(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 16384, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 62 * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	down(f);
	unmount();
	close(fd);
}

/* With werror=enospc-pause nothing fails. */
static void test_full_file_system_pauses(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;
	struct disk_result result;
	struct drv_buf in;
	char path[64];
	uint8_t status;

	assert_int_equal(mount("tmpfs", mount_point, "tmpfs", 0, "size=8m"), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 32M %s", path), 0);
	f->options.wait_for_space = true;
	up_on(f, path);
	f->options = o;
	memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0x11, MIB);
	in = (struct drv_buf){GPA(f->disk.buffer.v + 2 * MIB), 65536, true};
	for (unsigned i = 0; i < 16; i++)
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, i * 2048,
				      &(struct drv_buf){f->disk.buffer, MIB, false}, 1) >= 0);
	disk_kick(&f->disk, 0);
	for (unsigned i = 0; i < 6; i++) {
		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
	}
	do
		blk_device_result(f->disk.dev, &result);
	while (!result.space_pauses);
	/* It reads on; then there is room. */
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 31 * 2048, &in, 1) >= 0);
	disk_kick(&f->disk, 0);
	do {
		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
		blk_device_result(f->disk.dev, &result);
	} while (!result.reads);
	assert_true(result.writes < 16);
	assert_int_equal(mount("tmpfs", mount_point, "tmpfs", MS_REMOUNT, "size=64m"), 0);
	do
		blk_device_result(f->disk.dev, &result);
	while (result.writes < 16);
	assert_int_equal(result.errors, 0);
	assert_int_equal(result.space_pauses, 1);
	disk_restart(&f->disk);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 8 * MIB; i++)
		assert_int_equal(f->data[i], 0x11);
	assert_int_equal(disk_read(&f->disk, 15 * 2048, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[MIB - 1], 0x11);
	down(f);
	unmount();
}

static void model_on(struct fixture *f, const char *type, unsigned align)
{
	char path[64];
	int fd = mount_fs(f, type);

	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 32M %s", path), 0);
	up_on(f, path);
	assert_true(f->disk.image->discard);
	run_model(f, path, align);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(disk_allocated(path), 0, 64 * KIB);
	down(f);
	unmount();
	if (fd >= 0)
		close(fd);
}

static void up_ephemeral(struct fixture *f, const char *path)
{
	f->options.ephemeral = true;
	up_on(f, path);
	f->options.ephemeral = false;
}

static void expect_untouched(const struct fixture *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread_full(fd, f->data, 8 * MIB, 0), 8 * MIB);
	assert_true(disk_is_fill(f->data, 0, 8 * MIB));
	close(fd);
}

static void run_ephemeral_model(struct fixture *f, const char *path, unsigned align)
{
	const char *wrong = blk_model(&(struct blk_model_run){.disk = &f->disk,
							      .path = path,
							      .requests = 3000,
							      .depth = 32,
							      .seed = 20261125,
							      .odd_buffers = true,
							      .align = align,
							      .ephemeral = true});

	if (wrong)
		fail_msg("%s", wrong);
}

static void expect_blocks(struct fixture *f, const char *path, uint32_t size, bool direct)
{
	up_on(f, path);
	assert_int_equal(config(&f->disk)->blk_size, size);
	assert_int_equal(f->disk.image->direct, direct);
	assert_int_equal(fcntl(f->disk.image->fd, F_GETFL) & O_DIRECT ? 1 : 0, direct);
	memset(f->data, 0x5a, size);
	assert_int_equal(disk_write(&f->disk, size / BLK_SECTOR, f->data, size), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, size * 2), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, size));
	assert_int_equal(f->data[size], 0x5a);
	down(f);
	disk_fill(path, 0, MIB);
}

/* An image is what it was on another host: here the file system's device has blocks of 4096. */
static void test_blocks_are_the_images_own(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = f->options;
	char path[64], device[32];
	int fd;

	if (run("command -v mkfs.ext4 >/dev/null"))
		skip();
	fd = attach(f->backing, 0, 4096, device);
	assert_int_equal(run("mkfs.ext4 -q -b 4096 %s", device), 0);
	assert_int_equal(mount(device, mount_point, "ext4", 0, NULL), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 8M %s", path), 0);
	disk_fill(path, 0, MIB);
	expect_blocks(f, path, 512, false);
	f->options.block_size = BLOCK_SIZE_4096;
	expect_blocks(f, path, 4096, f->options.direct);
	f->options = o;
	unmount();
	close(fd);
}

/* On XFS a reflink makes O_DIRECT take whole blocks of the file system only (Linux 6.18). */
static void test_a_reflink_leaves_blocks_alone(void **state)
{
	struct fixture *f = *state;
	char path[64];
	int fd = mount_fs(f, "xfs");

	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 8M %s", path), 0);
	disk_fill(path, 0, MIB);
	for (unsigned i = 0; i < 2; i++) {
		up_on(f, path);
		assert_int_equal(config(&f->disk)->blk_size, 512);
		down(f);
		assert_int_equal(run("cp --reflink=always %s %s.clone", path, path), 0);
	}
	unmount();
	close(fd);
}

/* A throw-away disk is a clone where the file system has them. */
static void ephemeral_on(struct fixture *f, const char *type, bool clone)
{
	int fd = mount_fs(f, type);
	char path[64];

	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 32M %s", path), 0);
	disk_fill(path, 0, 8 * MIB);
	up_ephemeral(f, path);
	assert_int_equal(!f->disk.image->base, clone);
	run_ephemeral_model(f, path, 1);
	down(f);
	expect_untouched(f, path);
	unmount();
	if (fd >= 0)
		close(fd);
}

static void test_ephemeral_on_ext4(void **state)
{
	ephemeral_on(*state, "ext4", false);
}

static void test_ephemeral_on_xfs(void **state)
{
	ephemeral_on(*state, "xfs", true);
}

static void test_ephemeral_on_btrfs(void **state)
{
	ephemeral_on(*state, "btrfs", true);
}

static void test_ephemeral_on_tmpfs(void **state)
{
	ephemeral_on(*state, "tmpfs", false);
}

static void test_ephemeral_on_a_device(void **state)
{
	struct fixture *f = *state;

	disk_fill(f->backing, 0, 8 * MIB);
	f->loop_fd = attach(f->backing, 0, 4096, f->device);
	up_ephemeral(f, f->device);
	assert_true(f->disk.image->base && f->disk.image->base->device);
	assert_int_equal(config(&f->disk)->blk_size, 4096);
	run_ephemeral_model(f, f->device, 8);
	down(f);
	expect_untouched(f, f->backing);
}

static void test_model_on_ext4(void **state)
{
	model_on(*state, "ext4", 1);
}

static void test_model_on_xfs(void **state)
{
	model_on(*state, "xfs", 1);
}

static void test_model_on_btrfs(void **state)
{
	/* Ranges that end within a block may fill holes there with zeros. */
	model_on(*state, "btrfs", 8);
}

static void test_model_on_tmpfs(void **state)
{
	model_on(*state, "tmpfs", 1);
}

/* A file system that cannot punch holes: nothing is offered that would not be done. */
static void test_ramfs_offers_no_discard(void **state)
{
	struct fixture *f = *state;
	char path[64];

	assert_int_equal(mount("ramfs", mount_point, "ramfs", 0, NULL), 0);
	snprintf(path, sizeof(path), "%s/image", mount_point);
	assert_int_equal(run("truncate -s 16M %s", path), 0);
	up_on(f, path);
	assert_false(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_DISCARD));
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	memset(f->data, 1, MIB);
	assert_int_equal(disk_write(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 1, 2000, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->data[511], 1);
	assert_true(mem_is_zero(f->data + 512, 2000 * 512));
	assert_int_equal(f->data[2001 * 512], 1);
	down(f);
	unmount();
}

int main(void)
{
	static struct fixture uring = {.options = {.engine = ENGINE_URING}};
	static struct fixture worker = {.options = {.engine = ENGINE_URING, .blkdiscard = true}};
	static struct fixture sync = {.options = {.engine = ENGINE_SYNC}};
	static struct fixture direct = {.options = {.engine = ENGINE_URING, .direct = true}};
	const struct CMUnitTest tests[] = {
		NAMED(uring, full_file_system),
		NAMED(sync, full_file_system),
		NAMED(uring, full_ext4),
		NAMED(sync, full_ext4),
		NAMED(direct, full_ext4),
		NAMED(uring, full_file_system_pauses),
		NAMED(sync, full_file_system_pauses),
		NAMED(uring, model_on_ext4),
		NAMED(sync, model_on_ext4),
		NAMED(direct, model_on_ext4),
		NAMED(uring, model_on_xfs),
		NAMED(sync, model_on_xfs),
		NAMED(direct, model_on_xfs),
		NAMED(uring, model_on_btrfs),
		NAMED(sync, model_on_btrfs),
		NAMED(uring, model_on_tmpfs),
		NAMED(sync, model_on_tmpfs),
		TEST(blocks_are_the_images_own),
		NAMED(direct, a_reflink_leaves_blocks_alone),
		NAMED(uring, ephemeral_on_ext4),
		NAMED(sync, ephemeral_on_ext4),
		NAMED(uring, ephemeral_on_xfs),
		NAMED(sync, ephemeral_on_xfs),
		NAMED(uring, ephemeral_on_btrfs),
		NAMED(uring, ephemeral_on_tmpfs),
		NAMED(uring, ephemeral_on_a_device),
		NAMED(sync, ephemeral_on_a_device),
		NAMED(uring, ramfs_offers_no_discard),
		NAMED(sync, ramfs_offers_no_discard),
	};

	return host_tests("blk_fs", tests);
}
