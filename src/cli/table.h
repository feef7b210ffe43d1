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
/* By enum disk_action, their settings fields of struct disk_command; and of struct control_call. */
extern const struct cli_verb disk_verbs[], control_verbs[]; /* end with name == NULL */

extern const struct setting check_settings[]; /* ends with name == NULL */

#endif
