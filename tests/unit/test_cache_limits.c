// SPDX-License-Identifier: BSD-2-Clause
/* The kernel cache on a poor host, with many users, and what is thrown away. */
#include "cache_fixture.h"

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
	expect_one_line("cannot be created");
	blob_free(&b);
}

/* ----- a poor host ----- */

/* A file system of its own for the cache, unmounted by the caller. */
static void mount_cache(const char *options)
{
	if (geteuid() || own_mounts() || mkdir(cache_dir, 0700) ||
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
	struct new_file file;

	(void)arg;
	deny_tmpfile();
	boot(true);
	assert_int_equal(count("-is-", NULL, 0), 1);
	assert_true(is_cached());
	assert_int_equal(cache_open(&cache, NULL), 0);
	assert_int_equal(new_file_open(&file, cache.dir_fd, 0600), 0);
	assert_int_not_equal(file.name[0], '\0');
	new_file_close(&file);
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
	struct new_file file;
	char name[64];

	snprintf(name, sizeof(name), CACHE_PREFIX "test-%u", n);
	assert_int_equal(new_file_open(&file, cache->dir_fd, 0600), 0);
	assert_int_equal(ftruncate(file.fd, (off_t)size), 0);
	assert_int_equal(futimens(file.fd, times), 0);
	assert_int_equal(cache_publish(cache, &file, name), 0);
	new_file_close(&file);
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
	stale = write_blob(cache_dir, NEW_FILE_PREFIX "0123", &b);
	fresh = write_blob(cache_dir, NEW_FILE_PREFIX "4567", &b);
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
