// SPDX-License-Identifier: BSD-2-Clause
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/util.h"

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

static void test_sizes_for_people(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{0, "0 B"},
		{1, "1 B"},
		{1023, "1023 B"},
		{KIB, "1 KiB"},
		{KIB + 1, "1 KiB"},
		{KIB + 52, "1.1 KiB"},
		{3 * KIB / 2, "1.5 KiB"},
		{20 * MIB - 1, "20 MiB"},
		{20 * MIB, "20 MiB"},
		{1023 * MIB + 900 * KIB, "1024 MiB"},
		{GIB - 1, "1 GiB"},
		{GIB * 1000, "1000 GiB"},
		{GIB * 1331, "1.3 TiB"},
		{UINT64_MAX, "16 EiB"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char text[FORMAT_BYTES];

		format_bytes(sizes[i].bytes, text);
		assert_string_equal(text, sizes[i].text);
	}
}

/* Every block device has a logical block; a partition's is that of its whole device. */
static void test_queue_limits(void **state)
{
	struct dirent *entry;
	unsigned found = 0;
	DIR *dir = opendir("/sys/dev/block");

	(void)state;
	while (dir && (entry = readdir(dir))) {
		unsigned major_number, minor_number;
		dev_t dev;

		if (sscanf(entry->d_name, "%u:%u", &major_number, &minor_number) != 2)
			continue;
		dev = makedev(major_number, minor_number);
		assert_in_range(block_queue_limit(dev, "logical_block_size"), 512, 64 * KIB);
		assert_int_equal(block_queue_limit(dev, "no_such_limit"), 0);
		found++;
	}
	if (dir)
		closedir(dir);
	assert_int_equal(block_queue_limit(makedev(0, 0), "logical_block_size"), 0);
	if (!found)
		skip();
}

/* Of a long path and its reason the path's ends and all of the reason stay. */
static void test_long_messages_keep_the_reason(void **state)
{
	char text[32], path[4096];
	struct error e = {"no such file: make one, or correct the path"};

	(void)state;
	strcpy(text, "0123456789");
	shorten(text, 10);
	assert_string_equal(text, "0123456789");
	shorten(text, 9);
	assert_string_equal(text, "01...6789");
	shorten(text, 8);
	assert_string_equal(text, "01...789");

	memset(path, 'd', sizeof(path));
	path[0] = '/';
	strcpy(path + sizeof(path) - sizeof("end"), "end");
	assert_int_equal(error_prefix(&e, -2, "disk %s", path), -2);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_memory_equal(e.msg, "disk /ddd", 9);
	assert_non_null(strstr(e.msg, "ddd...ddd"));
	assert_non_null(strstr(e.msg, "ddend: no such file: make one, or correct the path"));
	/* Once more, and a reason that is as long. */
	error_prefix(&e, -2, "%s", "--config");
	assert_memory_equal(e.msg, "--config: disk /ddd", 19);
	assert_non_null(strstr(e.msg, "ddend: no such file: make one, or correct the path"));
	error_set(&e, -2, "%s: no such file", path);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_non_null(strstr(e.msg, "ddend: no such file"));
	e.msg[0] = '\0';
	error_prefix(&e, -2, "%s", "short");
	assert_string_equal(e.msg, "short: No such file or directory");
}

static void test_terminals_get_nothing_to_obey(void **state)
{
	static const char *const pairs[][2] = {
		{"plain ~ \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		 "plain ~ \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\x1b]52;c;x\a\r\n\t\x7f", "?]52;c;x?????"},
		{"\xc2\x9b[2J", "??[2J"},				   /* CSI as UTF-8 */
		{"\x9b[2J \xe9", "?[2J ?"},				   /* and alone; Latin-1 */
		{"\xe2\x80\xae \xe2\x81\xa6 \xe2\x80\xa8", "??? ??? ???"}, /* RLO, LRI, LS */
		{"\xc0\x9b \xe0\x82\x9b \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ??? ????"},
		{"\xe2\x82", "??"}, /* cut */
		{"", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		char text[64];

		strcpy(text, pairs[i][0]);
		text_clean(text);
		assert_string_equal(text, pairs[i][1]);
	}
}

static void test_a_failed_open_has_a_remedy(void **state)
{
	static const struct open_failure usual, own = {.action = "make it",
						       .missing = "make its directory",
						       .denied = "ask its owner",
						       .read_only = ": choose another disk"};
	static const struct {
		int err;
		const char *usual, *own;
	} all[] = {
		{ENOENT, "no such file or directory", "make its directory"},
		{ENOTDIR, "no such file or directory", "make its directory"},
		{EACCES, "permission denied: change its mode or owner", "ask its owner"},
		{EPERM, "permission denied: change its mode or owner", "ask its owner"},
		{EROFS, "is on a read-only file system", "file system: choose another disk"},
		{ETXTBSY, "in use as swap", "in use as swap"},
		{EEXIST, "choose another name", "choose another name"},
		{EIO, "cannot open: Input/output error", "cannot make it: Input/output error"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct error e;

		assert_int_equal(error_open(&e, all[i].err, &usual), -all[i].err);
		assert_non_null(strstr(e.msg, all[i].usual));
		assert_int_equal(error_open(&e, all[i].err, &own), -all[i].err);
		assert_non_null(strstr(e.msg, all[i].own));
	}
	assert_int_equal(error_open(NULL, EIO, &usual), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero_is_told_from_data_at_every_offset_and_length),
		cmocka_unit_test(test_large_buffers_to_the_last_byte),
		cmocka_unit_test(test_nothing_past_the_end_is_read),
		cmocka_unit_test(test_sizes_for_people),
		cmocka_unit_test(test_queue_limits),
		cmocka_unit_test(test_long_messages_keep_the_reason),
		cmocka_unit_test(test_terminals_get_nothing_to_obey),
		cmocka_unit_test(test_a_failed_open_has_a_remedy),
	};

	return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
