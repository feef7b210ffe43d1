// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config/units.h"
#include "config_fixture.h"

/* Text forms */

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t unit, bytes;
	} good[] = {
		{"0", 1, 0},
		{"512", 1, 512},
		{"512", MIB, 512 * MIB},
		{"512M", 1, 512 * MIB},
		{"512m", 1, 512 * MIB},
		{"512MiB", 1, 512 * MIB},
		{"1.5gib", 1, GIB + GIB / 2},
		{"7KiB", 1, 7 * KIB},
		{"1TiB", 1, 1024 * GIB},
		{"4G", MIB, 4 * GIB},
		{"1.5G", 1, GIB + GIB / 2},
		{"0.5K", 1, 512},
		{"2T", 1, 2048 * GIB},
		{"7B", MIB, 7},
		{"1.50000000000000000000000000000000K", 1, 1536},
		{"18446744073709551615B", 1, UINT64_MAX},
		{"00000000000000000000000000000000001K", 1, 1024},
	};
	static const struct {
		const char *text;
		int code;
	} bad[] = {
		{"", -EINVAL},
		{"M", -EINVAL},
		{"-5", -EINVAL},
		{"+5", -EINVAL},
		{" 5", -EINVAL},
		{"5 ", -EINVAL},
		{"5MB", -EINVAL},
		{"5iB", -EINVAL},
		{"5X", -EINVAL},
		{"1.", -EINVAL},
		{".5G", -EINVAL},
		{"1.5", -EINVAL},
		{"0x10", -EINVAL},
		{"1e9", -EINVAL},
		{"1.5.5G", -EINVAL},
		{"16777216T", -ERANGE},
		{"1,5G", -EINVAL},
		{"99999999999999999999", -ERANGE},
		{"18446744073709551616B", -ERANGE},
		{"99999999999999999999x", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t bytes = 1;

		assert_int_equal(config_parse_size(good[i].text, good[i].unit, &bytes, NULL), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t bytes = 42;
		struct error e = {""};

		if (config_parse_size(bad[i].text, 1, &bytes, &e) != bad[i].code)
			fail_msg("'%s'", bad[i].text);
		assert_int_equal(bytes, 42);
		assert_non_null(strstr(e.msg, bad[i].text));
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{"0", 0},
		{"90", 90 * NSEC_PER_SEC},
		{"90s", 90 * NSEC_PER_SEC},
		{"5m", 300 * NSEC_PER_SEC},
		{"5min", 300 * NSEC_PER_SEC},
		{"1.5h", 5400 * NSEC_PER_SEC},
		{"250ms", 250000000},
		{"1.5", NSEC_PER_SEC * 3 / 2},
		{"3us", 3000},
		{"7ns", 7},
		{"0.000000001s", 1},
		{"9223372036854775807ns", INT64_MAX},
	};
	static const char *const bad[] = {"",	   "s",	   "-1s", "5 s", "5d",
					  "1.5ns", "soon", "inf", "nan"};
	uint64_t ns = 42;
	struct error e = {""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(config_parse_duration(good[i].text, &ns, NULL), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(config_parse_duration(bad[i], &ns, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "90s"));
	assert_int_equal(config_parse_duration("9223372036854775808ns", &ns, &e), -ERANGE);
	assert_int_equal(config_parse_duration("99999999h", &ns, &e), -ERANGE);
}

static void test_sizes_and_durations_format_exactly(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t value = random_u64() >> (random_u64() % 64), back = ~value;
		char text[32];

		value -= value % (1 + random_u64() % 5000000);
		setting_format_size(value, text);
		assert_int_equal(config_parse_size(text, MIB, &back, NULL), 0);
		assert_int_equal(back, value);
		value &= INT64_MAX;
		setting_format_duration(value, text);
		assert_int_equal(config_parse_duration(text, &back, NULL), 0);
		assert_int_equal(back, value);
	}
}

/* Settings */

static void test_settings_check_their_range(void **state)
{
	struct vm_config c;
	struct error e;

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(set(&c, "cpus", "64", &e), 0);
	assert_int_equal(c.cpus, 64);
	for (unsigned i = 0; i < 8; i++) {
		static const char *const bad[] = {"0",	"65", "-1",  "4294967297",
						  "1x", "",   "1.5", "18446744073709551617"};

		assert_int_equal(set(&c, "cpus", bad[i], &e), -EINVAL);
		assert_non_null(strstr(e.msg, "from 1 to 64"));
	}
	assert_int_equal(c.cpus, 64);

	assert_int_equal(set(&c, "memory", "512", &e), 0);
	assert_int_equal(c.memory.start, 512 * MIB);
	assert_int_equal(set(&c, "memory", "16T", &e), 0);
	assert_int_equal(set(&c, "memory", "0", &e), -ERANGE);
	assert_int_equal(set(&c, "memory", "17T", &e), -ERANGE);
	assert_int_equal(set(&c, "memory", "536870912", &e), -ERANGE); /* meant as bytes */
	assert_non_null(strstr(e.msg, "MiB"));
	assert_int_equal(set(&c, "memory", "3M", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "4M"));

	assert_int_equal(set(&c, "memory", "4096", &e), 0);
	assert_int_equal(c.memory.max, 4 * GIB);

	assert_int_equal(set(&c, "kernel", "", &e), -EINVAL);
	assert_int_equal(set(&c, "sandbox", "no", &e), -EINVAL);
	assert_int_equal(set(&c, "sandbox", "off", &e), 0);
	assert_false(c.sandbox);
	config_destroy(&c);
	config_destroy(&c); /* idempotent */
	config_destroy(NULL);
}

static void test_memory_that_grows(void **state)
{
	static const char *const bad[] = {
		"max=8G",      "start=1G,start=2G", "start=8G,max=1G", "1G,max=8G",
		"start=1G,8G", "start=1G,max=17T",  "max=3M,start=2M", "start=,max=8G",
		"size=1G",     "start=1G,max=8G,",
	};
	struct vm_config c;
	struct error e;

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(set(&c, "memory", "max=8G,start=1G", &e), 0);
	assert_int_equal(c.memory.start, GIB);
	assert_int_equal(c.memory.max, 8 * GIB);
	assert_int_equal(set(&c, "memory", "start=512,max=512", &e), 0);
	assert_int_equal(c.memory.start, 512 * MIB);
	assert_int_equal(c.memory.max, 512 * MIB);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (set(&c, "memory", bad[i], &e) >= 0 || !e.msg[0])
			fail_msg("%s is taken", bad[i]);
	assert_int_equal(c.memory.start, 512 * MIB);
	config_destroy(&c);
}

static void test_console_forms(void **state)
{
	struct vm_config c;
	struct error e;

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(set(&c, "console", "file=/tmp/a", &e), 0);
	assert_int_equal(console_config(&c)->mode, CONSOLE_FILE);
	assert_string_equal(console_config(&c)->path, "/tmp/a");
	assert_false(console_config(&c)->fresh);
	assert_int_equal(set(&c, "console", "fresh-file=/tmp/a", &e), 0);
	assert_true(console_config(&c)->fresh);
	assert_string_equal(console_config(&c)->path, "/tmp/a");
	assert_int_equal(set(&c, "console", "file=/tmp/a", &e), 0);
	assert_false(console_config(&c)->fresh);
	assert_int_equal(set(&c, "console", "file=", &e), -EINVAL);
	assert_int_equal(set(&c, "console", "fresh-file=", &e), -EINVAL);
	assert_int_equal(set(&c, "console", "fresh-off", &e), -EINVAL);
	assert_int_equal(set(&c, "console", "tty", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "stdio"));
	assert_string_equal(console_config(&c)->path, "/tmp/a");
	assert_int_equal(set(&c, "console", "off", &e), 0);
	assert_int_equal(console_config(&c)->mode, CONSOLE_OFF);
	assert_null(console_config(&c)->path);
	config_destroy(&c);
}

static void test_append_adds(void **state)
{
	struct vm_config c;

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(set(&c, "append", "quiet", NULL), 0);
	assert_int_equal(set(&c, "append", "", NULL), 0);
	assert_int_equal(set(&c, "append", "init=/bin/sh", NULL), 0);
	assert_string_equal(c.append, "quiet init=/bin/sh");
	config_destroy(&c);
}

static void test_disks(void **state)
{
	struct vm_config c;
	struct error e;

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(add_disk(&c, "a.img", &e), 0);
	assert_int_equal(
		add_disk(&c,
			 "/x,,y,,.img,ephemeral,readonly,serial=S 1,discard=ignore,cache=none,"
			 "block-size=4096,engine=sync,queues=16",
			 &e),
		0);
	assert_int_equal(add_disk(&c,
				  ",,,cache=unsafe,detect-zeroes=unmap,werror=enospc-pause,"
				  "bps=1.5M,iops=200,burst=2s,pin,poll=50us",
				  &e),
			 0); /* the path is "," */
	assert_int_equal(num_disks(&c), 3);
	assert_string_equal(disk_at(&c, 0)->path, "a.img");
	assert_string_equal(disk_at(&c, 0)->serial, "");
	assert_false(disk_at(&c, 0)->readonly || disk_at(&c, 0)->ephemeral);
	assert_int_equal(disk_at(&c, 0)->cache, CACHE_WRITEBACK);
	assert_int_equal(disk_at(&c, 0)->discard, DISCARD_UNMAP);
	assert_int_equal(disk_at(&c, 0)->engine, ENGINE_AUTO);
	assert_int_equal(disk_at(&c, 0)->block_size, BLOCK_SIZE_AUTO);
	assert_int_equal(disk_at(&c, 0)->detect_zeroes, DETECT_ZEROES_OFF);
	assert_int_equal(disk_at(&c, 0)->werror, WERROR_REPORT);
	assert_int_equal(disk_at(&c, 0)->bps, 0);
	assert_int_equal(disk_at(&c, 0)->iops, 0);
	assert_int_equal(disk_at(&c, 0)->burst_ns, NSEC_PER_SEC / 10);
	assert_int_equal(disk_at(&c, 0)->queues, 1);
	assert_false(disk_at(&c, 0)->pin);
	assert_int_equal(disk_at(&c, 0)->poll_ns, 0);
	assert_string_equal(disk_at(&c, 1)->path, "/x,y,.img");
	assert_string_equal(disk_at(&c, 1)->serial, "S 1");
	assert_true(disk_at(&c, 1)->readonly && disk_at(&c, 1)->ephemeral);
	assert_int_equal(disk_at(&c, 1)->cache, CACHE_NONE);
	assert_int_equal(disk_at(&c, 1)->block_size, BLOCK_SIZE_4096);
	assert_int_equal(disk_at(&c, 1)->discard, DISCARD_IGNORE);
	assert_int_equal(disk_at(&c, 1)->engine, ENGINE_SYNC);
	assert_int_equal(disk_at(&c, 1)->queues, 16);
	assert_string_equal(disk_at(&c, 2)->path, ",");
	assert_int_equal(disk_at(&c, 2)->detect_zeroes, DETECT_ZEROES_UNMAP);
	assert_int_equal(disk_at(&c, 2)->werror, WERROR_ENOSPC_PAUSE);
	assert_int_equal(disk_at(&c, 2)->cache, CACHE_UNSAFE);
	assert_int_equal(disk_at(&c, 2)->bps, 3 * MIB / 2);
	assert_int_equal(disk_at(&c, 2)->iops, 200);
	assert_int_equal(disk_at(&c, 2)->burst_ns, 2 * NSEC_PER_SEC);
	assert_true(disk_at(&c, 2)->pin);
	assert_int_equal(disk_at(&c, 2)->poll_ns, 50000);
	config_destroy(&c);
}

static void test_bad_disks_say_what_is_wrong(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", "path"},
		{",readonly", "path"},
		{"a,", "unknown option ''"},
		{"a,read-only", "did you mean 'readonly'"},
		{"a,ro", "comma in the path"},
		{"a,b.img", "comma in the path"},
		{"a,path=b", "unknown option"},
		{"a,readonly=on", "takes no value"},
		{"a,serial", "serial=S"},
		{"a,serial=123456789012345678901", "longer than 20"},
		{"a,serial=\xc3\xa4", "printable"},
		{"a,engine=uringg", "did you mean 'uring'"},
		{"a,engine=", "auto|uring|sync"},
		{"a,queues=0", "from 1 to 16"},
		{"a,queues=17", "from 1 to 16"},
		{"a,detect-zeroes=on", "off|unmap"},
		{"a,block-size=1024", "auto|512|4096"},
		{"a,werror=enospc", "did you mean"},
		{"a,cache=none,readonly,cache=none", "given twice"},
		{"a,cache=writeback,cache=none", "given twice"},
		{"a,cache=writetrough", "did you mean 'writethrough'"},
		{"a,cache", "cache=writeback|writethrough|none|unsafe"},
		{"a,bps=fast", "not a size"},
		{"a,iops=1000000001", "from 0 to 1000000000"},
		{"a,burst=1x", "not a time"},
		{"a,pin=on", "takes no value"},
	};
	struct vm_config c;

	(void)state;
	config_init(&c, vm_device_options);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {""};

		assert_int_equal(add_disk(&c, bad[i].text, &e), -EINVAL);
		if (!strstr(e.msg, bad[i].message))
			fail_msg("'%s' gives: %s", bad[i].text, e.msg);
	}
	assert_int_equal(num_disks(&c), 0);
	for (unsigned i = 0; i < BLK_MAX_DISKS; i++)
		assert_int_equal(add_disk(&c, "a", NULL), 0);
	assert_int_equal(add_disk(&c, "a", NULL), -EINVAL);
	config_destroy(&c);
}

