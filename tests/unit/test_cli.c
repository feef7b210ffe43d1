// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli_fixture.h"

static char dir[] = "/tmp/skep-test-cli-XXXXXX";

static void write_file(const char *name, const char *text)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_commands(void **state)
{
	struct error e = {""};

	(void)state;
	assert_ptr_equal(command_find("run", &e), &command_run);
	assert_ptr_equal(command_find("check", &e), &command_check);
	assert_ptr_equal(command_find("--help", &e), &command_help);
	assert_ptr_equal(command_find("-V", &e), &command_version);
	assert_null(command_find("rnu", &e));
	assert_string_equal(e.msg, "unknown command 'rnu': did you mean 'run'?");
	assert_null(command_find("comp", &e)); /* not listed, not suggested */
	assert_null(strstr(e.msg, "complete"));
	assert_null(command_find("--kernel", &e));
	assert_non_null(strstr(e.msg, "unknown option"));
}

static void test_defaults(void **state)
{
	struct run_options o;

	(void)state;
	assert_int_equal(cli_parse_run(0, NULL, &o, NULL), 0);
	assert_int_equal(o.config.cpus, 1);
	assert_int_equal(o.config.memory.start, 256 * MIB);
	assert_int_equal(o.config.stop_timeout_ns, 30 * NSEC_PER_SEC);
	assert_true(o.config.kaslr && o.config.cache && o.config.sandbox);
	assert_false(o.config.verbose || o.dry_run);
	assert_null(o.config.kernel);
	run_options_destroy(&o);
	run_options_destroy(NULL);
}

static void test_a_command_is_what_follows_the_dashes(void **state)
{
	char *argv[] = {"-c", "3", "--", "--help", "", "--", "-v\n\xff"};
	struct run_options o;

	(void)state;
	assert_int_equal(cli_parse_run(ARRAY_SIZE(argv), argv, &o, NULL), 0);
	assert_int_equal(o.config.cpus, 3);
	assert_true(o.config.memory.start <= 4 * GIB &&
		    IS_ALIGNED(o.config.memory.start, CONFIG_MEMORY_UNIT));
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(o.config.command[i], argv[3 + i]);
	assert_null(o.config.command[4]);
	run_options_destroy(&o);
	assert_int_equal(cli_parse_run(2, (char *[]){"--", "ls"}, &o, NULL), 0);
	assert_in_range(o.config.cpus, 1, 8);
	run_options_destroy(&o);
}

static void test_every_spelling(void **state)
{
	struct run_options o;

	(void)state;
	assert_int_equal(cli_parse_run(ARGS("-k", "K", "--initrd=I", "-i", "J", "-aquiet",
					    "--append", "--x", "-vc4", "-m", "1G", "-d", "a",
					    "--disk=b,readonly", "--console", "off", "--timeout=5m",
					    "--no-kaslr", "--no-cache", "--mmio-cmdline",
					    "--trap-registers", "--sandbox=off", "--dry-run"),
				       &o, NULL),
			 0);
	assert_string_equal(o.config.kernel, "K");
	assert_string_equal(o.config.initrds[0], "I");
	assert_string_equal(o.config.initrds[1], "J");
	assert_null(o.config.initrds[2]);
	assert_string_equal(o.config.append, "quiet --x");
	assert_true(o.config.verbose && o.config.mmio_cmdline && o.config.trap_registers);
	assert_true(o.dry_run);
	assert_false(o.config.kaslr || o.config.cache || o.config.sandbox);
	assert_int_equal(o.config.cpus, 4);
	assert_int_equal(o.config.memory.start, GIB);
	assert_int_equal(num_disks(&o.config), 2);
	assert_true(disk_at(&o.config, 1)->readonly);
	assert_int_equal(console_config(&o.config)->mode, CONSOLE_OFF);
	assert_int_equal(o.config.timeout_ns, 300 * NSEC_PER_SEC);
	run_options_destroy(&o);
}

static void test_last_one_counts(void **state)
{
	struct run_options o;

	(void)state;
	assert_int_equal(
		cli_parse_run(ARGS("-c2", "--no-kaslr", "-k", "a", "--mmio-cmdline", "-v", "-c3",
				   "--kaslr", "-k", "b", "--no-mmio-cmdline", "--no-verbose"),
			      &o, NULL),
		0);
	assert_int_equal(o.config.cpus, 3);
	assert_true(o.config.kaslr);
	assert_false(o.config.mmio_cmdline || o.config.verbose);
	assert_string_equal(o.config.kernel, "b");
	run_options_destroy(&o);
}

