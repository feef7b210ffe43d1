// SPDX-License-Identifier: BSD-2-Clause
/* The runtime directory, and names of VMs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/runtime.h"
#include "base/util.h"

static char top[64];

static int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/skep-test-run-XXXXXX");
	assert_non_null(mkdtemp(top));
	assert_int_equal(setenv("XDG_RUNTIME_DIR", top, 1), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static void expect_socket(const char *vm, const char *expected)
{
	_cleanup_free_ char *path = runtime_socket(vm);

	assert_string_equal(path, expected);
}

static void test_a_name_comes_before_a_path(void **state)
{
	char path[128], other[128];
	struct error e = {""};
	_cleanup_free_ char *dir = runtime_directory(true, &e);
	struct stat st;
	FILE *f;

	(void)state;
	assert_non_null(dir);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	expect_socket("web", "web");
	snprintf(path, sizeof(path), "%s/web", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/web/" RUNTIME_SOCKET, dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	expect_socket("web", path);
	expect_socket("./web", "./web");
	snprintf(other, sizeof(other), "%s/" RUNTIME_SOCKET, dir);
	assert_int_equal(link(path, other), 0);
	expect_socket(".", ".");
	expect_socket("", "");
}

static void expect_none(int mode, const char *why)
{
	struct error e = {""};
	char path[96];

	snprintf(path, sizeof(path), "%s/skep", top);
	assert_int_equal(chmod(path, (mode_t)mode), 0);
	assert_null(runtime_directory(true, &e));
	assert_non_null(strstr(e.msg, why));
}

/* Sockets there would be others' to replace. */
static void test_a_directory_that_others_write_to_is_none(void **state)
{
	_cleanup_free_ char *dir = runtime_directory(true, NULL);

	(void)state;
	expect_none(0777, "others may write");
	expect_none(0770, "others may write");
	expect_socket("web", "web");
	if (geteuid() == 0) {
		assert_int_equal(chown(dir, 1, 1), 0);
		expect_none(0700, "others may write");
	}
}

/* What root's services make, root's sessions find. */
static void test_root_has_no_directory_of_a_session(void **state)
{
	struct error e = {""};
	_cleanup_free_ char *dir = NULL;

	(void)state;
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/no-such", 1), 0);
	dir = runtime_directory(false, &e);
	if (dir)
		assert_string_equal(dir, "/run/skep");
	else
		assert_non_null(strstr(e.msg, geteuid() == 0 ? "'/run/skep'" : "/no-such/skep'"));
}

static void test_no_directory(void **state)
{
	struct error e = {""};

	(void)state;
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/proc/no-such", 1), 0);
	assert_null(runtime_directory(true, &e));
	assert_non_null(strstr(e.msg, "'/proc/no-such/skep': No such file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_name_comes_before_a_path, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_directory_that_others_write_to_is_none,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_root_has_no_directory_of_a_session, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
