// SPDX-License-Identifier: BSD-2-Clause
/* The kernel cache: found by identity and by content, and never believed too much. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "boot/boot.h"
#include "boot/cache.h"
#include "boot/image.h"
#include "child.h"
#include "kernels.h"

#define MEMORY (64 * MIB)

/* Each test has a cache of its own: HOME/skep, and a kernel beside it. */
static char home[64], cache_dir[80], kernel[96];
static struct blob expected;

static void run(const char *format, const char *arg)
{
	char command[256];

	snprintf(command, sizeof(command), format, arg);
	assert_int_equal(system(command), 0);
}

static void write_kernel(uint32_t change, enum compression how)
{
	struct blob v = make_vmlinux(&(struct vmlinux_spec){.relocs = RELOCS_3_TABLES}), b;

	blob_put(&v, 0x1000 + 0x5000, &change, sizeof(change));
	blob_free(&expected);
	expected = make_expected(&v);
	b = make_bzimage(&v, how);
	free(write_blob(home, "bzImage", &b));
	blob_free(&b);
	blob_free(&v);
}

static int setup(void **state)
{
	(void)state;
	snprintf(home, sizeof(home), "/tmp/test-cache-XXXXXX");
	if (!mkdtemp(home))
		return -1;
	snprintf(cache_dir, sizeof(cache_dir), "%s/skep", home);
	snprintf(kernel, sizeof(kernel), "%s/bzImage", home);
	setenv("XDG_CACHE_HOME", home, 1);
	write_kernel(1, C_LZ4);
	return 0;
}

/* ----- what the log says ----- */

static int real_stderr = -1;
static FILE *captured;

static void capture(void)
{
	fflush(stderr);
	captured = tmpfile();
	assert_non_null(captured);
	real_stderr = dup(2);
	dup2(fileno(captured), 2);
}

