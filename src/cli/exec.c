// SPDX-License-Identifier: BSD-2-Clause
/* `skep exec`: runs a command in a VM that runs; and `skep cp`, which copies to and from one. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pack.h"
#include "agent/protocol.h"
#include "base/log.h"
#include "base/util.h"
#include "command.h"
#include "config/config.h"
#include "remote.h"
#include "run.h"

struct exec_options {
	struct vm_config config; /* of the command */
	char *directory;
	const char *words[2]; /* the first ones that are no options */
	size_t num_words, num_all;
};

static const struct setting exec_settings[] = {
	{"env", 'e', .arg = "NAME[=VALUE]", LIST_FIELD(exec_options, config.env),
	 .max = CONFIG_MAX_ENV,
	 .help = "a variable of the command's environment, as of 'skep run' (repeatable)"},
	{"env-file", .arg = "FILE", LIST_FIELD(exec_options, config.env_files),
	 .max = CONFIG_MAX_ENV, .help = "the same, one on each line of FILE (repeatable)"},
	{"user", .arg = "USER", STRING_FIELD(exec_options, config.user),
	 .help = "who it runs as: a name or number that the guest knows, or UID:GID (default: who "
		 "runs skep)"},
	{"cwd", .arg = "DIR", STRING_FIELD(exec_options, directory),
	 .help = "where it runs in the guest (default: the directory of this name, if it is there, "
		 "else /)"},
	{"terminal", 't', BOOL_FIELD(exec_options, config.terminal),
	 .help = "give it a terminal, even if standard input or output is none"},
	{"no-terminal", 'T', BOOL_FIELD(exec_options, config.no_terminal),
	 .help = "give it none, even if both are"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int apply(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct exec_options *o = ctx;

	if (s)
		return setting_set(o, s, value, e);
	if (o->num_words < ARRAY_SIZE(o->words))
		o->words[o->num_words++] = value;
	o->num_all++;
	return 0;
}

static int add_setup(struct remote *remote, struct exec_options *o, struct error *e)
{
	_cleanup_free_ char *cwd = o->directory ? strdup(o->directory) : getcwd(NULL, 0);
	int r = cli_write_setup(remote->setup, &o->config, e);

	remote->terminal = o->config.terminal;
	fprintf(remote->setup, "%c%s", AGENT_DIRECTORY, cwd ? cwd : "/");
	fputc('\0', remote->setup);
	return r;
}

static int run_remote(struct remote *remote, struct exec_options *o, struct error *e)
{
	int r = add_setup(remote, o, e);

	if (r == 0)
		return remote_run(remote, e);
	fclose(remote->setup);
	return r;
}

static int run_exec(int argc, char *const *argv, struct error *e)
{
	struct exec_options o = {.num_words = 0};
	struct parser p = {exec_settings, "exec", apply, &o, e};
	struct remote remote;
	int r = cli_parse(&p, argc, argv);

	if (r == 0 && o.config.terminal && o.config.no_terminal)
		r = error_set(e, -EINVAL, "--terminal and --no-terminal exclude each other");
	if (r == 0 && (o.num_all < 2 || !cli_is_given(o.words[0]) ||
		       strcmp(argv[(size_t)argc - o.num_all], "--") != 0))
		r = error_set(e, -EINVAL, "write skep exec [OPTION...] VM -- COMMAND [ARG...]");
	if (r < 0) {
		r = cli_parse_error(r);
	} else {
		o.config.command = (char **)(uintptr_t)(argv + argc - o.num_all + 1);
		r = remote_open(&remote, o.words[0], e);
		if (r == 0)
			r = run_remote(&remote, &o, e);
	}
	settings_destroy(&o, exec_settings);
	return r;
}

static void help_exec(FILE *out)
{
	fputs("Usage: skep exec [OPTION...] VM -- COMMAND [ARG...]\n\n"
	      "Runs COMMAND in a virtual machine that was started as 'skep run -- COMMAND',\n"
	      "beside that command, with skep's own standard streams. VM is its name or its\n"
	      "control socket.\n\n"
	      "Options:\n",
	      out);
	help_options(out, exec_settings);
	fputs("\nExit status: COMMAND's own: 126 it cannot be run, 127 it was not found, 128+N\n"
	      "signal N ended it. 125 skep failed, or the guest ended first, 2 usage error.\n",
	      out);
}

static void complete_exec(FILE *out, int n, char *const *words)
{
	if (words[n - 1][0] != '-')
		complete_vm(out, words[n - 1]);
	complete_options(out, exec_settings, n, words);
}

const struct command command_exec = {
	.name = "exec",
	.summary = "run a command in a virtual machine that runs",
	.run = run_exec,
	.help = help_exec,
	.complete = complete_exec,
};

/* skep cp */

static const struct setting cp_settings[] = {
	{"user", .arg = "USER", STRING_FIELD(exec_options, config.user),
	 .help = "who reads or writes in the guest, as of 'skep exec'"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

/* Whether it is VM:PATH, and if so where the colon is. What has a slash before it is a VM only if it is a
 * socket. */
static const char *find_colon(const char *word)
{
	const char *colon = strchr(word, ':');
	_cleanup_free_ char *vm = colon ? strndup(word, (size_t)(colon - word)) : NULL;
	struct stat st;

	if (!vm || colon == word || !colon[1] ||
	    (strchr(vm, '/') && (stat(vm, &st) < 0 || !S_ISSOCK(st.st_mode))))
		return NULL;
	return colon;
}

static void complain(const char *text)
{
	struct error e;

	error_set(&e, -EIO, "%.500s", text);
	text_clean(e.msg);
	log_say(&e, -EIO);
}

/* In a process of its own: the host's end of the copy. */
__attribute__((noreturn)) static void move_files(const char *path, bool to_vm, int fd)
{
	FILE *f = fdopen(fd, to_vm ? "w" : "r");
	struct error e;
	int r = f ? 0 : -errno;

	if (r == 0 && !to_vm && cli_confine_unpack((char *[]){(char *)path, NULL}, 0, &e) < 0) {
		complain(e.msg);
		_exit(1);
	}
	if (r == 0)
		r = to_vm ? pack(f, path) : unpack(f, path, complain);
	if (r == -EPROTO)
		complain("what the guest sends makes no sense");
	else if (r < 0 && r != -ENODATA && r != -EIO) /* of these the other end tells */
		complain(strerror(-r));
	_exit(r ? 1 : 0);
}

static int copy(struct exec_options *o, bool to_vm, const char *vm, const char *there,
		const char *here, struct error *e)
{
	int none = open("/dev/null", O_RDWR | O_CLOEXEC), p[2], status = 1, r;
	struct remote remote;
	pid_t pid;

	if (none < 0 || pipe2(p, O_CLOEXEC) < 0)
		return error_set(e, -errno, "cannot make a pipe: %m");
	pid = fork();
	if (pid == 0) {
		close(p[!to_vm]);
		move_files(here, to_vm, p[to_vm]);
	}
	close(p[to_vm]);
	r = pid < 0 ? error_set(e, -errno, "cannot start a process: %m")
		    : remote_open(&remote, vm, e);
	if (r == 0) {
		remote.stream[0] = to_vm ? p[0] : none;
		remote.stream[1] = to_vm ? none : p[1];
		fprintf(remote.setup, "%c%s", to_vm ? AGENT_TAKE : AGENT_SEND, there);
		fputc('\0', remote.setup);
		r = run_remote(&remote, o, e);
	}
	close(p[!to_vm]);
	close(none);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return r ? r : status ? 1 : 0;
}

static int run_cp(int argc, char *const *argv, struct error *e)
{
	static char *nothing[] = {NULL};
	struct exec_options o = {.config = {.command = nothing, .no_terminal = true}};
	struct parser p = {cp_settings, "cp", apply, &o, e};
	_cleanup_free_ char *vm = NULL;
	const char *from = NULL, *to = NULL;
	int r = cli_parse(&p, argc, argv);

	if (r == 0 && o.num_all == 2) {
		from = find_colon(o.words[0]);
		to = find_colon(o.words[1]);
	}
	if (r == 0 && !from == !to)
		r = error_set(e, -EINVAL, "write skep cp VM:PATH PATH, or skep cp PATH VM:PATH");
	if (r == 0)
		vm = from ? strndup(o.words[0], (size_t)(from - o.words[0]))
			  : strndup(o.words[1], (size_t)(to - o.words[1]));
	r = r < 0 ? cli_parse_error(r)
		  : copy(&o, to, vm, (from ? from : to) + 1, o.words[from ? 1 : 0], e);
	settings_destroy(&o, cp_settings);
	return r;
}

static void help_cp(FILE *out)
{
	fputs("Usage: skep cp [OPTION...] VM:PATH PATH\n"
	      "       skep cp [OPTION...] PATH VM:PATH\n\n"
	      "Copies a file or directory out of a virtual machine that was started as 'skep\n"
	      "run -- COMMAND', or into it. VM is its name or its control socket. Files that\n"
	      "are there are replaced, directories are merged, and a file goes into a\n"
	      "directory that is there.\n\n"
	      "Options:\n",
	      out);
	help_options(out, cp_settings);
	fputs("\nExit status: 0 all was copied, 1 not all, 125 skep failed, 2 usage error.\n", out);
}

static void complete_cp(FILE *out, int n, char *const *words)
{
	complete_options(out, cp_settings, n, words);
}

const struct command command_cp = {
	.name = "cp",
	.summary = "copy to or from a virtual machine that runs",
	.run = run_cp,
	.help = help_cp,
	.complete = complete_cp,
};
