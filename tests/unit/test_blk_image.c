// SPDX-License-Identifier: BSD-2-Clause
/* Opening images: what is found out about them, and what the user is told. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "disk.h"

static int open_image(struct blk_image **ret, const char *path, bool readonly, struct error *e)
{
	struct disk_config config = {
		.path = (char *)path, .readonly = readonly, .engine = ENGINE_AUTO, .queues = 1};

	*ret = NULL;
	return blk_image_open(ret, &config, e);
}

static void expect_error(const char *path, bool readonly, int code, const char *text)
{
	struct blk_image *image;
	struct error e = {""};

	assert_int_equal(open_image(&image, path, readonly, &e), code);
	if (!strstr(e.msg, text))
		fail_msg("\"%s\" is not in \"%s\"", text, e.msg);
}

static void test_what_is_no_disk(void **state)
{
	char dir[] = "/tmp/skep-test-XXXXXX", fifo[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	expect_error(dir, false, -EISDIR, "a directory");
	expect_error(fifo, true, -EINVAL, "a pipe"); /* and does not wait for a writer */
	expect_error("/dev/null", false, -EINVAL, "a character device");
	expect_error("/tmp/skep-test-none/none.img", false, -ENOENT, "skep disk create");
	unlink(fifo);
	rmdir(dir);
}

static void test_sizes(void **state)
{
	struct blk_image *image;
	char *path = disk_file(0);

	(void)state;
	expect_error(path, false, -EINVAL, "skep disk resize");
	assert_int_equal(truncate(path, 511), 0);
	expect_error(path, false, -EINVAL, "511 bytes");
	assert_int_equal(truncate(path, 3 * 512 + 100), 0);
	assert_int_equal(open_image(&image, path, false, NULL), 0);
	assert_int_equal(image->size, 3 * 512);
	blk_image_close(image);
	assert_int_equal(truncate(path, 512), 0);
	assert_int_equal(open_image(&image, path, true, NULL), 0);
	assert_int_equal(image->size, 512);
	blk_image_close(image);
	unlink(path);
	free(path);
}

static void test_probing_changes_nothing(void **state)
{
	struct blk_image *image;
	struct stat before, after;
	uint8_t data[4096];
	char *path = disk_file(MIB + 12345);
	int fd;

	(void)state;
	disk_fill(path, 0, MIB + 12345);
	/* Blocks past the end are the user's too. */
	fd = open(path, O_RDWR);
	assert_int_equal(stat(path, &before), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(open_image(&image, path, false, NULL), 0);
		assert_true(image->discard);
		assert_true(image->zero_punch);
		assert_false(image->device);
		assert_int_equal(image->size % 512, 0);
		assert_true(image->granularity >= 512);
		assert_true(image->discard_step >= image->granularity);
		blk_image_close(image);
	}
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(after.st_blocks, before.st_blocks);
	for (off_t at = 0; at + 4096 < before.st_size; at += 4096) {
		assert_int_equal(pread(fd, data, 4096, at), 4096);
		assert_true(disk_is_fill(data, (uint64_t)at, 4096));
	}
	close(fd);
	unlink(path);
	free(path);
}

