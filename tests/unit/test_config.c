// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

static uint64_t random_u64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15; /* xorshift64 */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
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

static int set(struct vm_config *c, const char *name, const char *text, struct error *e)
{
	const struct setting *s = setting_find(c->settings, name, strlen(name));

	assert_non_null(s);
	return setting_set(c, s, text, e);
}

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
	assert_int_equal(c.memory, 512 * MIB);
	assert_int_equal(set(&c, "memory", "16T", &e), 0);
	assert_int_equal(set(&c, "memory", "0", &e), -ERANGE);
	assert_int_equal(set(&c, "memory", "17T", &e), -ERANGE);
	assert_int_equal(set(&c, "memory", "536870912", &e), -ERANGE); /* meant as bytes */
	assert_non_null(strstr(e.msg, "MiB"));
	assert_int_equal(set(&c, "memory", "3M", &e), -EINVAL);
	assert_non_null(strstr(e.msg, "4M"));

	assert_int_equal(set(&c, "kernel", "", &e), -EINVAL);
	assert_int_equal(set(&c, "sandbox", "no", &e), -EINVAL);
	assert_int_equal(set(&c, "sandbox", "off", &e), 0);
	assert_false(c.sandbox);
	config_destroy(&c);
	config_destroy(&c); /* idempotent */
	config_destroy(NULL);
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

/* JSON */

static int parse(struct vm_config *c, const char *text, struct error *e)
{
	return config_parse_json(c, text, strlen(text), "vm.json", e);
}

