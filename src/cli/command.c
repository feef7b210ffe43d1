// SPDX-License-Identifier: BSD-2-Clause
/* The table of commands, and those that are about the others: help, version, completion. */
#include <errno.h>
#include <string.h>

#include "base/suggest.h"
#include "command.h"

static const struct command *const commands[] = {
	&command_run,	&command_ps,	  &command_exec,     &command_cp,
	&command_steer, &command_control, &command_disk,     &command_check,
	&command_help,	&command_version, &command_complete, NULL,
};

/* What there is, one after the other: those of command_steer are many. */
struct row {
	const struct command *command;
	const char *name, *summary;
};

static bool listed(size_t i, struct row *ret)
{
	for (const struct command *const *c = commands; *c; c++) {
		const struct cli_verb *v = *c == &command_steer ? cli_steer_verbs() : NULL;

		for (; v && v->name; v++)
			if (i-- == 0) {
				*ret = (struct row){*c, v->name, v->summary};
				return true;
			}
		if ((*c)->name && i-- == 0) {
			*ret = (struct row){*c, (*c)->name, (*c)->summary};
			return true;
		}
	}
	return false;
}

const struct command *command_find(const char *name, struct error *e)
{
	struct suggest near = {.word = name};
	struct row row;

	if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
		name = "help";
	if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0)
		name = "version";
	for (size_t i = 0; listed(i, &row); i++) {
		if (strcmp(row.name, name) == 0)
			return row.command;
		if (row.summary)
			suggest_try(&near, row.name);
	}
	error_set(e, -EINVAL, "unknown %s '%.40s': %s", name[0] == '-' ? "option" : "command", name,
		  suggest_hint(&near, "'skep help' lists the commands"));
	return NULL;
}

static void print_help(FILE *out)
{
	struct row row;
	char left[32];

	fputs("Usage: skep COMMAND [OPTION...]\n\n"
	      "A legacy-free microVM monitor for Linux KVM that gives back what it frees.\n\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; listed(i, &row); i++)
		if (row.summary) {
			snprintf(left, sizeof(left), "  %s", row.name);
			help_entry(out, left, row.summary, 16);
		}
	fputs("  --version     show the version\n\n"
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
	struct row row;

	for (size_t i = 0; listed(i, &row); i++)
		if (row.summary)
			offer(out, words[n - 1], row.name);
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
	struct row row;

	if (n == 1) {
		complete_name(out, n, words);
		offer(out, words[0], "--help");
		offer(out, words[0], "--version");
	}
	for (size_t i = 0; n > 1 && listed(i, &row); i++)
		if (strcmp(row.name, words[0]) == 0 && row.command->complete)
			row.command->complete(out, n - 1, words + 1);
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