static void test_help_stops_parsing(void **state)
{
	struct run_options o;
	struct error e = {""};

	(void)state;
	assert_int_equal(cli_parse_run(ARGS("-c2", "--help", "--nonsense"), &o, &e), -EHELP);
	assert_string_equal(e.msg, "");
	run_options_destroy(&o);
}

static void test_wrong_usage_has_a_remedy(void **state)
{
	static const struct {
		const char *args[3];
		int code;
		const char *message;
	} bad[] = {
		{{"--kernal"}, -EINVAL, "unknown option '--kernal': did you mean '--kernel'?"},
		{{"--no-kasl"}, -EINVAL, "did you mean '--no-kaslr'?"},
		{{"--kasl"}, -EINVAL, "did you mean '--no-kaslr'?"},
		{{"--xyzzy=1"}, -EINVAL, "unknown option '--xyzzy': 'skep help run'"},
		{{"--no-kernel"}, -EINVAL, "unknown option"},
		{{"--no-sandbox"}, -EINVAL, "did you mean '--sandbox'?"},
		{{"--no-"}, -EINVAL, "unknown option"},
		{{"-z"}, -EINVAL, "unknown option '-z'"},
		{{"-vz"}, -EINVAL, "unknown option '-z'"},
		{{"--kernel"}, -EINVAL, "--kernel needs a value: --kernel FILE"},
		{{"-k"}, -EINVAL, "--kernel needs a value"},
		{{"-vk"}, -EINVAL, "--kernel needs a value"},
		{{"--kernel="}, -EINVAL, "--kernel: is empty"},
		{{"--dry-run=yes"}, -EINVAL, "--dry-run takes no value"},
		{{"--no-kaslr=1"}, -EINVAL, "--no-kaslr takes no value"},
		{{"vmlinux"}, -EINVAL, "unexpected argument 'vmlinux'"},
		{{"vmlinux", "--", "ls"}, -EINVAL, "unexpected argument 'vmlinux'"},
		{{"vmlinux", "-v"}, -EINVAL, "a command after --"},
		{{"--command=ls"}, -EINVAL, "unknown option '--command'"},
		{{"-"}, -EINVAL, "unexpected argument '-'"},
		{{"-c", "0"}, -EINVAL, "--cpus: '0' is not a number from 1 to 64"},
		{{"-c", "-1"}, -EINVAL, "--cpus: '-1' is not"},
		{{"-c", "99999999999999999999"}, -EINVAL, "from 1 to 64"},
		{{"-m", "-5"}, -EINVAL, "--memory: '-5' is not a size"},
		{{"-m", "99999999999T"}, -ERANGE, "too large"},
		{{"-m", "lots"}, -EINVAL, "write it like 512M"},
		{{"-d", "a,redonly"},
		 -EINVAL,
		 "--disk: unknown option 'redonly': did you mean 'readonly'?"},
		{{"-d", "a,queues=99"},
		 -EINVAL,
		 "--disk: queues: '99' is not a number from 1 to 16"},
		{{"--sandbox=maybe"}, -EINVAL, "neither on nor off"},
		{{"--timeout=soon"}, -EINVAL, "write it like 90s"},
		{{"--console=tty"}, -EINVAL, "stdio"},
		{{"--config", "/nonexistent/x"}, -ENOENT, "'/nonexistent/x': No such file"},
		{{"--config", "/tmp"}, -EISDIR, "'/tmp': Is a directory"},
		{{"--config", "/dev/zero"}, -EINVAL, "larger than 1 MiB"},
		{{"--config", "/dev/null"}, -EINVAL, "/dev/null:1:0"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct run_options o;
		struct error e = {""};
		char *argv[3];
		int argc = 0;

		for (; argc < 3 && bad[i].args[argc]; argc++)
			argv[argc] = strdup(bad[i].args[argc]);
		if (cli_parse_run(argc, argv, &o, &e) != bad[i].code ||
		    !strstr(e.msg, bad[i].message) || strchr(e.msg, '\n'))
			fail_msg("%s gives: %s", bad[i].args[0], e.msg);
		run_options_destroy(&o);
		while (argc > 0)
			free(argv[--argc]);
	}
}

static void test_config_applies_at_its_place(void **state)
{
	char path[64], option[80];
	struct run_options o;
	struct error e = {""};

	(void)state;
	write_file("vm.json", "{\"cpus\": 4, \"memory\": \"1G\", \"append\": \"b\","
			      "\"disks\": [{\"path\": \"2\"}]}");
	snprintf(path, sizeof(path), "%s/vm.json", dir);
	snprintf(option, sizeof(option), "--config=%s", path);
	assert_int_equal(cli_parse_run(ARGS("-c2", "-m2G", "-a", "a", "-d1", option, "-c8", "-a",
					    "c", "-d3"),
				       &o, &e),
			 0);
	assert_int_equal(o.config.cpus, 8);	      /* the option after it */
	assert_int_equal(o.config.memory.start, GIB); /* the file replaced the option before it */
	assert_string_equal(o.config.append, "a b c");
	assert_int_equal(num_disks(&o.config), 3);
	assert_string_equal(disk_at(&o.config, 1)->path, "2");
	run_options_destroy(&o);

	write_file("vm.json", "{\n \"cpsu\": 4}");
	assert_int_equal(cli_parse_run(ARGS("--config", path), &o, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "vm.json:2:2: unknown key 'cpsu': did you mean 'cpus'?"));
	run_options_destroy(&o);
}

static void test_check_options(void **state)
{
	struct check_options o;
	struct error e = {""};

	(void)state;
	assert_int_equal(cli_parse_check(ARGS("a", "--json", "--", "--b"), &o, &e), 0);
	assert_true(o.json);
	assert_int_equal(o.num_paths, 2);
	assert_string_equal(o.paths[0], "a");
	assert_string_equal(o.paths[1], "--b");
	assert_int_equal(cli_parse_check(ARGS("--jsno"), &o, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "'--json'"));
	assert_int_equal(cli_parse_check(ARGS("-h", "--jsno"), &o, &e), -EHELP);
	assert_int_equal(cli_parse_check(ARGS("1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1",
					      "1", "1", "1", "1", "1", "1"),
					 &o, &e),
			 -EINVAL);
}

static void test_disk_commands(void **state)
{
	static const struct {
		const char *args[5];
		const char *message;
	} bad[] = {
		{{NULL}, "a command is missing"},
		{{"--json"}, "unknown command 'disk --json'"},
		{{"craete"}, "did you mean 'create'?"},
		{{"create"}, "a path is missing: skep disk create [OPTION...] PATH SIZE"},
		{{"create", "", "1G"}, "a path is missing"},
		{{"create", "p"}, "a size is missing"},
		{{"create", "p", "+1G"}, "is not a size"},
		{{"create", "p", "1G", "q"},
		 "unexpected argument 'q': skep disk create [OPTION...] PATH SIZE"},
		{{"compact", "p", "q"}, "unexpected argument 'q': skep disk compact PATH"},
		{{"resize", "p"}, "a size is missing: skep disk resize [OPTION...] PATH [+]SIZE"},
		{{"create", "p", "1G", "--shrink"}, "unknown option '--shrink'"},
		{{"create", "p", "--force=1", "1G"}, "--force takes no value"},
		{{"info", "p", "1G"}, "unexpected argument '1G'"},
		{{"info", "--jsno", "p"}, "did you mean '--json'?"},
		{{"compact", "--json", "p"}, "unknown option '--json'"},
		{{"resize", "p", "-1G"}, "unknown option '-1'"},
		{{"resize", "p", "++1G"}, "is not a size"},
		{{"resize", "--shrnk", "p"}, "did you mean '--shrink'?"},
	};
	struct disk_command c;

	(void)state;
	assert_int_equal(cli_parse_disk(ARGS("create", "p", "--force", "2G"), &c, NULL), 0);
	assert_int_equal(c.action, DISK_CREATE);
	assert_string_equal(c.path, "p");
	assert_int_equal(c.size, 2 * GIB);
	assert_true(c.force);
	assert_false(c.preallocate || c.grow || c.shrink);
	assert_int_equal(
		cli_parse_disk(ARGS("create", "--preallocate", "--", "--p", "3"), &c, NULL), 0);
	assert_string_equal(c.path, "--p");
	assert_int_equal(c.size, 3 * MIB);
	assert_true(c.preallocate);
	assert_int_equal(cli_parse_disk(ARGS("info", "--json", "p"), &c, NULL), 0);
	assert_int_equal(c.action, DISK_INFO);
	assert_true(c.json);
	assert_int_equal(cli_parse_disk(ARGS("info", "--json", "--no-json", "p"), &c, NULL), 0);
	assert_false(c.json);
	assert_int_equal(cli_parse_disk(ARGS("compact", "p"), &c, NULL), 0);
	assert_int_equal(c.action, DISK_COMPACT);
	assert_int_equal(cli_parse_disk(ARGS("resize", "p", "+512B", "--shrink"), &c, NULL), 0);
	assert_int_equal(c.action, DISK_RESIZE);
	assert_int_equal(c.size, 512);
	assert_true(c.grow && c.shrink);
	assert_int_equal(cli_parse_disk(ARGS("resize", "p", "1T"), &c, NULL), 0);
	assert_false(c.grow || c.shrink || c.force);
	assert_int_equal(cli_parse_disk(ARGS("-h"), &c, NULL), -EHELP);
	assert_int_equal(cli_parse_disk(ARGS("resize", "--help", "--nonsense"), &c, NULL), -EHELP);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {""};
		int argc = 0;

		while (argc < 5 && bad[i].args[argc])
			argc++;
		if (cli_parse_disk(argc, (char *const *)bad[i].args, &c, &e) != -EINVAL ||
		    !strstr(e.msg, bad[i].message))
			fail_msg("%zu gives: %s", i, e.msg);
	}
}

