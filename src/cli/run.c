// SPDX-License-Identifier: BSD-2-Clause
/* `skep run`. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/inherited.h"
#include "base/log.h"
#include "base/util.h"
#include "command.h"
#include "config/output.h"
#include "run.h"
#include "vm/devices.h"
#include "vm/vm.h"

#define MAX_CONFIG_FILE MIB

static int load_config(struct vm_config *config, const char *path, struct error *e)
{
	bool is_stdin = strcmp(path, "-") == 0;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	ssize_t len;

	fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, -errno, "'%s': %m", path);
	text = malloc(MAX_CONFIG_FILE + 1);
	if (!text)
		return -ENOMEM;
	len = read_full(fd, text, MAX_CONFIG_FILE + 1);
	if (len < 0)
		return error_set(e, len == -EINVAL ? -EIO : (int)len, "'%s': %s", path,
				 strerror((int)-len)); /* not what was written is invalid */
	if ((size_t)len > MAX_CONFIG_FILE)
		return error_set(e, -EINVAL, "'%s' is larger than 1 MiB: is it JSON?", path);
	if (!is_stdin && list_add(&config->sources, path) < 0)
		return -ENOMEM;
	return config_parse_json(config, text, (size_t)len, is_stdin ? "stdin" : path, e);
}

static int apply_run(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct run_options *o = ctx;

	if (!s) {
		o->word = o->num_words++ ? o->word : value;
		return 0;
	}
	switch (s->type) {
	case SETTING_CONFIG:
		return load_config(&o->config, value, e);
	case SETTING_DRY_RUN:
		o->dry_run = true;
		return 0;
	default:
		return setting_set(&o->config, s, value, e);
	}
}

/* What follows "--", which is the end of `argv`. */
static int take_command(struct run_options *o, int argc, char *const *argv, struct error *e)
{
	size_t num = o->num_words;
	char **words;

	if (num == 0)
		return 0;
	if (num == (size_t)argc || strcmp(argv[(size_t)argc - num - 1], "--") != 0)
		return error_set(e, -EINVAL,
				 "unexpected argument '%.200s': kernel and devices are given with "
				 "--kernel and other options, a command after --",
				 o->word);
	list_free(o->config.command);
	o->config.command = words = calloc(num + 1, sizeof(*words));
	for (size_t i = 0; words && i < num; i++) {
		words[i] = strdup(argv[(size_t)argc - num + i]);
		if (!words[i])
			return -ENOMEM;
	}
	return words ? 0 : -ENOMEM;
}

int cli_parse_run(int argc, char *const *argv, struct run_options *ret, struct error *e)
{
	struct parser p = {NULL, "run", apply_run, ret, e};
	int r;

	*ret = (struct run_options){0};
	if (config_init(&ret->config, vm_device_options) < 0)
		return -ENOMEM;
	p.table = ret->config.settings;
	r = cli_parse(&p, argc, argv);
	if (r == 0)
		r = take_command(ret, argc, argv, e);
	config_settle(&ret->config);
	return r;
}

void run_options_destroy(struct run_options *options)
{
	if (options)
		config_destroy(&options->config);
}

static int dry_run(const struct vm_config *config, struct error *e)
{
	_cleanup_free_ char *text = config_to_json(config);

	if (!text)
		return error_set(e, -EILSEQ,
				 "a path or --append is not UTF-8: JSON cannot hold it");
	fputs(text, stdout);
	return 0;
}

/* Else it is a stream, of which we may write the end but not empty what is before that. */
static bool result_is_file(const struct vm_config *config)
{
	return config->result_path && strcmp(config->result_path, "-") != 0 &&
	       !config_result_fd(config);
}

/* *ret: of --result; stays -1 without. The standard streams that skep was given are checked, too.
 * */
static int open_outputs(const struct vm_config *config, int *ret, struct error *e)
{
	int r = output_check(STDOUT_FILENO, NULL, config, e);

	if (r < 0)
		return error_prefix(e, r, "standard output");
	r = output_check(STDERR_FILENO, NULL, config, e);
	if (r < 0)
		return error_prefix(e, r, "standard error");
	if (!config->result_path)
		return 0;
	if (strcmp(config->result_path, "-") == 0)
		*ret = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	else if (config_result_fd(config))
		*ret = inherited_take((int)config_result_fd(config), e);
	else
		*ret = output_open(config->result_path, 0, 0666, config, e);
	r = *ret < 0 || result_is_file(config) ? *ret : output_check(*ret, NULL, config, e);
	return r < 0 ? error_prefix(e, r, "--result: '%s'", config->result_path) : 0;
}

/* A VM's run, and what is reported of its end. */
struct run {
	const struct vm_config *config;
	struct vm_result result;
	int result_fd;	       /* -1: no --result */
	_Atomic bool reported; /* by the main thread or in leave() */
};

/* The result comes before any message, since that may find no reader. */
static int report(struct run *run)
{
	if (run->result_fd < 0 || atomic_exchange(&run->reported, true))
		return 0;
	return vm_result_write(run->result_fd, &run->result);
}