static void test_a_readonly_image_is_not_probed(void **state)
{
	struct blk_image *image;
	char *path = disk_file(MIB);

	(void)state;
	assert_int_equal(open_image(&image, path, true, NULL), 0);
	assert_true(image->readonly);
	assert_false(image->discard);
	assert_int_equal(fcntl(image->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	blk_image_close(image);
	unlink(path);
	free(path);
}

static void test_direct(void **state)
{
	struct disk_config config = {.cache = CACHE_NONE, .queues = 1};
	struct blk_image *image;
	struct error e = {""};
	char *path = disk_file(MIB);

	(void)state;
	config.path = path;
	if (blk_image_open(&image, &config, &e) < 0) {
		/* A file system without it says what to do. */
		assert_non_null(strstr(e.msg, "leave `cache=none` out"));
	} else {
		assert_int_equal(!!(fcntl(image->fd, F_GETFL) & O_DIRECT), image->direct);
		assert_int_equal(image->logical_block, 512);
		assert_in_range(image->memory_align, 1, 4096);
		blk_image_close(image);
	}
	unlink(path);
	free(path);
}

/* Whether opening the image is warned of in these words. */
static bool warned(const char *path, enum disk_block_size block_size, const char *words)
{
	struct disk_config config = {.path = (char *)path, .block_size = block_size, .queues = 1};
	struct blk_image *image;
	char said[1024] = "";
	FILE *log = tmpfile();
	int real = dup(2);

	assert_true(log && real >= 0 && dup2(fileno(log), 2) == 2);
	assert_int_equal(blk_image_open(&image, &config, NULL), 0);
	assert_int_equal(image->logical_block, block_size == BLOCK_SIZE_4096 ? 4096 : 512);
	blk_image_close(image);
	assert_int_equal(dup2(real, 2), 2);
	close(real);
	rewind(log);
	assert_true(fread(said, 1, sizeof(said) - 1, log) < sizeof(said));
	fclose(log);
	return strstr(said, words);
}

/* The second block of a disk with a GPT: signature, revision, size, checksum; its own number. */
static void put_gpt(const char *path, off_t block, const char *signature)
{
	uint8_t header[512] = {[24] = 1};
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	memcpy(header, signature, 8);
	assert_int_equal(pwrite(fd, header, sizeof(header), block), sizeof(header));
	close(fd);
}

static void test_a_gpt_for_other_blocks_is_warned_of(void **state)
{
	char *path = disk_file(MIB);

	(void)state;
	assert_false(warned(path, BLOCK_SIZE_AUTO, "GPT"));
	put_gpt(path, 4096, "EFI PART");
	assert_true(warned(path, BLOCK_SIZE_AUTO, "add `block-size=4096`"));
	assert_true(warned(path, BLOCK_SIZE_512, "add `block-size=4096`"));
	assert_false(warned(path, BLOCK_SIZE_4096, "GPT"));
	/* One for both. */
	put_gpt(path, 512, "EFI PART");
	assert_false(warned(path, BLOCK_SIZE_AUTO, "GPT"));
	assert_false(warned(path, BLOCK_SIZE_4096, "GPT"));
	put_gpt(path, 4096, "EFI SOUP");
	assert_false(warned(path, BLOCK_SIZE_AUTO, "GPT"));
	assert_true(warned(path, BLOCK_SIZE_4096, "add `block-size=512`"));
	unlink(path);
	free(path);
}

static int as_nobody(const char *path)
{
	struct blk_image *image;
	struct error e = {""};

	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		return 1;
	chmod(path, 0444); /* in case it is still ours */
	CHECK(open_image(&image, path, false, &e) == -EACCES);
	CHECK(strstr(e.msg, "readonly"));
	CHECK(open_image(&image, path, true, &e) == 0);
	blk_image_close(image);
	return 0;
}

static int as_nobody_without_any_right(const char *path)
{
	struct blk_image *image;
	struct error e = {""};

	if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
		return 1;
	chmod(path, 0);
	CHECK(open_image(&image, path, false, &e) == -EACCES);
	CHECK(strstr(e.msg, "permission denied"));
	CHECK(open_image(&image, path, true, &e) == -EACCES);
	return 0;
}

static void test_permissions(void **state)
{
	char *path = disk_file(MIB);

	(void)state;
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(in_child(as_nobody, path), 0);
	assert_int_equal(chmod(path, 0), 0);
	assert_int_equal(in_child(as_nobody_without_any_right, path), 0);
	unlink(path);
	free(path);
}

/* Containers deny io_uring: disks work all the same, discards included. */
static int without_io_uring(const char *path)
{
	struct disk_options options = {.engine = ENGINE_AUTO};
	static uint8_t data[65536];
	struct error e = {""};
	struct disk disk;

	CHECK(filter_syscall(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM) == 0);
	options.engine = ENGINE_URING;
	CHECK(disk_open(&disk, path, &options, &e) == -EPERM);
	CHECK(strstr(e.msg, "io_uring"));
	options.engine = ENGINE_AUTO;
	CHECK(disk_open(&disk, path, &options, &e) == 0);
	CHECK(!loop_is_uring(disk.loop[0]));
	disk_start(&disk);
	CHECK(disk_read(&disk, 0, data, sizeof(data)) == VIRTIO_BLK_S_OK);
	CHECK(disk_is_fill(data, 0, sizeof(data)));
	CHECK(disk_range(&disk, VIRTIO_BLK_T_DISCARD, 0, 2048, 0) == VIRTIO_BLK_S_OK);
	CHECK(disk_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 1) == VIRTIO_BLK_S_OK);
	CHECK(disk_flush(&disk) == VIRTIO_BLK_S_OK);
	CHECK(disk_allocated(path) <= 2 * MIB + 64 * KIB);
	disk_close(&disk);
	return 0;
}

static void test_without_io_uring(void **state)
{
	char *path = disk_file(16 * MIB);

	(void)state;
	disk_fill(path, 0, 4 * MIB);
	assert_int_equal(in_child(without_io_uring, path), 0);
	unlink(path);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_no_disk),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_probing_changes_nothing),
		cmocka_unit_test(test_a_readonly_image_is_not_probed),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_a_gpt_for_other_blocks_is_warned_of),
		cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_without_io_uring),
	};

	return cmocka_run_group_tests_name("blk_image", tests, NULL, NULL);
}