/* What is asked of the VM "p", which comes first after `skep control`; `want` is JSON with ' for ". */
static void expect_request(int argc, char *const *argv, const char *want)
{
	struct control_call c;
	_cleanup_free_ char *text = NULL;

	assert_int_equal(
		(*argv[0] == 'p' ? cli_parse_control : cli_parse_steer)(argc, argv, &c, NULL), 0);
	assert_string_equal(c.vm, "p");
	text = json_dumps(c.request, 0);
	for (char *p = text; *p; p++)
		*p = *p == '"' ? '\'' : *p;
	assert_string_equal(text, want);
	control_call_destroy(&c);
}

static void test_steer(void **state)
{
	static const struct {
		const char *args[5], *message;
	} bad[] = {
		{{"stop"}, "a vm is missing: skep stop [OPTION...] VM"},
		{{"kill", ""}, "a vm is missing: skep kill VM"},
		{{"stop", "p", "x"}, "unexpected argument 'x': skep stop [OPTION...] VM"},
		{{"stop", "p", "--timeout=x"}, "write it like 90s"},
		{{"resize-disk", "p"}, "a disk is missing: skep resize-disk VM DISK [[+]SIZE]"},
		{{"link", "p", "0"}, "up|down is missing: skep link VM NET up|down"},
		{{"stat", "p", "--jsn"}, "'--json'"},
	};
	struct control_call c;

	(void)state;
	expect_request(ARGS("stat", "--json", "p"), "{'command': 'status'}");
	expect_request(ARGS("stop", "p"), "{'command': 'shutdown'}");
	expect_request(ARGS("stop", "--timeout", "2s", "p"),
		       "{'command': 'shutdown', 'timeout_ns': 2000000000}");
	expect_request(ARGS("kill", "p"), "{'command': 'stop'}");
	expect_request(ARGS("wait", "p"), "{'command': 'wait'}");
	expect_request(ARGS("resize-disk", "p", "root", "+1G"),
		       "{'command': 'resize-disk', 'disk': 'root', 'grow': 1073741824}");
	expect_request(ARGS("limit-disk", "p", "0", "--iops", "7"),
		       "{'command': 'limit-disk', 'disk': 0, 'iops': 7}");
	assert_int_equal(cli_parse_steer(ARGS("kill", "-h"), &c, NULL), -EHELP);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {""};
		int argc = 0;

		while (argc < 5 && bad[i].args[argc])
			argc++;
		if (cli_parse_steer(argc, (char *const *)bad[i].args, &c, &e) != -EINVAL ||
		    !strstr(e.msg, bad[i].message))
			fail_msg("%zu gives: %s", i, e.msg);
		control_call_destroy(&c);
	}
}