#define LOG_LINE 400u /* bytes of a line that are shown */

static void show_kernel_log(const struct vm_result *result)
{
	_cleanup_free_ char *text = vm_result_kernel_log(result);
	char *rest = text, *line;

	if (!text || !log_text("skep: the end of the guest kernel's log:"))
		return;
	while ((line = strsep(&rest, "\n")) && rest) {
		shorten(line, LOG_LINE);
		if (!log_text(line))
			return;
	}
}

/* The exit status; `written` is what report() returned. */
static int explain(const struct run *run, int written)
{
	int status = vm_result_status(&run->result);
	struct error e;

	if (status != 0) {
		vm_result_describe(&run->result, &e);
		if (run->result.end != VM_POWER_OFF)
			log_say(&e, -EIO);
		show_kernel_log(&run->result);
	}
	if (written < 0) {
		error_set(&e, written, "--result: '%s': %m", run->config->result_path);
		log_say(&e, written);
		status = STATUS_FAILED;
	}
	return status;
}

static void leave(void *arg)
{
	struct run *run = arg;
	int written = report(run);

	devices_restore_host();
	_exit(explain(run, written));
}

static int run_vm(struct vm_config *config, struct error *e)
{
	struct run run = {.config = config, .result = {.end = VM_FAILED}, .result_fd = -1};
	_cleanup_close_ int seed = -1;
	int verdict = -1;
	struct vm *vm;
	int r, file;

	r = cli_add_command(config, e);
	if (r == 0)
		r = cli_add_seed(config, &seed, e);
	if (r == 0)
		r = open_outputs(config, &run.result_fd, e);
	if (r == 0)
		r = cli_start_artifacts(config, &verdict, e);
	if (r < 0)
		return r;
	log_set_level(config->quiet ? LOG_ERROR : config->verbose ? LOG_DEBUG : LOG_NOTICE);
	file = result_is_file(config) ? run.result_fd : -1;
	r = vm_run(&vm, config, file, &run.result, leave, &run, e);
	if (r < 0) {
		empty_file(file);
		run.result.end = VM_FAILED;
		run.result.error = *e;
		if (!e->msg[0])
			error_set(&run.result.error, r, "%m");
	}
	r = report(&run);
	vm_close(vm);
	r = explain(&run, r);
	if (!cli_end_artifacts(config, verdict) && r == 0)
		r = STATUS_FAILED;
	if (run.result_fd >= 0)
		close(run.result_fd);
	vm_result_destroy(&run.result);
	return r;
}

static int run(int argc, char *const *argv, struct error *e)
{
	struct run_options options;
	int r = cli_parse_run(argc, argv, &options, e);

	if (r == 0)
		r = config_validate(&options.config, e);
	if (r == 0)
		r = cli_default_guest(&options.config, e);
	if (r < 0)
		r = cli_parse_error(r);
	else
		r = options.dry_run ? dry_run(&options.config, e) : run_vm(&options.config, e);
	run_options_destroy(&options);
	return r;
}

static void help(FILE *out)
{
	char plurals[256] = "", add[512];
	struct vm_config config;

	if (config_init(&config, vm_device_options) < 0)
		return;
	for (const struct setting *s = config.settings; s->name; s++)
		if (s->device && s->device->plural)
			snprintf(plurals + strlen(plurals), sizeof(plurals) - strlen(plurals),
				 "%s, ", s->device->plural);
	snprintf(add, sizeof(add),
		 "Options apply from left to right, and the last one counts; %sinitrds and "
		 "--append accumulate. --X undoes --no-X and vice versa.",
		 plurals);
	fputs("Usage: skep run [OPTION...] [-- COMMAND [ARG...]]\n\n"
	      "Boots a virtual machine and waits until it ends. Without --kernel it boots the\n"
	      "default guest to a shell, or to run COMMAND with skep's own standard streams.\n",
	      out);
	help_options(out, config.settings);
	for (const struct setting *s = config.settings; s->name; s++)
		if (s->device && s->device->settings && !s->device->parse)
			help_sub_options(out, s->device);
	fputc('\n', out);
	help_words(out, add);
	fputs("\nExit status: 0 power-off, 120 the guest asked for a reboot, 121 kernel panic,\n"
	      "122 triple fault or other unexpected reset, 123 halted for good, 124 --timeout\n"
	      "ran out, 128+N ended by force after signal N, 125 skep failed, 2 usage error.\n"
	      "After power-off COMMAND's own: 126 it cannot be run, 127 it was not found,\n"
	      "128+N signal N ended it.\n",
	      out);
	config_destroy(&config);
}

static void complete(FILE *out, int n, char *const *words)
{
	struct vm_config config;

	if (config_init(&config, vm_device_options) < 0)
		return;
	complete_options(out, config.settings, n, words);
	config_destroy(&config);
}

const struct command command_run = {
	.name = "run",
	.summary = "boot a virtual machine and wait until it ends",
	.run = run,
	.help = help,
	.complete = complete,
};