/* The number of lines logged since capture(), all of which the caller gets. */
static unsigned captured_lines(char *buf, size_t size)
{
	unsigned lines = 0;
	size_t n;

	dup2(real_stderr, 2);
	close(real_stderr);
	rewind(captured);
	n = fread(buf, 1, size - 1, captured);
	buf[n] = '\0';
	fclose(captured);
	captured = NULL;
	for (const char *p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

static void expect_one_line(const char *text)
{
	char log[2048];
	unsigned lines = captured_lines(log, sizeof(log));

	if (lines != 1 || !strstr(log, text))
		fail_msg("%u lines instead of one with \"%s\": %s", lines, text, log);
}

static void expect_silence(void)
{
	char log[2048];

	if (captured_lines(log, sizeof(log)))
		fail_msg("unexpected: %s", log);
}

/* A test that failed while it was capturing has its say yet. */
static int teardown(void **state)
{
	char log[2048];

	(void)state;
	if (captured) {
		captured_lines(log, sizeof(log));
		fputs(log, stderr);
	}
	run("rm -rf %s", home);
	return 0;
}

/* ----- booting ----- */

/* Boots as far as memory goes, and checks that all of the kernel is there and right. */
static void boot(bool use_cache)
{
	const struct boot_request request = {.kernel = kernel, .cache = use_cache};
	struct error e = {""};
	struct boot_files files;
	struct boot_entry entry;
	struct gmem mem;

	assert_int_equal(gmem_create(&mem, MEMORY, NULL), 0);
	if (boot_open(&files, &request, &e) || boot_load(&files, &request, &mem, "", &entry, &e))
		fail_msg("%s", e.msg);
	assert_memory_equal(mem.region[0].host + VMLINUX_BASE, expected.data, VMLINUX_SPAN);
	boot_close(&files);
	gmem_destroy(&mem);
}

/* Whether the next boot finds its kernel in the cache. */
static bool is_cached(void)
{
	const struct boot_request request = {.kernel = kernel, .cache = true};
	struct boot_files files;
	bool cached;

	assert_int_equal(boot_open(&files, &request, NULL), 0);
	cached = files.image->cached;
	boot_close(&files);
	return cached;
}

/* The entries whose names have `kind` in them; the last one's path. */
static unsigned count(const char *kind, char *ret_path, size_t size)
{
	DIR *dir = opendir(cache_dir);
	struct dirent *d;
	unsigned n = 0;

	if (!dir)
		return 0;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && strstr(d->d_name, kind)) {
			n++;
			if (ret_path)
				snprintf(ret_path, size, "%s/%s", cache_dir, d->d_name);
		}
	closedir(dir);
	return n;
}

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
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    close(open(moved, O_CREAT | O_WRONLY, 0600)) ||
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
	expect_one_line("others could have written it");
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

static void test_no_directory_is_said_once(void **state)
{
	struct blob b = {NULL, 0};

	(void)state;
	blob_put(&b, 0, "x", 1);
	free(write_blob(home, "skep", &b)); /* a file is where the directory should be */
	capture();
	boot(true);
	expect_one_line("no kernel cache: ");
	setenv("XDG_CACHE_HOME", "/proc/none/here", 1);
	capture();
	boot(true);
	expect_one_line("cannot be made");
	blob_free(&b);
}

/* ----- a poor host ----- */

/* A file system of its own for the cache, unmounted by the caller. */
static void mount_cache(const char *options)
{
	if (geteuid() || unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mkdir(cache_dir, 0700) ||
	    mount("tmpfs", cache_dir, "tmpfs", 0, options))
		skip();
}

static void test_full_disk_is_said_once(void **state)
{
	(void)state;
	mount_cache("size=512k,mode=700");
	capture();
	boot(true);
	expect_one_line("No space left on device; starting without the cache");
	assert_int_equal(count("", NULL, 0), 0);
	umount(cache_dir);
}

static void test_disk_without_inodes_is_said_once(void **state)
{
	(void)state;
	mount_cache("nr_inodes=1,mode=700");
	capture();
	boot(true);
	expect_one_line("No space left on device; starting without the cache");
	umount(cache_dir);
}

static void test_read_only_cache(void **state)
{
	(void)state;
	mount_cache("mode=700");
	assert_int_equal(mount("none", cache_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	capture();
	boot(true);
	expect_one_line("Read-only file system; starting without the cache");
	/* What is there can be used. */
	assert_int_equal(mount("none", cache_dir, NULL, MS_REMOUNT, NULL), 0);
	boot(true);
	assert_int_equal(mount("none", cache_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	capture();
	assert_true(is_cached());
	boot(true);
	expect_silence();
	umount(cache_dir);
}

/* Fails what opens an unnamed file, as file systems without O_TMPFILE do. */
static void deny_tmpfile(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	assert_int_equal(filter_install(code, ARRAY_SIZE(code)), 0);
}

static int boot_without_tmpfile(const char *arg)
{
	struct cache cache;
	struct cache_file file;

	(void)arg;
	deny_tmpfile();
	boot(true);
	assert_int_equal(count("-is-", NULL, 0), 1);
	assert_true(is_cached());
	assert_int_equal(cache_open(&cache, NULL), 0);
	assert_int_equal(cache_create(&cache, &file), 0);
	assert_int_not_equal(file.temporary[0], '\0');
	cache_file_close(&cache, &file);
	cache_close(&cache);
	return 0;
}

static void test_without_tmpfile(void **state)
{
	DIR *dir;
	struct dirent *d;

	(void)state;
	assert_int_equal(in_child(boot_without_tmpfile, NULL), 0);
	dir = opendir(cache_dir);
	while ((d = readdir(dir))) /* no temporary file is left */
		assert_true(!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") ||
			    strstr(d->d_name, "-is-"));
	closedir(dir);
}

/* ----- many at once ----- */

static void test_many_at_once(void **state)
{
	pid_t pid[8];
	int status;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		write_kernel(100 + round, C_LZ4);
		for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
			pid[i] = fork();
			if (!pid[i]) {
				boot(true);
				boot(true);
				_exit(0);
			}
		}
		for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
			assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
			assert_int_equal(status, 0);
		}
		assert_int_equal(count("-is-", NULL, 0), round + 1);
		assert_true(is_cached());
	}
}

/* ----- limits ----- */

static void put_entry(const struct cache *cache, unsigned n, uint64_t size, time_t age)
{
	struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
	struct cache_file file;
	char name[64];

	snprintf(name, sizeof(name), CACHE_PREFIX "test-%u", n);
	assert_int_equal(cache_create(cache, &file), 0);
	assert_int_equal(ftruncate(file.fd, (off_t)size), 0);
	assert_int_equal(futimens(file.fd, times), 0);
	assert_int_equal(cache_publish(cache, &file, name), 0);
	cache_file_close(cache, &file);
}

static bool has_entry(const struct cache *cache, unsigned n)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), CACHE_PREFIX "test-%u", n);
	if (cache_find(cache, name, &fd))
		return false;
	close(fd);
	return true;
}