static void test_control(void **state)
{
	static const struct {
		const char *args[5], *message;
	} bad[] = {
		{{NULL}, "a path is missing"},
		{{""}, "a path is missing"},
		{{"p"}, "a command is missing"},
		{{"p", "resize"}, "did you mean 'resize-disk'?"},
		{{"p", "frobnicate"}, "'skep help control'"},
		{{"p", "status", "x"}, "unexpected argument 'x'"},
		{{"p", "stop", "--json"}, "unknown option '--json'"},
		{{"p", "resize-disk"}, "a disk is missing"},
		{{"p", "resize-disk", ""}, "a disk is missing"},
		{{"p", "resize-disk", "0", "much"}, "write it like 512M"},
		{{"p", "resize-disk", "0", "0"}, "no size of a disk"},
		{{"p", "resize-disk", "0", "+0"}, "no size of a disk"},
		{{"p", "resize-disk", "0", "9000000T"}, "no size of a disk"},
		{{"p", "resize-disk", "0", "1G", "x"}, "unexpected argument 'x'"},
		{{"p", "limit-disk"}, "a disk is missing"},
		{{"p", "link"}, "a net is missing"},
		{{"p", "link", "0"}, "up|down is missing: skep control PATH link NET up|down"},
		{{"p", "limit-net", "0", "rx-bps=1M"}, "limit-net [OPTION...] NET"},
		{{"p", "limit-disk", "0", "1M"}, "unexpected argument '1M'"},
		{{"p", "limit-disk", "0", "--iops=1M"}, "from 0 to 1000000000"},
		{{"p", "limit-disk", "0", "--bsp=1M"}, "did you mean '--bps'?"},
	};
	struct control_call c;

	(void)state;
	expect_request(ARGS("p", "status", "--json"), "{'command': 'status'}");
	expect_request(ARGS("p", "stop"), "{'command': 'stop'}");
	expect_request(ARGS("p", "resize-disk", "root"),
		       "{'command': 'resize-disk', 'disk': 'root'}");
	expect_request(ARGS("p", "resize-disk", "1", "+2G"),
		       "{'command': 'resize-disk', 'disk': 1, 'grow': 2147483648}");
	expect_request(ARGS("p", "resize-disk", "1", "20"),
		       "{'command': 'resize-disk', 'disk': 1, 'size': 20971520}");
	expect_request(ARGS("p", "limit-disk", "root", "--bps=1M", "--burst=2s"),
		       "{'command': 'limit-disk', 'disk': 'root', 'bps': 1048576, "
		       "'burst_ns': 2000000000}");
	expect_request(ARGS("p", "limit-net", "1", "--rx-bps=1M", "--tx-pps=7"),
		       "{'command': 'limit-net', 'net': 1, 'rx_bps': 1048576, 'tx_pps': 7}");
	expect_request(ARGS("p", "limit-net", "tap0", "--burst=1s"),
		       "{'command': 'limit-net', 'net': 'tap0', 'burst_ns': 1000000000}");
	expect_request(ARGS("p", "limit-disk", "0", "--iops", "0"),
		       "{'command': 'limit-disk', 'disk': 0, 'iops': 0}");
	assert_int_equal(cli_parse_control(ARGS("-h"), &c, NULL), -EHELP);
	control_call_destroy(&c);
	assert_int_equal(cli_parse_control(ARGS("p", "stop", "--help", "--nonsense"), &c, NULL),
			 -EHELP);
	control_call_destroy(&c);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = {""};
		int argc = 0, r;

		while (argc < 5 && bad[i].args[argc])
			argc++;
		r = cli_parse_control(argc, (char *const *)bad[i].args, &c, &e);
		control_call_destroy(&c);
		if ((r != -EINVAL && r != -ERANGE) || !strstr(e.msg, bad[i].message))
			fail_msg("%zu gives: %d %s", i, r, e.msg);
	}
}

