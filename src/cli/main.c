// SPDX-License-Identifier: BSD-2-Clause
/* The program: the only file that prints for the user, and the only one that exits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/inherited.h"
#include "base/log.h"
#include "base/util.h"
#include "check.h"
#include "cli.h"
#include "config/output.h"
#include "vm/devices.h"
#include "vm/vm.h"

#define STATUS_USAGE  2
#define STATUS_FAILED 125

/* One line on stderr, whatever the message holds. */
static void complain(const struct error *e, int code)
{
	struct error line = *e;

	if (!line.msg[0])
		error_set(&line, code, "%s", strerror(-code));
	text_clean(line.msg);
	log_say("skep: %s\n", line.msg);
}

/* Complains and returns the exit status. An EINVAL here is the host's. */
static int fail(const struct error *e, int code)
{
	complain(e, code);
	return code == -EUSAGE ? STATUS_USAGE : STATUS_FAILED;
}

/* The same of what was written, which the host had no say in. */
static int fail_to_parse(const struct error *e, int code)
{
	return fail(e, code == -EINVAL || code == -ERANGE ? -EUSAGE : code);
}

/* What was printed must have arrived: a full disk or a closed pipe is a failure. */
static int printed(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "skep: standard output: %s\n", strerror(errno));
	return STATUS_FAILED;
}

static int dry_run(const struct vm_config *config)
{
	_cleanup_free_ char *text = config_to_json(config);

	if (!text) {
		fputs("skep: a path or --append is not UTF-8: JSON cannot hold it\n", stderr);
		return STATUS_FAILED;
	}
	fputs(text, stdout);
	return printed(0);
}

/* The descriptor of --result, -1 without. That too is checked which was opened for skep. */
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
	*ret = output_open(config->result_path, 0, 0666, config, e);
	return *ret < 0 ? error_prefix(e, *ret, "--result: '%s'", config->result_path) : 0;
}

/* A VM's run and what is made known of its end. */
struct run {
	const struct vm_config *config;
	struct vm_result result;
	int result_fd;	       /* -1: no --result */
	_Atomic bool reported; /* by the main thread or in leave() */
};

/* The result comes before any message, which may find nobody who reads it. */
static int report(struct run *run)
{
	if (run->result_fd < 0 || atomic_exchange(&run->reported, true))
		return 0;
	return vm_result_write(run->result_fd, &run->result);
}

/* The exit status; `written` is what report() returned. */
static int explain(const struct run *run, int written)
{
	int status = vm_result_status(&run->result);
	struct error e;

	if (status != 0) {
		vm_result_describe(&run->result, &e);
		complain(&e, -EIO);
	}
	if (written < 0) {
		error_set(&e, written, "--result: '%s': %s", run->config->result_path,
			  strerror(-written));
		complain(&e, written);
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

static int run_vm(const struct vm_config *config)
{
	struct run run = {.config = config, .result = {.end = VM_FAILED}, .result_fd = -1};
	struct error e = {""};
	struct vm *vm;
	int r;

	r = open_outputs(config, &run.result_fd, &e);
	if (r < 0)
		return fail(&e, r);
	log_set_level(config->quiet ? LOG_ERROR : config->verbose ? LOG_DEBUG : LOG_WARN);
	r = vm_run(&vm, config, run.result_fd, &run.result, leave, &run, &e);
	if (r < 0) {
		empty_file(run.result_fd);
		run.result.end = VM_FAILED;
		run.result.error = e;
		if (!e.msg[0])
			error_set(&run.result.error, r, "%s", strerror(-r));
	}
	r = report(&run);
	vm_close(vm);
	r = explain(&run, r);
	if (run.result_fd >= 0)
		close(run.result_fd);
	vm_result_destroy(&run.result);
	return r;
}

static int command_run(int argc, char **argv)
{
	struct run_options options;
	struct error e = {""};
	int status = 0, r;

	r = cli_parse_run(argc, argv, &options, &e);
	if (r == 0 && options.help) {
		cli_help_run(stdout);
		status = printed(0);
		goto out;
	}
	if (r == 0)
		r = config_validate(&options.config, &e);
	if (r == 0)
		r = cli_default_guest(&options.config, &e);
	if (r < 0)
		status = fail_to_parse(&e, r);
	else
		status = options.dry_run ? dry_run(&options.config) : run_vm(&options.config);
out:
	run_options_destroy(&options);
	return status;
}

static int command_check(int argc, char **argv)
{
	struct check_options options;
	struct error e = {""};
	bool works;
	int r;

	r = cli_parse_check(argc, argv, &options, &e);
	if (r < 0)
		return fail_to_parse(&e, r);
	if (options.help) {
		cli_help_check(stdout);
		return printed(0);
	}
	works = check_host(&options, stdout);
	return printed(works ? 0 : 1);
}

static int command_control(int argc, char **argv)
{
	struct control_call call;
	struct error e = {""};
	int r;

	r = cli_parse_control(argc, argv, &call, &e);
	if (r < 0)
		r = fail_to_parse(&e, r);
	else if (call.help)
		cli_help_control(stdout);
	else
		r = control_call_run(&call, stdout, &e);
	control_call_destroy(&call);
	return r > 0 ? r : r < 0 ? fail(&e, r) : printed(0);
}

static int command_disk(int argc, char **argv)
{
	struct disk_command command;
	struct error e = {""};
	int r;

	r = cli_parse_disk(argc, argv, &command, &e);
	if (r < 0)
		return fail_to_parse(&e, r);
	if (command.help)
		cli_help_disk(stdout);
	else
		r = disk_command_run(&command, stdout, stderr, &e);
	return r < 0 ? fail(&e, r) : printed(0);
}

static int command_help(int argc, char **argv)
{
	const struct cli_command *about;
	struct error e = {""};

	if (argc == 0) {
		cli_help(stdout);
		return printed(0);
	}
	about = cli_command_find(argv[0], &e);
	if (!about)
		return fail(&e, -EUSAGE);
	about->help(stdout);
	return printed(0);
}

/*
 * What is opened must not get the number of a standard descriptor that is closed: messages and the
 * guest's console would go there. Those that are missing are opened on /dev/null, the wrong way
 * round, so that whoever uses one is told what it is told of one that is closed.
 */
static int open_missing_descriptors(void)
{
	static const int flags[] = {
		[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", flags[fd]) < 0)
			return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	const struct cli_command *command;
	struct error e = {""};
	int r = open_missing_descriptors();

	if (r < 0) {
		error_set(&e, r,
			  "a standard descriptor is closed, and /dev/null cannot be opened: %s",
			  strerror(-r));
		return fail(&e, r);
	}
	signal(SIGXFSZ, SIG_IGN); /* a limit on files fails the write or the resize, not skep */
	inherited_note();
	if (argc < 2) {
		cli_help(stderr);
		return STATUS_USAGE;
	}
	command = cli_command_find(argv[1], &e);
	if (!command)
		return fail(&e, -EUSAGE);
	switch (command->id) {
	case CLI_RUN:
		return command_run(argc - 2, argv + 2);
	case CLI_CONTROL:
		return command_control(argc - 2, argv + 2);
	case CLI_DISK:
		return command_disk(argc - 2, argv + 2);
	case CLI_CHECK:
		return command_check(argc - 2, argv + 2);
	case CLI_HELP:
		return command_help(argc - 2, argv + 2);
	case CLI_VERSION:
		puts("skep " SKEP_VERSION);
		return printed(0);
	case CLI_COMPLETE:
		cli_complete(argc - 2, argv + 2, stdout);
		return 0;
	}
	return STATUS_FAILED;
}
