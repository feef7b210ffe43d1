// SPDX-License-Identifier: BSD-2-Clause
/* The table of commands, and those that are about the others: help, version, completion. */
#include <errno.h>
#include <string.h>

#include "base/suggest.h"
#include "command.h"

static const struct command *const commands[] = {
	&command_run,	&command_exec, &command_cp,	 &command_control,  &command_disk,
	&command_check, &command_help, &command_version, &command_complete, NULL,
};

const struct command *command_find(const char *name, struct error *e)
{
	struct suggest near = {.word = name};

	if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
		name = "help";
	if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0)
		name = "version";
	for (const struct command *const *c = commands; *c; c++) {
		if (strcmp((*c)->name, name) == 0)
			return *c;
		if ((*c)->summary)
			suggest_try(&near, (*c)->name);
	}
	error_set(e, -EINVAL, "unknown %s '%.40s': %s", name[0] == '-' ? "option" : "command", name,
		  suggest_hint(&near, "'skep help' lists the commands"));
	return NULL;
}

static void print_help(FILE *out)
{
	fputs("Usage: skep COMMAND [OPTION...]\n\n"
	      "A legacy-free microVM monitor for Linux KVM that gives back what it frees.\n\n"
	      "Commands:\n",
	      out);
	for (const struct command *const *c = commands; *c; c++)
		if ((*c)->summary)
			fprintf(out, "  %-11s%s\n", (*c)->name, (*c)->summary);
	fputs("  --version  show the version\n\n"
	      "See 'skep help COMMAND' and skep(1) for more.\n",
	      out);
}

static int run_help(int argc, char *const *argv, struct error *e)
{
	const struct command *about = argc > 0 ? command_find(argv[0], e) : &command_help;

	if (!about)
		return -EUSAGE;
	(about->help ? about->help : print_help)(stdout);
	return 0;
}

static void offer(FILE *out, const char *word, const char *name)
{
	if (strncmp(name, word, strlen(word)) == 0)
		fprintf(out, "%s\n", name);
}

static void complete_name(FILE *out, int n, char *const *words)
{
	for (const struct command *const *c = commands; *c; c++)
		if ((*c)->summary)
			offer(out, words[n - 1], (*c)->name);
}

const struct command command_help = {
	.name = "help",
	.summary = "show help for a command",
	.run = run_help,
	.help = print_help,
	.complete = complete_name,
};

static int run_version(int argc, char *const *argv, struct error *e)
{
	(void)argc, (void)argv, (void)e;
	puts("skep " SKEP_VERSION);
	return 0;
}

const struct command command_version = {
	.name = "version",
	.run = run_version,
};

void cli_complete(int n, char *const *words, FILE *out)
{
	if (n == 1) {
		complete_name(out, n, words);
		offer(out, words[0], "--help");
		offer(out, words[0], "--version");
	}
	for (const struct command *const *c = commands; *c && n > 1; c++)
		if (strcmp((*c)->name, words[0]) == 0 && (*c)->complete)
			(*c)->complete(out, n - 1, words + 1);
}

static int run_complete(int argc, char *const *argv, struct error *e)
{
	(void)e;
	cli_complete(argc, argv, stdout);
	return 0;
}

const struct command command_complete = {
	.name = "complete",
	.run = run_complete,
};