/* A device's command has none to spare, either: whoever adds one cannot forget it. */
static void test_commands_without_their_operands(void **state)
{
	char word[] = "p";
	struct control_call c;
	struct error e;

	(void)state;
	for (const struct cli_verb *v = cli_control_verbs(); v->name; v++) {
		unsigned wanted = 0;

		for (const char *w = v->operands; *w && *w != '[';
		     w += strcspn(w, " "), w += *w == ' ')
			wanted++;
		assert_in_range(v->max_operands, wanted, 2);
		for (unsigned n = 0; n < wanted; n++) {
			char *argv[] = {word, (char *)(uintptr_t)v->name, word, word};

			assert_int_equal(cli_parse_control((int)n + 2, argv, &c, &e), -EINVAL);
			assert_non_null(strstr(e.msg, " is missing: skep control PATH "));
			control_call_destroy(&c);
		}
	}
}

/* Arguments of `skep run`; how many initrds there are then, of which the last is ret. */
static int default_guest(int argc, char *const *argv, struct error *e, char ret[64])
{
	struct run_options o;
	int r = cli_parse_run(argc, argv, &o, e), n = 0;

	if (r == 0)
		r = cli_default_guest(&o.config, e);
	while (r == 0 && o.config.initrds[n])
		snprintf(ret, 64, "%s", o.config.initrds[n++]);
	run_options_destroy(&o);
	return r < 0 ? r : n;
}

