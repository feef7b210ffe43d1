// SPDX-License-Identifier: BSD-2-Clause
/* The commands and their option tables, for the files of the command line. */
#ifndef SKEP_CLI_TABLE_H
#define SKEP_CLI_TABLE_H

#include "cli.h"
#include "config/settings.h"

extern const struct cli_command cli_commands[]; /* ends with name == NULL */
/* A command of `skep disk` or `skep control`. */
struct cli_verb {
	const char *name, *operands, *summary;
	unsigned max_operands;
	const struct setting *settings; /* ends with name == NULL */
};
/* By enum disk_action, their settings fields of struct disk_command. Ends with name == NULL. */
extern const struct cli_verb disk_verbs[];
/* The VM's own, then those of the device types. Ends with name == NULL. */
const struct cli_verb *cli_control_verbs(void);

extern const struct setting check_settings[], help_settings[]; /* end with name == NULL */

/* A verb's options and operands. */
struct verb_words {
	const char *command, *usage; /* "control", "control PATH" */
	void *call;		     /* what the verb's settings are fields of */
	const struct cli_verb *verb;
	const char *operand[2];
	unsigned num;
	bool help;
};
int cli_parse_verb(struct verb_words *w, const struct cli_verb *table, int argc, char *const *argv,
		   struct error *e);
/* -EINVAL: the operand is missing. */
int cli_missing(const struct verb_words *w, const char *what, struct error *e);
bool cli_is_given(const char *operand);
bool cli_asks_for_help(int argc, char *const *argv);

#endif
