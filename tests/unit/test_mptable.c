// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "kvm/layout.h"
#include "kvm/mptable.h"
#include "table_fixture.h"

/* Reads the tables as a kernel does: floating pointer, header, entries by their type's size. */
static void test_tables_parse(void **state)
{
	unsigned count[4] = {0}, i = 0;
	const uint8_t *p, *table, *end;
	struct gmem mem;
	void *base;

	(void)state;
	assert_int_equal(gmem_create(&mem, 2 * MIB, NULL), 0);
	assert_int_equal(mptable_build(&mem, LAYOUT_MAX_CPUS, LAYOUT_MAX_GSIS, NULL), 0);
	assert_int_equal(gmem_slice(&mem, GPA(LAYOUT_MPTABLE), LAYOUT_MPTABLE_SIZE, &base), 0);
	p = base;
	assert_true(LAYOUT_MPTABLE >= 0xf0000 && LAYOUT_MPTABLE % 16 == 0);
	assert_memory_equal(p, "_MP_", 4);
	assert_int_equal(sum(p, 16), 0);
	assert_int_equal(load(p + 4, 4), LAYOUT_MPTABLE + 16);

	table = p + 16;
	assert_memory_equal(table, "PCMP", 4);
	assert_int_equal(sum(table, load(table + 4, 2)), 0);
	assert_int_equal(load(table + 36, 4), LAYOUT_LAPIC);
	end = table + load(table + 4, 2);
	for (p = table + 44; p < end; p += *p ? 8 : 20, i++) {
		assert_in_range(*p, 0, 3);
		if (*p == 0) {
			assert_int_equal(p[1], count[0]);
			assert_int_equal(p[3], count[0] ? 1 : 3);
		} else if (*p == 2) {
			assert_int_equal(load(p + 4, 4), LAYOUT_IOAPIC);
		} else if (*p == 3) {
			assert_int_equal(load(p + 2, 2), 5); /* edge, active high */
			assert_int_equal(p[5], count[3]);
			assert_int_equal(p[7], count[3]);
		}
		count[*p]++;
	}
	assert_ptr_equal(p, end);
	assert_int_equal(i, load(table + 34, 2));
	assert_int_equal(count[0], LAYOUT_MAX_CPUS);
	assert_int_equal(count[1], 1);
	assert_int_equal(count[2], 1);
	assert_int_equal(count[3], LAYOUT_MAX_GSIS);
	gmem_destroy(&mem);
}

static void test_too_many(void **state)
{
	struct error e = {""};
	struct gmem mem;

	(void)state;
	assert_int_equal(gmem_create(&mem, 2 * MIB, NULL), 0);
	assert_int_equal(mptable_build(&mem, 256, 1, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "256 CPUs"));
	assert_int_equal(mptable_build(&mem, 255, 255, &e), -ENOSPC);
	gmem_destroy(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_parse),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
