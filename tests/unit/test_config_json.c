// SPDX-License-Identifier: BSD-2-Clause
/* The configuration as JSON, and devices of types that tests make up. */
#include <errno.h>

#include "base/util.h"
#include "config_fixture.h"

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
	assert_int_equal(c.memory.start, GIB);
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
	if (r & 8192)
		strcpy(c->name, "a.b-c");
	c->kaslr = r & 16;
	c->cache = r & 32;
	c->sandbox = r & 64;
	c->verbose = r & 128;
	c->quiet = r & 256;
	c->mmio_cmdline = r & 512;
	c->trap_registers = r & 1024;
	c->cpus = 1 + (unsigned)(random_u64() % CONFIG_MAX_CPUS);
	c->memory.start = c->memory.max =
		(1 + random_u64() % (CONFIG_MAX_MEMORY / CONFIG_MEMORY_UNIT)) * CONFIG_MEMORY_UNIT;
	if (r & 4096)
		c->memory.start = (1 + random_u64() % (c->memory.max / CONFIG_MEMORY_UNIT)) *
				  CONFIG_MEMORY_UNIT;
	c->timeout_ns = (random_u64() & INT64_MAX) >> (random_u64() % 64);
	c->stop_timeout_ns = random_u64() % 100 * NSEC_PER_SEC;
	console.mode = (enum console_mode)(random_u64() % (CONSOLE_OFF + 1));
	if (console.mode == CONSOLE_FILE || console.mode == CONSOLE_SOCKET)
		console.path = random_text(true);
	console.fresh = console.mode == CONSOLE_FILE && r & 2048;
	if (console.mode == CONSOLE_FILE && r & 4096)
		console.max_size =
			CONSOLE_MIN_SIZE + (random_u64() >> (random_u64() % 64)) % (1ull << 60);
	console.fd = console.mode == CONSOLE_FD ? 3 + (unsigned)(random_u64() % 100) : 0;
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
	assert_string_equal(a->name, b->name);
	assert_same_text(console_config(a)->path, console_config(b)->path);
	assert_int_equal(console_config(a)->fresh, console_config(b)->fresh);
	assert_int_equal(a->cpus, b->cpus);
	assert_int_equal(a->memory.start, b->memory.start);
	assert_int_equal(a->memory.max, b->memory.max);
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
		cmocka_unit_test(test_json_sets_everything),
		cmocka_unit_test(test_json_errors_have_a_place_and_a_remedy),
		cmocka_unit_test(test_json_depth_is_bounded),
		cmocka_unit_test(test_json_round_trips),
		cmocka_unit_test(test_json_cannot_hold_other_bytes),
		cmocka_unit_test(test_devices_of_any_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
