// SPDX-License-Identifier: BSD-2-Clause
/* The kernel cache: found by identity and by content, and never believed too much. */
#include "cache_fixture.h"

static void entry_path(char *buf, size_t size)
{
	assert_int_equal(count("-is-", buf, size), 1);
}

static void test_second_start_finds_the_first_ones_work(void **state)
{
	char path[512];
	struct stat st;

	(void)state;
	capture();
	boot(true);
	entry_path(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true((uint64_t)st.st_blocks * 512 < 3 * MIB); /* zeros are holes */
	assert_int_equal(stat(cache_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(is_cached());
	boot(true);
	assert_int_equal(count("-is-", NULL, 0), 1);
	expect_silence();
}

static void test_without_the_cache_nothing_is_kept(void **state)
{
	(void)state;
	capture();
	boot(false);
	boot(false);
	assert_int_equal(access(cache_dir, F_OK), -1);
	expect_silence();
}

/* A copy is another file with the same content. */
static void test_copies_share_an_entry(void **state)
{
	char copy[128];

	(void)state;
	boot(true);
	snprintf(copy, sizeof(copy), "cp %s %s.new && mv %s.new %s", kernel, kernel, kernel,
		 kernel);
	run("%s", copy);
	assert_true(is_cached());
	assert_int_equal(count("-is-", NULL, 0), 1);
}

static void test_changed_kernel_is_unpacked_anew(void **state)
{
	uint64_t begun = now_ns();

	(void)state;
	boot(true);
	for (uint32_t i = 2; i < 5; i++) {
		/* The same size and, within a tick of the clock, the same times. */
		write_kernel(i, C_LZ4);
		boot(true);
	}
	assert_int_equal(count("-is-", NULL, 0), 4);
	/* Unless the machine was so busy that one has settled meanwhile. */
	if (now_ns() - begun < 2 * NSEC_PER_SEC)
		assert_int_equal(count("-at-", NULL, 0), 0);
}

/* Once the file's times are old enough to tell states of it apart, its identity will do. */
static void test_settled_kernel_is_found_by_identity(void **state)
{
	char path[512];

	(void)state;
	sleep(4);
	boot(true);
	assert_int_equal(count("-at-", NULL, 0), 1);
	entry_path(path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	/* Found by the name that is left; by content it would have been made again. */
	assert_true(is_cached());
	boot(true);
	assert_int_equal(count("-is-", NULL, 0), 0);

	/* Anything about the file that differs is another identity. */
	write_kernel(9, C_LZ4);
	assert_false(is_cached());
	boot(true);
	assert_int_equal(count("-is-", NULL, 0), 1);
}

/* Another file, whoever made it, does not get at this one's entry by its path or otherwise. */
static void test_identity_has_the_path_in_it(void **state)
{
	char path[512], moved[256];

	(void)state;
	sleep(4);
	boot(true);
	entry_path(path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_true(is_cached());
	/* The same inode with the same times, but not at its path: bind mounts and links do this.
	 */
	snprintf(moved, sizeof(moved), "%s/sub", home);
	assert_int_equal(mkdir(moved, 0700), 0);
	snprintf(moved, sizeof(moved), "%s/sub/bzImage", home);
	if (own_mounts() || close(open(moved, O_CREAT | O_WRONLY, 0600)) ||
	    mount(kernel, moved, NULL, MS_BIND, NULL))
		skip();
	snprintf(kernel, sizeof(kernel), "%s", moved);
	assert_false(is_cached());
	umount(moved);
}

/* The kernel's content is looked for, and by no name of an earlier, slow start for its identity. */
static void boot_touched(void)
{
	assert_int_equal(utimensat(AT_FDCWD, kernel, NULL, 0), 0);
	boot(true);
}

/* ----- damage ----- */

static void flip(const char *path, off_t offset)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

static struct kernel_image *read_entry(const char *path)
{
	struct kernel_image *image;
	int fd = open(path, O_RDONLY);

	assert_int_equal(image_read(fd, &image), 0);
	close(fd);
	return image;
}

static void test_damaged_entry_is_made_anew(void **state)
{
	struct kernel_image *image;
	char path[512];
	off_t offset[5];

	(void)state;
	boot(true);
	entry_path(path, sizeof(path));
	image = read_entry(path);
	/* The magic, a field, a piece's record, the first and the last of data. */
	offset[0] = 0;
	offset[1] = offsetof(struct image_header, entry);
	offset[2] = (off_t)(sizeof(struct image_header) + sizeof(struct image_piece));
	offset[3] = (off_t)image->piece[0].file_offset;
	offset[4] = (off_t)(image->piece[2].file_offset + image->piece[2].len - 1);
	free(image);
	for (size_t i = 0; i < ARRAY_SIZE(offset); i++) {
		flip(path, offset[i]);
		capture();
		boot_touched();
		expect_one_line("damaged");
		capture();
		assert_true(is_cached());
		boot(true);
		expect_silence();
	}
}

static void test_damaged_relocations_are_made_anew(void **state)
{
	const struct boot_request request = {.kernel = kernel, .cache = true, .kaslr = true};
	struct kernel_image *image;
	struct error e = {""};
	struct boot_files files;
	struct boot_entry entry;
	struct gmem mem;
	char path[512];

	(void)state;
	boot(true);
	entry_path(path, sizeof(path));
	image = read_entry(path);
	assert_int_equal(image->piece[image->h.num_pieces - 1].kind, PIECE_RELOC32);
	flip(path, (off_t)image->piece[image->h.num_pieces - 1].file_offset);
	free(image);
	capture();
	assert_int_equal(gmem_create(&mem, MEMORY, NULL), 0);
	assert_int_equal(boot_open(&files, &request, &e), 0);
	assert_true(files.image->cached);
	/* Again where it was moved by 0, which is once in 500: then they are not read. */
	do
		assert_int_equal(boot_load(&files, &request, &mem, "", &entry, &e), 0);
	while (files.image->cached);
	boot_close(&files);
	gmem_destroy(&mem);
	expect_one_line("damaged");
	assert_true(is_cached());
}

static void test_torn_entries_are_made_anew(void **state)
{
	static const off_t lengths[] = {0, 1, 100, 4096, 100000};
	char path[512];

	(void)state;
	boot(true);
	entry_path(path, sizeof(path));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		assert_int_equal(truncate(path, lengths[i]), 0);
		capture();
		boot_touched();
		expect_one_line("damaged");
		assert_true(is_cached());
	}
	/* As long as it was, but the tail never reached the disk. */
	assert_int_equal(truncate(path, 100000), 0);
	assert_int_equal(truncate(path, 2 * MIB), 0);
	capture();
	boot_touched();
	expect_one_line("damaged");
}

/* ----- others ----- */

static void expect_entry_refused(void)
{
	char path[512];

	capture();
	boot_touched();
	expect_one_line("others could have changed it");
	entry_path(path, sizeof(path));
	assert_true(is_cached());
}

static void test_entries_that_others_can_write_are_not_used(void **state)
{
	char path[512], target[128];

	(void)state;
	boot(true);
	entry_path(path, sizeof(path));
	assert_int_equal(chmod(path, 0620), 0);
	expect_entry_refused();
	assert_int_equal(chmod(path, 0602), 0);
	expect_entry_refused();
	/* What is not a file. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_entry_refused();
	snprintf(target, sizeof(target), "%s/elsewhere", home);
	assert_int_equal(rename(path, target), 0);
	assert_int_equal(symlink(target, path), 0);
	expect_entry_refused();
	if (geteuid())
		skip();
	assert_int_equal(chown(path, 65534, 0), 0);
	expect_entry_refused();
}

static void test_directories_that_others_can_write_are_not_used(void **state)
{
	char path[512];

	(void)state;
	boot(true);
	entry_path(path, sizeof(path));
	assert_int_equal(chmod(cache_dir, 0777), 0);
	capture();
	boot(true);
	expect_one_line("others can write to it");
	assert_int_equal(chmod(cache_dir, 0770), 0);
	assert_false(is_cached());
	assert_int_equal(chmod(cache_dir, 0700), 0);
	assert_true(is_cached());
	if (geteuid())
		skip();
	assert_int_equal(chown(cache_dir, 65534, 0), 0);
	assert_false(is_cached());
	capture();
	boot(true);
	expect_one_line("owner 65534");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_second_start_finds_the_first_ones_work),
		TEST(test_without_the_cache_nothing_is_kept),
		TEST(test_copies_share_an_entry),
		TEST(test_changed_kernel_is_unpacked_anew),
		TEST(test_settled_kernel_is_found_by_identity),
		TEST(test_identity_has_the_path_in_it),
		TEST(test_damaged_entry_is_made_anew),
		TEST(test_damaged_relocations_are_made_anew),
		TEST(test_torn_entries_are_made_anew),
		TEST(test_entries_that_others_can_write_are_not_used),
		TEST(test_directories_that_others_can_write_are_not_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