static void test_suggestions(void **state)
{
	static const struct {
		const char *word, *best;
	} words[] = {
		{"kernal", "kernel"}, {"kernle", "kernel"}, {"KERNEL", "kernel"}, {"mem", "memory"},
		{"memroy", "memory"}, {"cpu", "cpus"},	    {"xyzzy", NULL},	  {"", NULL},
		{"initramfs", NULL},  {"a", NULL},
	};

	struct vm_config c;

	(void)state;
	config_init(&c, vm_device_options);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		struct suggest s = {.word = words[i].word};

		for (const struct setting *t = c.settings; t->name; t++)
			suggest_try(&s, t->name);
		if (words[i].best)
			assert_string_equal(s.best, words[i].best);
		else
			assert_null(s.best);
	}
	config_destroy(&c);
}

/* The whole */

static void test_contradictions(void **state)
{
	struct vm_config c;
	struct error e = {""};

	(void)state;
	config_init(&c, vm_device_options);
	assert_int_equal(config_validate(&c, &e), 0);
	assert_int_equal(add_disk(&c, "a.img", &e), 0);
	assert_int_equal(add_disk(&c, "b.img", &e), 0);
	assert_int_equal(config_validate(&c, &e), 0);

	/* The result would truncate a disk. */
	assert_int_equal(set(&c, "result", "b.img", &e), 0);
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "b.img"));
	assert_int_equal(set(&c, "result", "r.json", &e), 0);
	assert_int_equal(set(&c, "console", "file=a.img", &e), 0);
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_int_equal(set(&c, "console", "file=log", &e), 0);
	assert_int_equal(config_validate(&c, &e), 0);

	/* Twice the same image, unless nobody writes it. */
	assert_int_equal(add_disk(&c, "a.img,readonly", &e), 0);
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	disk_at(&c, 0)->readonly = true;
	assert_int_equal(config_validate(&c, &e), 0);

	/* Or its writes are thrown away. */
	disk_at(&c, 0)->readonly = false;
	disk_at(&c, 0)->ephemeral = true;
	assert_int_equal(config_validate(&c, &e), 0);
	disk_at(&c, 0)->readonly = true;
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "a.img"));
	disk_at(&c, 0)->readonly = false;
	for (disk_at(&c, 0)->cache = CACHE_WRITETHROUGH; disk_at(&c, 0)->cache <= CACHE_UNSAFE;
	     disk_at(&c, 0)->cache++) {
		assert_int_equal(config_validate(&c, &e), -EINVAL);
		assert_non_null(strstr(e.msg, "`cache`"));
	}
	disk_at(&c, 0)->cache = CACHE_WRITEBACK;
	assert_int_equal(config_validate(&c, &e), 0);

	c.verbose = c.quiet = true;
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	c.quiet = false;
	assert_int_equal(config_validate(&c, &e), 0);
	disk_at(&c, 1)->detect_zeroes = DETECT_ZEROES_UNMAP;
	assert_int_equal(config_validate(&c, &e), 0);
	disk_at(&c, 1)->discard = DISCARD_IGNORE;
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "disk 2 (b.img): detect-zeroes=unmap"));
	disk_at(&c, 1)->discard = DISCARD_UNMAP;
	disk_at(&c, 1)->pin = true;
	assert_int_equal(config_validate(&c, &e), 0);
	disk_at(&c, 1)->engine = ENGINE_SYNC;
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "disk 2 (b.img): pin is for io_uring"));
	disk_at(&c, 1)->pin = false;
	disk_at(&c, 1)->poll_ns = BLK_MAX_POLL_NS;
	assert_int_equal(config_validate(&c, &e), 0);
	disk_at(&c, 1)->poll_ns++;
	assert_int_equal(config_validate(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "poll is longer than 10ms"));
	config_destroy(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes_and_durations_format_exactly),
		cmocka_unit_test(test_settings_check_their_range),
		cmocka_unit_test(test_memory_that_grows),
		cmocka_unit_test(test_console_forms),
		cmocka_unit_test(test_append_adds),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_bad_disks_say_what_is_wrong),
		cmocka_unit_test(test_suggestions),
		cmocka_unit_test(test_contradictions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