static void test_json_sets_everything(void **state)
{
	static const char text[] =
		"{\n"
		"  \"kernel\": \"/boot/vmlinuz\", \"initrd\": [\"i\", \"j\"], \"append\": "
		"\"quiet\",\n"
		"  \"cpus\": 4, \"memory\": \"1G\", \"kaslr\": false, \"mmio-cmdline\": true,\n"
		"  \"console\": \"file=log\", \"timeout\": 90, \"stop-timeout\": \"1.5m\",\n"
		"  \"result\": \"r\", \"cache\": false, \"sandbox\": false, \"verbose\": true,\n"
		"  \"quiet\": false, \"trap-registers\": true,\n"
		"  \"disks\": [{\"path\": \"a,b\"}, {\"path\": \"c\", \"readonly\": true,\n"
		"    \"ephemeral\": false,\n"
		"    \"serial\": \"S\", \"discard\": \"ignore\", \"cache\": \"none\",\n"
		"    \"engine\": \"uring\", \"queues\": 2}]\n"
		"}\n";
	struct vm_config c;
	struct error e = {""};

	(void)state;
	config_init(&c, vm_device_options);
	if (parse(&c, text, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(c.kernel, "/boot/vmlinuz");
	assert_string_equal(c.initrds[0], "i");
	assert_string_equal(c.initrds[1], "j");
	assert_null(c.initrds[2]);
	assert_string_equal(c.append, "quiet");
	assert_int_equal(c.cpus, 4);
	assert_int_equal(c.memory, GIB);
	assert_false(c.kaslr || c.cache || c.sandbox || c.quiet);
	assert_true(c.mmio_cmdline && c.verbose && c.trap_registers);
	assert_int_equal(console_config(&c)->mode, CONSOLE_FILE);
	assert_string_equal(console_config(&c)->path, "log");
	assert_int_equal(c.timeout_ns, 90 * NSEC_PER_SEC);
	assert_int_equal(c.stop_timeout_ns, 90 * NSEC_PER_SEC);
	assert_string_equal(c.result_path, "r");
	assert_int_equal(num_disks(&c), 2);
	assert_string_equal(disk_at(&c, 0)->path, "a,b");
	assert_int_equal(disk_at(&c, 0)->queues, 1);
	assert_true(disk_at(&c, 1)->readonly);
	assert_int_equal(disk_at(&c, 1)->cache, CACHE_NONE);
	assert_string_equal(disk_at(&c, 1)->serial, "S");
	assert_int_equal(disk_at(&c, 1)->discard, DISCARD_IGNORE);
	assert_int_equal(disk_at(&c, 1)->engine, ENGINE_URING);
	assert_int_equal(disk_at(&c, 1)->queues, 2);

	/* A second text replaces, and adds disks and the command line. */
	assert_int_equal(
		parse(&c, "{\"cpus\": 2, \"append\": \"x\", \"disks\": [{\"path\": \"d\"}]}", &e),
		0);
	assert_int_equal(c.cpus, 2);
	assert_string_equal(c.append, "quiet x");
	assert_int_equal(num_disks(&c), 3);
	config_destroy(&c);
}

static void test_json_errors_have_a_place_and_a_remedy(void **state)
{
	static const struct {
		const char *text, *place, *message;
	} bad[] = {
		{"", "vm.json:1:0", "expected"},
		{"{", "vm.json:1:1", "expected"},
		{"{\"cpus\": 1,}", "vm.json:1:12", "expected"},
		{"{} x", "vm.json:1:4", "end of file"},
		{"[]", "vm.json:1:1", "must be an object"},
		{"\n  3", "vm.json:2:3", "must be an object"},
		{"{\"cpus\": 1, \"cpus\": 2}", "vm.json:1:", "duplicate object key"},
		{"{\"kernel\": \"a\\u0000b\"}", "vm.json:1:", "NUL"},
		{"{\"kernel\": \"\xff\"}", "vm.json:1:", "decode"},
		{"{\"cpus\": 99999999999999999999}", "vm.json:1:", "too big integer"},
		{"{\"memory\": 1e999}", "vm.json:1:", "overflow"},
		{"{\"cpus\": 1}\n// no comments", "vm.json:2:", "end of file"},
		/* Found by skep, placed at the key. */
		{"{\"cpu\": 1}", "vm.json:1:2:", "did you mean 'cpus'"},
		{"{\"disk\": []}", "vm.json:1:2:", "did you mean 'disks'"},
		{"{\"help\": true}", "vm.json:1:2:", "unknown key 'help'"},
		{"{\"dry-run\": true}", "vm.json:1:2:", "unknown key"},
		{"{\"xyzzy\": {\"a\": [1,2,{}]}}", "vm.json:1:2:", "skep(1)"},
		{"{\n\t\"cpus\": 1,\n\t\"kernel\": 5\n}", "vm.json:3:2:", "must be a string"},
		{"{\"append\": \"},\\\"{[\", \"cpus\": 0}", "vm.json:1:22:", "from 1 to 64"},
		{"{\"append\": \"\xc3\xa4\xc3\xa4\", \"cpus\": -1}",
		 "vm.json:1:18:", "from 1 to 64"},
		{"{\"cpus\": 1.5}", "vm.json:1:2:", "whole number"},
		{"{\"cpus\": \"1\"}", "vm.json:1:2:", "whole number"},
		{"{\"cpus\": 4294967297}", "vm.json:1:2:", "from 1 to 64"},
		{"{\"memory\": -1}", "vm.json:1:2:", "is not a size"},
		{"{\"memory\": 9223372036854775807}", "vm.json:1:2:", "too large a size"},
		{"{\"timeout\": 1.5}", "vm.json:1:2:", "\"90s\""},
		{"{\"kaslr\": 1}", "vm.json:1:2:", "true or false"},
		{"{\"kaslr\": null}", "vm.json:1:2:", "true or false"},
		{"{\"kernel\": null}", "vm.json:1:2:", "must be a string"},
		{"{\"console\": \"tty\"}", "vm.json:1:2:", "none of stdio"},
		{"{\"disks\": {}}", "vm.json:1:2:", "array of objects"},
		{"{\"disks\": [\"a\"]}", "vm.json:1:12:", "must be an object"},
		{"{\"disks\": [{}]}", "vm.json:1:12:", "no \"path\""},
		{"{\"disks\": [{\"path\": \"a\"},\n {\"path\": \"\"}]}",
		 "vm.json:2:3:", "is empty"},
		{"{\"cpus\": 1, \"disks\": [{\"path\": \"a\"}, {\"path\": \"b\",\n\"readonli\": "
		 "1}]}",
		 "vm.json:2:1:", "did you mean 'readonly'"},
		{"{\"disks\": [{\"path\": \"a\", \"queues\": [[1]]}]}",
		 "vm.json:1:26:", "whole number"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {""};
		struct vm_config c;

		config_init(&c, vm_device_options);
		if (parse(&c, bad[i].text, &e) != -EINVAL &&
		    !strstr(bad[i].text, "9223372036854775807"))
			fail_msg("accepted: %s", bad[i].text);
		if (strncmp(e.msg, bad[i].place, strlen(bad[i].place)) != 0 ||
		    !strstr(e.msg, bad[i].message))
			fail_msg("%s gives: %s", bad[i].text, e.msg);
		config_destroy(&c);
	}
}

static void test_json_depth_is_bounded(void **state)
{
	enum { DEPTH = 1000000 };
	_cleanup_free_ char *text = malloc(2 * DEPTH + 16);
	struct error e = {""};
	struct vm_config c;

	(void)state;
	config_init(&c, vm_device_options);
	for (unsigned depth = 3; depth <= DEPTH; depth *= 10) {
		memcpy(text, "{\"cpus\":", 8);
		memset(text + 8, '[', depth);
		memset(text + 8 + depth, ']', depth);
		text[8 + 2 * depth] = '}';
		assert_int_equal(config_parse_json(&c, text, 9 + 2 * depth, "deep", &e), -EINVAL);
	}
	assert_non_null(strstr(e.msg, "depth"));
	/* A raw NUL, and a text that is not NUL-terminated. */
	assert_int_equal(config_parse_json(&c, "{}\0", 3, "nul", &e), -EINVAL);
	assert_int_equal(config_parse_json(&c, "{\"cpus\": 3}garbage", 11, "cut", &e), 0);
	assert_int_equal(c.cpus, 3);
	config_destroy(&c);
}

static char *random_text(bool path)
{
	static const char *const pieces[] = {"a", "/",	  ",", "\"", "\\", "\n", "=",
					     "{", "\x7f", "ä", "€",  " ",  "'",	 "\x01"};
	char text[200] = "";
	unsigned n = (unsigned)(random_u64() % 20) + path;

	for (unsigned i = 0; i < n; i++)
		strcat(text, pieces[random_u64() % ARRAY_SIZE(pieces)]);
	return strdup(text);
}

static void random_config(struct vm_config *c)
{
	struct console_config console = {0};
	uint64_t r = random_u64();

	config_init(c, vm_device_options);
	c->kernel = r & 1 ? random_text(true) : NULL;
	for (uint64_t i = 0, n = r & 2 ? 1 + random_u64() % 3 : 0; i < n; i++) {
		char *text = random_text(true);

		assert_int_equal(setting_set(c, setting_find(vm_settings, "initrd", 6), text, NULL),
				 0);
		free(text);
	}
	c->append = r & 4 ? random_text(true) : NULL;
	c->result_path = r & 8 ? random_text(true) : NULL;
	c->control_path = r & 16 ? random_text(true) : NULL;
	c->kaslr = r & 16;
	c->cache = r & 32;
	c->sandbox = r & 64;
	c->verbose = r & 128;
	c->quiet = r & 256;
	c->mmio_cmdline = r & 512;
	c->trap_registers = r & 1024;
	c->cpus = 1 + (unsigned)(random_u64() % CONFIG_MAX_CPUS);
	c->memory =
		(1 + random_u64() % (CONFIG_MAX_MEMORY / CONFIG_MEMORY_UNIT)) * CONFIG_MEMORY_UNIT;
	c->timeout_ns = (random_u64() & INT64_MAX) >> (random_u64() % 64);
	c->stop_timeout_ns = random_u64() % 100 * NSEC_PER_SEC;
	console.mode = (enum console_mode)(random_u64() % 3);
	if (console.mode == CONSOLE_FILE) {
		console.path = random_text(true);
		console.fresh = r & 2048;
	}
	assert_int_equal(config_add_device(c, &console_options, &console, NULL), 0);
	for (unsigned i = 0, n = (unsigned)(random_u64() % 5); i < n; i++) {
		struct disk_config d = {.path = random_text(true),
					.readonly = random_u64() & 1,
					.ephemeral = random_u64() & 1,
					.cache = (enum disk_cache)(random_u64() % 4),
					.block_size = (enum disk_block_size)(random_u64() % 3),
					.discard = (enum disk_discard)(random_u64() % 2),
					.detect_zeroes =
						(enum disk_detect_zeroes)(random_u64() % 2),
					.werror = (enum disk_werror)(random_u64() % 2),
					.bps = random_u64() >> (random_u64() % 64),
					.iops = (unsigned)(random_u64() % 1000000001),
					.burst_ns = random_u64() >> (1 + random_u64() % 63),
					.engine = (enum disk_engine)(random_u64() % 3),
					.pin = random_u64() & 1,
					.poll_ns = random_u64() >> (1 + random_u64() % 63),
					.queues = 1 + (unsigned)(random_u64() % BLK_MAX_QUEUES)};

		for (unsigned j = 0, len = (unsigned)(random_u64() % 21); j < len; j++)
			d.serial[j] = (char)(' ' + random_u64() % 95);
		assert_int_equal(config_add_device(c, &blk_options, &d, NULL), 0);
	}
}

static void assert_same_text(const char *a, const char *b)
{
	if (a && b)
		assert_string_equal(a, b);
	else
		assert_ptr_equal(a, b);
}

/* Every field. */
static void assert_same_config(const struct vm_config *a, const struct vm_config *b)
{
	assert_same_text(a->kernel, b->kernel);
	assert_int_equal(!a->initrds, !b->initrds);
	for (size_t i = 0; a->initrds && (i == 0 || a->initrds[i - 1]); i++)
		assert_same_text(a->initrds[i], b->initrds[i]);
	assert_same_text(a->append, b->append);
	assert_same_text(a->result_path, b->result_path);
	assert_same_text(a->control_path, b->control_path);
	assert_same_text(console_config(a)->path, console_config(b)->path);
	assert_int_equal(console_config(a)->fresh, console_config(b)->fresh);
	assert_int_equal(a->cpus, b->cpus);
	assert_int_equal(a->memory, b->memory);
	assert_int_equal(console_config(a)->mode, console_config(b)->mode);
	assert_int_equal(a->timeout_ns, b->timeout_ns);
	assert_int_equal(a->stop_timeout_ns, b->stop_timeout_ns);
	assert_int_equal(a->kaslr, b->kaslr);
	assert_int_equal(a->cache, b->cache);
	assert_int_equal(a->mmio_cmdline, b->mmio_cmdline);
	assert_int_equal(a->trap_registers, b->trap_registers);
	assert_int_equal(a->sandbox, b->sandbox);
	assert_int_equal(a->verbose, b->verbose);
	assert_int_equal(a->quiet, b->quiet);
	assert_int_equal(num_disks(a), num_disks(b));
	for (size_t i = 0; i < num_disks(a); i++) {
		assert_string_equal(disk_at(a, i)->path, disk_at(b, i)->path);
		assert_string_equal(disk_at(a, i)->serial, disk_at(b, i)->serial);
		assert_int_equal(disk_at(a, i)->readonly, disk_at(b, i)->readonly);
		assert_int_equal(disk_at(a, i)->ephemeral, disk_at(b, i)->ephemeral);
		assert_int_equal(disk_at(a, i)->cache, disk_at(b, i)->cache);
		assert_int_equal(disk_at(a, i)->block_size, disk_at(b, i)->block_size);
		assert_int_equal(disk_at(a, i)->discard, disk_at(b, i)->discard);
		assert_int_equal(disk_at(a, i)->detect_zeroes, disk_at(b, i)->detect_zeroes);
		assert_int_equal(disk_at(a, i)->werror, disk_at(b, i)->werror);
		assert_int_equal(disk_at(a, i)->bps, disk_at(b, i)->bps);
		assert_int_equal(disk_at(a, i)->iops, disk_at(b, i)->iops);
		assert_int_equal(disk_at(a, i)->burst_ns, disk_at(b, i)->burst_ns);
		assert_int_equal(disk_at(a, i)->engine, disk_at(b, i)->engine);
		assert_int_equal(disk_at(a, i)->pin, disk_at(b, i)->pin);
		assert_int_equal(disk_at(a, i)->poll_ns, disk_at(b, i)->poll_ns);
		assert_int_equal(disk_at(a, i)->queues, disk_at(b, i)->queues);
	}
}

static void test_json_round_trips(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		_cleanup_free_ char *text = NULL, *again = NULL;
		struct vm_config a, b;
		struct error e = {""};

		random_config(&a);
		text = config_to_json(&a);
		assert_non_null(text);
		config_init(&b, vm_device_options);
		if (parse(&b, text, &e) < 0)
			fail_msg("%s in:\n%s", e.msg, text);
		assert_same_config(&a, &b);
		again = config_to_json(&b);
		assert_string_equal(text, again);
		config_destroy(&a);
		config_destroy(&b);
	}
}

static void test_json_cannot_hold_other_bytes(void **state)
{
	struct vm_config c;

	(void)state;
	config_init(&c, vm_device_options);
	c.kernel = strdup("\xff");
	assert_null(config_to_json(&c));
	config_destroy(&c);
	config_init(&c, vm_device_options);
	assert_int_equal(add_disk(&c, "a", NULL), 0);
	assert_int_equal(add_disk(&c, "\xc3(", NULL), 0);
	assert_null(config_to_json(&c));
	config_destroy(&c);
}

/* Devices of types that skep has not: one at most with sub-options, several from a text. */

struct thing {
	char *path;
	unsigned size;
};

static const struct setting thing_settings[] = {
	{"path", .arg = "PATH", STRING_FIELD(thing, path)},
	{"size", .arg = "N", COUNT_FIELD(thing, size), .max = 9},
	{.name = NULL},
};

static int parse_thing(void *config, const char *text, struct error *e)
{
	return setting_set(config, thing_settings, text, e);
}

static char *format_thing(const void *config)
{
	return strdup(((const struct thing *)config)->path);
}

static const struct device_options one_thing = {
	.name = "thing",
	.what = "the thing",
	.max = 1,
	.option = {.arg = "PATH[,OPTION...]", .help = "a thing"},
	.size = sizeof(struct thing),
	.defaults = &(const struct thing){.size = 3},
	.settings = thing_settings,
};

static const struct device_options texts = {
	.name = "text",
	.plural = "texts",
	.what = "a text",
	.max = 2,
	.option = {.arg = "PATH", .help = "a text"},
	.size = sizeof(struct thing),
	.defaults = &(const struct thing){.size = 4},
	.settings = thing_settings,
	.parse = parse_thing,
	.format = format_thing,
};

static void test_devices_of_any_type(void **state)
{
	static const struct device_options *const types[] = {&texts, &one_thing, NULL};
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"{\"thing\": \"a\"}", "1:2: the thing must be an object: {\"path\": ...}"},
		{"{\"thing\": {\"size\": 1}}", "1:2: this thing has no \"path\""},
		{"{\"thing\": {\"path\": \"\"}}", "1:12: path: is empty"},
		{"{\"texts\": \"a\"}", "1:2: 'texts' must be an array of strings"},
		{"{\"texts\": [\"a\", 1]}", "1:17: 'text' must be a string"},
		{"{\"texts\": [\"a\", \"b\"]}", "1:12: text: more than 2 texts"},
		{"{\"text\": \"a\"}", "did you mean 'texts'"},
		{"{\"disks\": []}", "unknown key 'disks'"},
	};
	_cleanup_free_ char *text = NULL;
	const struct thing *things;
	struct error e = {""};
	struct vm_config c;
	size_t num;

	(void)state;
	assert_int_equal(config_init(&c, types), 0);
	things = config_devices(&c, &one_thing, &num);
	assert_true(num == 1 && things->size == 3 && !things->path);
	config_devices(&c, &texts, &num);
	assert_int_equal(num, 0);

	assert_int_equal(set(&c, "thing", "a,size=5", &e), 0);
	assert_int_equal(set(&c, "thing", "b,size=10", &e), -EINVAL);
	assert_int_equal(parse(&c, "{\"thing\": {\"path\": \"b\"}, \"texts\": [\"x\"]}", &e), 0);
	things = config_devices(&c, &one_thing, &num); /* the last one counts */
	assert_true(num == 1 && things->size == 3);
	assert_string_equal(things->path, "b");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		parse(&c, bad[i].text, &e);
		if (!strstr(e.msg, bad[i].message))
			fail_msg("%s gives: %s", bad[i].text, e.msg);
	}
	things = config_devices(&c, &texts, &num);
	assert_int_equal(num, 2);
	assert_string_equal(things[1].path, "a");
	assert_true(things[0].size == 4 && things[1].size == 4);
	text = config_to_json(&c);
	assert_non_null(strstr(text, "\"texts\": [\n    \"x\",\n    \"a\"\n  ]\n}"));
	config_destroy(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes_and_durations_format_exactly),
		cmocka_unit_test(test_settings_check_their_range),
		cmocka_unit_test(test_console_forms),
		cmocka_unit_test(test_append_adds),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_bad_disks_say_what_is_wrong),
		cmocka_unit_test(test_suggestions),
		cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_json_sets_everything),
		cmocka_unit_test(test_json_errors_have_a_place_and_a_remedy),
		cmocka_unit_test(test_json_depth_is_bounded),
		cmocka_unit_test(test_json_round_trips),
		cmocka_unit_test(test_json_cannot_hold_other_bytes),
		cmocka_unit_test(test_devices_of_any_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
