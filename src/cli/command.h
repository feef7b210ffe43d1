// SPDX-License-Identifier: BSD-2-Clause
/* A command of the program, and what commands share: parser, help, completion. */
#ifndef SKEP_COMMAND_H
#define SKEP_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "config/settings.h"

#define EHELP (EUSAGE + 1) /* beside an errno: help is asked for */

struct command {
	const char *name, *summary; /* summary NULL: not listed */
	/* Does what argv, which follows the name (argv[-1]), asks for, and prints on stdout. The exit status,
	 * or a negative errno with a message; -EUSAGE: what was typed is wrong; -EHELP: help is
	 * asked for. */
	int (*run)(int argc, char *const *argv, struct error *e);
	void (*help)(FILE *out); /* wrapped at 80 columns; NULL: that of skep */
	/* Completes words[n - 1], the last of n >= 1 after the name (words[-1]); NULL: nothing. */
	void (*complete)(FILE *out, int n, char *const *words);
};

extern const struct command command_run, command_ps, command_exec, command_cp, command_steer,
	command_control, command_disk, command_check, command_help, command_version,
	command_complete;

/* The command that argv[1] names; -h, --help, -V and --version count. NULL with a message that has
 * a remedy. */
const struct command *command_find(const char *name, struct error *e);

/* Parsing */

/* Called for each option with its value ("on" or "off" without one), and with s == NULL for each
 * word that is no option. */
typedef int (*cli_apply)(void *ctx, const struct setting *s, const char *value, struct error *e);

struct parser {
	const struct setting *table;
	const char *command;
	cli_apply apply;
	void *ctx;
	struct error *e;
};
/* -EINVAL or -ERANGE: what was typed is wrong; -EHELP at --help; other errors of apply(). */
int cli_parse(const struct parser *p, int argc, char *const *argv);

/* What a parser returned, as a command does: -EINVAL and -ERANGE are its user's errors. Elsewhere
 * they are the host's. */
int cli_parse_error(int code);

/* A command of a command, as of `skep disk`, with its own options and operands. */
struct cli_verb {
	const char *name, *operands, *summary; /* operands like "DISK [SIZE]": SIZE is optional */
	unsigned max_operands;
	const struct setting *settings; /* ends with name == NULL */
};
extern const struct setting help_settings[]; /* of a verb that has no option */

struct verb_words {
	const char *command, *usage; /* "control", "control PATH " */
	void *call;		     /* what the verb's settings are fields of */
	const struct cli_verb *verb;
	const char *operand[3];
	unsigned num;
};
/* Fills in the rest of *w. `table` ends with name == NULL. As cli_parse(). */
int cli_parse_verb(struct verb_words *w, const struct cli_verb *table, int argc, char *const *argv,
		   struct error *e);
/* What is a command for a running VM by itself, like "stop". Ends with name == NULL. */
const struct cli_verb *cli_steer_verbs(void);
bool cli_is_given(const char *operand);
bool cli_asks_for_help(int argc, char *const *argv);

/* Help and completion from the tables */

/* "left", and the text from column `indent` on; on a line of its own when the left part is long. */
void help_entry(FILE *out, const char *left, const char *text, unsigned indent);
void help_words(FILE *out, const char *text); /* a paragraph, wrapped */
void help_options(FILE *out, const struct setting *table);
void help_sub_options(FILE *out, const struct device_options *type);
void help_verbs(FILE *out, const struct cli_verb *table);

/* What `skep complete` prints: a candidate a line for the last of the words after `skep`; a line
 * ":files" stands for file names. */
void cli_complete(int n, char *const *words, FILE *out);
void complete_options(FILE *out, const struct setting *table, int n, char *const *words);
/* Calls fn for each name that a VM has in the runtime directory `dir`, or had when it was killed, sorted. */
void cli_for_each_vm(void (*fn)(void *ctx, const char *dir, const char *name), void *ctx);
void complete_vm(FILE *out, const char *word);
/* A verb, then its options and, where `files` or its operand says so, files: a size is nothing to
 * complete, but only the words tell. */
void complete_verbs(FILE *out, const struct cli_verb *table, bool files, int n, char *const *words);

#endif
