// SPDX-License-Identifier: BSD-2-Clause
/* What the command of `skep run -- COMMAND` gets of its surroundings (agent/protocol.h). */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "agent/protocol.h"
#include "base/util.h"
#include "run.h"

/* Of the environment; what ends in "*" stands for all that begins so. */
static const char *const allowed[] = {
	"PATH", "HOME", "USER", "LOGNAME", "SHELL",	"LANG",	    "LANGUAGE",		 "LC_*",
	"TERM", "TZ",	"CI",	"EMAIL",   "COLORTERM", "NO_COLOR", "SOURCE_DATE_EPOCH", NULL,
};
/* Not with --user: the user's own. */
static const char *const personal[] = {"HOME", "USER", "LOGNAME", "SHELL", NULL};

static bool is_in(const char *const *list, const char *variable)
{
	for (size_t len = strcspn(variable, "="); *list; list++) {
		size_t n = strlen(*list);

		if ((*list)[n - 1] == '*' ? strncmp(variable, *list, n - 1) == 0
					  : n == len && strncmp(variable, *list, n) == 0)
			return true;
	}
	return false;
}

__attribute__((format(printf, 3, 4))) static void add(FILE *out, enum agent_record what,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputc((int)what, out);
	vfprintf(out, fmt, ap);
	fputc('\0', out);
	va_end(ap);
}

/* NAME=VALUE, or NAME: as it is outside, if it is there. */
static int add_variable(FILE *out, const char *text, struct error *e)
{
	const char *value;

	if (!*text || *text == '=')
		return error_set(e, -EINVAL, "'%.200s' has no name: write NAME=VALUE", text);
	if (strchr(text, '=')) {
		add(out, AGENT_VARIABLE, "%s", text);
		return 0;
	}
	value = getenv(text);
	if (value)
		add(out, AGENT_VARIABLE, "%s=%s", text, value);
	return 0;
}

/* A variable on each line; blank lines and those that begin with # are none. */
static int add_variables_of(FILE *out, const char *path, struct error *e)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int r = 0;

	if (!file)
		return error_set(e, -errno, "--env-file: '%.200s': %m", path);
	while (r == 0 && (n = getline(&line, &size, file)) >= 0) {
		if (n && line[n - 1] == '\n')
			line[n - 1] = '\0';
		if (*line && *line != '#')
			r = add_variable(out, line, e);
	}
	if (r == 0 && ferror(file))
		r = error_set(e, -EIO, "cannot be read: %m");
	free(line);
	fclose(file);
	return r < 0 ? error_prefix(e, r, "--env-file: '%.200s'", path) : 0;
}

static int add_environment(FILE *out, const struct vm_config *config, struct error *e)
{
	int r = 0;

	for (char **v = environ; v && *v; v++)
		if (is_in(allowed, *v) && !(config->user && is_in(personal, *v)))
			add(out, AGENT_VARIABLE, "%s", *v);
	for (char **path = config->env_files; r == 0 && path && *path; path++)
		r = add_variables_of(out, *path, e);
	for (char **v = config->env; r == 0 && v && *v; v++)
		if (add_variable(out, *v, e) < 0)
			r = error_prefix(e, -EUSAGE, "--env");
	return r;
}

static void add_user(FILE *out, const char *user)
{
	gid_t groups[NGROUPS_MAX];
	int n;

	if (user) {
		add(out, AGENT_USER, "%s", user);
		return;
	}
	add(out, AGENT_UID, "%u", geteuid());
	add(out, AGENT_GID, "%u", getegid());
	n = getgroups(NGROUPS_MAX, groups);
	for (int i = 0; i < n; i++)
		add(out, AGENT_GROUP, "%u", groups[i]);
}

static void add_process(FILE *out)
{
	mode_t mask = umask(0);
	struct sigaction action;
	struct rlimit limit;

	umask(mask);
	add(out, AGENT_UMASK, "%u", mask);
	for (int i = 0; i < (int)RLIM_NLIMITS; i++)
		if (getrlimit((__rlimit_resource_t)i, &limit) == 0)
			add(out, AGENT_LIMIT, "%d %llu %llu", i, (unsigned long long)limit.rlim_cur,
			    (unsigned long long)limit.rlim_max);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sig != SIGXFSZ && sigaction(sig, NULL, &action) == 0 && /* skep's own */
		    action.sa_handler == SIG_IGN)
			add(out, AGENT_IGNORED, "%d", sig);
}

int cli_write_setup(FILE *out, struct vm_config *config, struct error *e)
{
	config->terminal = config->terminal ||
			   (!config->no_terminal && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	for (char **word = config->command; *word; word++)
		add(out, AGENT_ARGUMENT, "%s", *word);
	if (config->overlay_limit)
		add(out, AGENT_OVERLAY_LIMIT, "%llu", (unsigned long long)config->overlay_limit);
	for (char **a = config->artifacts; a && *a; a++)
		add(out, AGENT_ARTIFACT, "%.*s", (int)strcspn(*a, ":"), *a);
	add_user(out, config->user);
	add_process(out);
	if (config->terminal)
		add(out, AGENT_TERMINAL, "%s", "");
	return add_environment(out, config, e);
}

int cli_add_command(struct vm_config *config, struct error *e)
{
	FILE *out;
	int r;

	if (!config->command)
		return 0;
	out = open_memstream(&config->setup.bytes, &config->setup.len);
	if (!out)
		return error_set(e, -ENOMEM, "out of memory");
	r = cli_write_setup(out, config, e);
	if (r == 0)
		r = cli_add_root(config, out, e);
	if (fclose(out) != 0 && r == 0)
		return error_set(e, -ENOMEM, "out of memory");
	if (r == 0 && config->setup.len > AGENT_MAX_SETUP)
		return error_set(e, -E2BIG, "the command and its environment have more than 4 MiB");
	return r;
}