static void test_old_entries_go(void **state)
{
	struct cache cache;
	struct blob b = {NULL, 0};

	(void)state;
	assert_int_equal(cache_open(&cache, NULL), 0);
	blob_put(&b, 0, "x", 1);
	free(write_blob(cache_dir, "not-ours", &b));
	for (unsigned i = 0; i < CACHE_MAX_FILES; i++)
		put_entry(&cache, i, 100, 1000 + i);
	assert_true(has_entry(&cache, CACHE_MAX_FILES - 1));
	/* A use makes it young, and so another one is the oldest. */
	put_entry(&cache, 90, 100, 3 * 24 * 3600);
	assert_false(has_entry(&cache, 90));
	put_entry(&cache, CACHE_MAX_FILES - 2, 100, 2 * 24 * 3600);
	assert_true(has_entry(&cache, CACHE_MAX_FILES - 2));
	put_entry(&cache, 91, 100, 0);
	assert_true(has_entry(&cache, 91));
	assert_true(has_entry(&cache, CACHE_MAX_FILES - 2));
	assert_false(has_entry(&cache, CACHE_MAX_FILES - 1));
	assert_int_equal(count("", NULL, 0), CACHE_MAX_FILES + 1);
	assert_int_equal(count("not-ours", NULL, 0), 1);
	cache_close(&cache);
	blob_free(&b);
}

/* Many names of one file count as names, not as files. */
static void test_names_are_limited(void **state)
{
	struct cache cache;
	char name[64];

	(void)state;
	assert_int_equal(cache_open(&cache, NULL), 0);
	put_entry(&cache, 1, 100, 100);
	for (unsigned i = 0; i < CACHE_MAX_NAMES + 20; i++) {
		snprintf(name, sizeof(name), CACHE_PREFIX "alias-%u", i);
		cache_link(&cache, CACHE_PREFIX "test-1", name);
	}
	put_entry(&cache, 2, 100, 0);
	assert_int_equal(count("", NULL, 0), CACHE_MAX_NAMES);
	assert_true(has_entry(&cache, 2));
	cache_close(&cache);
}

static void test_leftovers_of_the_killed_go(void **state)
{
	struct timespec old[2] = {{.tv_sec = time(NULL) - 7200}, {.tv_sec = time(NULL) - 7200}};
	struct blob b = {NULL, 0};
	struct cache cache;
	char *stale, *fresh;

	(void)state;
	assert_int_equal(cache_open(&cache, NULL), 0);
	blob_put(&b, 0, "x", 1);
	stale = write_blob(cache_dir, ".new-0123", &b);
	fresh = write_blob(cache_dir, ".new-4567", &b);
	assert_int_equal(utimensat(AT_FDCWD, stale, old, 0), 0);
	put_entry(&cache, 1, 100, 0);
	assert_int_equal(access(stale, F_OK), -1);
	assert_int_equal(access(fresh, F_OK), 0);
	cache_close(&cache);
	blob_free(&b);
	free(stale);
	free(fresh);
}

/* ----- where ----- */

static int find_places(const char *arg)
{
	struct error e = {""};
	struct cache cache;

	(void)arg;
	if (geteuid() == 0) {
		assert_int_equal(chmod(home, 0777), 0);
		assert_int_equal(setgid(65534), 0);
		assert_int_equal(setuid(65534), 0);
	}
	setenv("HOME", home, 1);
	setenv("XDG_CACHE_HOME", "not/absolute", 1); /* to be ignored, says the specification */
	assert_int_equal(cache_open(&cache, &e), 0);
	snprintf(cache_dir, sizeof(cache_dir), "%s/.cache/skep", home);
	assert_string_equal(cache.path, cache_dir);
	cache_close(&cache);
	cache_close(&cache);
	unsetenv("HOME");
	assert_int_equal(cache_open(&cache, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "XDG_CACHE_HOME"));
	return 0;
}

static void test_places(void **state)
{
	(void)state;
	assert_int_equal(in_child(find_places, NULL), 0);
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
		TEST(test_no_directory_is_said_once),
		TEST(test_full_disk_is_said_once),
		TEST(test_disk_without_inodes_is_said_once),
		TEST(test_read_only_cache),
		TEST(test_without_tmpfile),
		TEST(test_many_at_once),
		TEST(test_old_entries_go),
		TEST(test_names_are_limited),
		TEST(test_leftovers_of_the_killed_go),
		TEST(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
