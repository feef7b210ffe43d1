// SPDX-License-Identifier: BSD-2-Clause
/* Limits of control groups, of files as the kernel writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cgroup.h"

static void test_the_lowest_of_a_group_and_those_above(void **state)
{
	char dir[] = "/tmp/skep-cgroup.XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(system("mkdir -p a/b; echo max >a/memory.max; echo 4096 >a/b/memory.max;"
				"echo 'max 100000' >a/cpu.max; echo '150000 100000' >a/b/cpu.max;"
				"echo 1000 >memory.max; echo '100 0' >a/odd; echo x >a/b/odd"),
			 0);
	assert_int_equal(cgroup_lowest(dir, "/a/b", "memory.max"), 1000);
	assert_int_equal(unlink("memory.max"), 0);
	assert_int_equal(cgroup_lowest(dir, "/a/b", "memory.max"), 4096);
	assert_true(cgroup_lowest(dir, "/a", "memory.max") == UINT64_MAX);
	assert_int_equal(cgroup_lowest(dir, "/a/b", "cpu.max"), 2);
	assert_true(cgroup_lowest(dir, "/a", "cpu.max") == UINT64_MAX);
	assert_true(cgroup_lowest(dir, "/a/b", "odd") == UINT64_MAX);
	assert_true(cgroup_lowest(dir, "/", "nothing") == UINT64_MAX);
	assert_int_equal(system("rm -r a"), 0);
	assert_int_equal(chdir("/") | rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_lowest_of_a_group_and_those_above),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