/* Where there are disks, and nothing else to do, it goes on with what they have. */
static void default_guest_of_disks(void)
{
	struct error e = {""};
	char last[64];

	assert_int_equal(default_guest(ARGS("-d", "a"), &e, last), -ENODATA);
	assert_non_null(strstr(e.msg, "skep-mkguest"));
	assert_int_equal(default_guest(ARGS("-d", "a", "--guest"), &e, last), 1);
	write_file("initrd-boot", "");
	assert_int_equal(default_guest(ARGS("-d", "a", "-a", "quiet"), &e, last), 2);
	assert_string_equal(strrchr(last, '/'), "/initrd-boot");
	assert_int_equal(default_guest(ARGS("-m", "1G"), &e, last), 1);
	assert_int_equal(default_guest(ARGS("-d", "a", "--guest"), &e, last), 1);
	assert_int_equal(default_guest(ARGS("-d", "a", "--guest", "--no-guest"), &e, last), 2);
	assert_int_equal(default_guest(ARGS("-d", "a", "-a", "-- sh"), &e, last), 1);
	assert_int_equal(default_guest(ARGS("-d", "a", "-i", "mine"), &e, last), 1);
	snprintf(last, sizeof(last), "%s/initrd-boot", dir);
	unlink(last);
}

static void test_default_guest(void **state)
{
	struct vm_config c;
	struct error e = {""};
	char path[64];

	(void)state;
	config_init(&c, vm_device_options);
	setenv("SKEP_GUEST_DIR", dir, 1);
	assert_int_equal(cli_default_guest(&c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, dir));
	assert_non_null(strstr(e.msg, "skep-mkguest"));
	write_file("vmlinuz", "");
	assert_int_equal(cli_default_guest(&c, &e), -ENOENT); /* half a guest is none */
	assert_null(c.kernel);
	write_file("initrd", "");
	assert_int_equal(cli_default_guest(&c, &e), 0);
	snprintf(path, sizeof(path), "%s/vmlinuz", dir);
	assert_string_equal(c.kernel, path);
	snprintf(path, sizeof(path), "%s/initrd", dir);
	assert_string_equal(c.initrds[0], path);
	assert_null(c.initrds[1]);
	config_destroy(&c);

	/* An own initrd stays; with an own kernel nothing is added. */
	config_init(&c, vm_device_options);
	assert_int_equal(setting_set(&c, setting_find(vm_settings, "initrd", 6), "mine", NULL), 0);
	assert_int_equal(cli_default_guest(&c, &e), 0);
	assert_string_equal(c.initrds[0], "mine");
	assert_null(c.initrds[1]);
	config_destroy(&c);
	config_init(&c, vm_device_options);
	c.kernel = strdup("mine");
	assert_int_equal(cli_default_guest(&c, &e), 0);
	assert_null(c.initrds);
	config_destroy(&c);

	default_guest_of_disks();

	/* In the home directory. */
	unsetenv("SKEP_GUEST_DIR");
	snprintf(path, sizeof(path), "%s/skep", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/skep/guest", dir);
	mkdir(path, 0755);
	write_file("skep/guest/vmlinuz", "");
	write_file("skep/guest/initrd", "");
	setenv("XDG_DATA_HOME", dir, 1);
	config_init(&c, vm_device_options);
	assert_int_equal(cli_default_guest(&c, &e), 0);
	snprintf(path, sizeof(path), "%s/skep/guest/vmlinuz", dir);
	assert_string_equal(c.kernel, path);
	config_destroy(&c);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {
		"/vm.json",	      "/vmlinuz",    "/initrd", "/skep/guest/vmlinuz",
		"/skep/guest/initrd", "/skep/guest", "/skep",	""};
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s%s", dir, names[i]);
		remove(path);
	}
	return access(dir, F_OK) == 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_a_command_is_what_follows_the_dashes),
		cmocka_unit_test(test_every_spelling),
		cmocka_unit_test(test_last_one_counts),
		cmocka_unit_test(test_help_stops_parsing),
		cmocka_unit_test(test_wrong_usage_has_a_remedy),
		cmocka_unit_test(test_config_applies_at_its_place),
		cmocka_unit_test(test_check_options),
		cmocka_unit_test(test_disk_commands),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_steer),
		cmocka_unit_test(test_commands_without_their_operands),
		cmocka_unit_test(test_default_guest),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
