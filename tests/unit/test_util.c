// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "util.h"

/* One byte anywhere shows; those around the buffer do not count. */
static void test_zero_is_told_from_data_at_every_offset_and_length(void **state)
{
	static const size_t lengths[] = {1,  2,	 7,  8,	  15,  16,  17,	 31,  32,  33,
					 63, 64, 65, 127, 128, 129, 191, 192, 500, 512};
	uint8_t buf[8 + 512 + 8];

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	for (size_t start = 0; start < 8; start++) {
		for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
			uint8_t *p = buf + start;
			size_t len = lengths[i];

			memset(p, 0, len);
			assert_true(mem_is_zero(p, len));
			for (size_t at = 0; at < len; at++) {
				p[at] = (uint8_t)(1u << at % 8);
				assert_false(mem_is_zero(p, len));
				p[at] = 0;
			}
			memset(p, 0xff, len);
		}
	}
}

static void test_large_buffers_to_the_last_byte(void **state)
{
	uint8_t *p = calloc(1, MIB);

	(void)state;
	assert_non_null(p);
	assert_true(mem_is_zero(p, MIB));
	for (size_t at = 64; at < MIB; at += 4093) {
		p[at] = 0x80;
		assert_false(mem_is_zero(p, MIB));
		/* Equal bytes 64 apart are data all the same. */
		memset(p, 0x11, at + 1);
		assert_false(mem_is_zero(p, at + 1));
		memset(p, 0, at + 1);
	}
	p[MIB - 1] = 1;
	assert_false(mem_is_zero(p, MIB));
	assert_true(mem_is_zero(p, MIB - 1));
	free(p);
}

/* No byte past the end is read: the page there would end the test. */
static void test_nothing_past_the_end_is_read(void **state)
{
	uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + 4096, 4096, PROT_NONE), 0);
	for (size_t len = 0; len <= 4096; len++)
		assert_true(mem_is_zero(p + 4096 - len, len));
	munmap(p, 8192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero_is_told_from_data_at_every_offset_and_length),
		cmocka_unit_test(test_large_buffers_to_the_last_byte),
		cmocka_unit_test(test_nothing_past_the_end_is_read),
	};

	return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
