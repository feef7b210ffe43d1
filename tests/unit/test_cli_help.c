// SPDX-License-Identifier: BSD-2-Clause
/* What the tables of options are for: help and completion. */
#include "base/util.h"
#include "cli_fixture.h"

/* What a printer writes, to be freed. */
static char *capture(void (*print)(FILE *))
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	print(f);
	fclose(f);
	return text;
}

static void test_help_has_every_option_in_80_columns(void **state)
{
	_cleanup_free_ char *run = capture(command_run.help), *check = capture(command_check.help),
			    *disk = capture(command_disk.help),
			    *control = capture(command_control.help),
			    *all = capture(command_help.help);
	const char *const texts[] = {run, check, disk, control, all};
	struct vm_config config;
	char name[64];

	(void)state;
	config_init(&config, vm_device_options);
	for (const struct setting *s = config.settings; s->name; s++) {
		snprintf(name, sizeof(name), "  --%s%s", s->inverted ? "no-" : "", s->name);
		if (s->letter)
			snprintf(name, sizeof(name), "-%c, --%s", s->letter, s->name);
		if (s->help && !strstr(run, name))
			fail_msg("no %s", name);
	}
	for (const struct setting *s = blk_options.settings + 1; s->name; s++) {
		snprintf(name, sizeof(name), "\n  %s", s->name);
		assert_non_null(strstr(run, name));
	}
	for (const struct cli_verb *v = disk_verbs; v->name; v++) {
		snprintf(name, sizeof(name), "\n%s %s: ", v->name, v->operands);
		assert_non_null(strstr(disk, name));
		for (const struct setting *s = v->settings; s->name; s++) {
			snprintf(name, sizeof(name), "--%s ", s->name);
			assert_non_null(strstr(disk, name));
		}
	}
	for (const struct cli_verb *v = cli_control_verbs(); v->name; v++) {
		snprintf(name, sizeof(name), "\n%s%s%s: ", v->name, v->operands[0] ? " " : "",
			 v->operands);
		assert_non_null(strstr(control, name));
	}
	assert_non_null(strstr(control, "--json"));
	assert_non_null(strstr(check, "--json"));
	assert_non_null(strstr(all, "\n  run "));
	assert_null(strstr(all, "complete"));
	config_destroy(&config);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		for (const char *p = texts[i]; *p; p += strcspn(p, "\n") + 1)
			if (strcspn(p, "\n") >= 80)
				fail_msg("too wide: %.100s", p);
}

static void test_letters_and_names_are_unique(void **state)
{
	struct vm_config config;
	int r = config_init(&config, vm_device_options);
	const struct setting *const tables[] = {config.settings,
						blk_options.settings,
						check_settings,
						disk_verbs[DISK_CREATE].settings,
						disk_verbs[DISK_INFO].settings,
						disk_verbs[DISK_COMPACT].settings,
						disk_verbs[DISK_RESIZE].settings};

	(void)state;
	assert_int_equal(r, 0);
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct setting *a = tables[t]; a->name; a++)
			for (const struct setting *b = a + 1; b->name; b++) {
				/* --cache NAME:PATH and --no-cache are two things. */
				if (!a->inverted == !b->inverted)
					assert_string_not_equal(a->name, b->name);
				assert_true(!a->letter || a->letter != b->letter);
			}
	config_destroy(&config);
}

static void expect_completion(const char *expected, int n, char *const *words)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	cli_complete(n, words, f);
	fclose(f);
	assert_string_equal(text, expected);
}

static void test_completion(void **state)
{
	(void)state;
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1); /* what runs here is not ours */
	expect_completion(
		"run\nps\nexec\ncp\nstat\npause\nresume\nevents\npower-"
		"button\nstop\nkill\nwait\ndmesg\n"
		"console-file\nresize-disk\nlimit-disk\nlink\nlimit-net\nballoon\nmemory\n"
		"control\ndisk\ncheck\nhelp\n--help\n--version\n",
		ARGS(""));
	expect_completion("--json\n--help\n", ARGS("stat", "--"));
	expect_completion("--timeout\n", ARGS("stop", "vm", "--t"));
	expect_completion(":files\n", ARGS("console-file", "vm", ""));
	expect_completion("", ARGS("stop", "vm", ""));
	expect_completion("--json\n--help\n", ARGS("ps", "-"));
	expect_completion("run\nresume\nresize-disk\n", ARGS("r"));
	expect_completion("run\n", ARGS("help", "ru"));
	expect_completion("--memory\n", ARGS("run", "--mem"));
	expect_completion("--no-kaslr\n--no-terminal\n--no-cache\n", ARGS("run", "--no-"));
	expect_completion(":files\n", ARGS("run", "-k", ""));
	expect_completion(":files\n", ARGS("run", "-k", "--"));
	expect_completion(":files\n", ARGS("run", "--config=v"));
	expect_completion("on\noff\n", ARGS("run", "--sandbox", ""));
	expect_completion("on\noff\n", ARGS("run", "--sandbox", "="));
	expect_completion("off\n", ARGS("run", "--sandbox", "=", "of"));
	expect_completion("--sandbox=off\n", ARGS("run", "--sandbox=of"));
	expect_completion("stdio\nfile=\nfresh-file=\nsocket=\npty\nfd=\noff\n",
			  ARGS("run", "--console", ""));
	expect_completion("", ARGS("run", "--cpus", ""));
	expect_completion(":files\n", ARGS("run", "-d", "a"));
	expect_completion("a,cache=none,readonly\n", ARGS("run", "-d", "a,cache=none,r"));
	expect_completion("a,cache=writeback\na,cache=writethrough\n",
			  ARGS("run", "-d", "a,cache=wr"));
	expect_completion("a,engine=uring\n", ARGS("run", "-d", "a,engine=u"));
	expect_completion("--disk=a,engine=\n", ARGS("run", "--disk=a,en"));
	expect_completion("--json\n--help\n", ARGS("check", "--"));
	expect_completion(":files\n", ARGS("check", ""));
	expect_completion(":files\n", ARGS("control", ""));
	expect_completion("status\nstop\n", ARGS("control", "s", "st"));
	expect_completion("--json\n--help\n", ARGS("control", "s", "status", "--"));
	expect_completion("--help\n", ARGS("control", "s", "resize-disk", "0", "--"));
	expect_completion("", ARGS("control", "s", "resize-disk", ""));
	expect_completion("create\ninfo\ncompact\nresize\n", ARGS("disk", ""));
	expect_completion("compact\n", ARGS("disk", "com"));
	expect_completion("disk\n", ARGS("help", "di"));
	expect_completion("--force\n--preallocate\n--help\n", ARGS("disk", "create", "x", "--"));
	expect_completion("--shrink\n", ARGS("disk", "resize", "--s"));
	expect_completion(":files\n", ARGS("disk", "info", ""));
	expect_completion("", ARGS("disk", "frob", ""));
	expect_completion("", ARGS("frob", "-"));
	expect_completion("", 0, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_help_has_every_option_in_80_columns),
		cmocka_unit_test(test_letters_and_names_are_unique),
		cmocka_unit_test(test_completion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
