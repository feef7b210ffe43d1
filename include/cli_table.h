// SPDX-License-Identifier: BSD-2-Clause
/* The commands and their option tables, for the files of the command line. */
#ifndef SKEP_CLI_TABLE_H
#define SKEP_CLI_TABLE_H

#include "cli.h"
#include "settings.h"

extern const struct cli_command cli_commands[]; /* ends with name == NULL */
/* The commands of `skep disk`, by enum disk_action. Their settings are fields of struct
 * disk_command. */
struct disk_verb {
	const char *name, *operands, *summary;
	const struct setting *settings; /* ends with name == NULL */
};
extern const struct disk_verb disk_verbs[]; /* ends with name == NULL */

/* The commands of `skep control`; their settings are fields of struct control_call. */
struct control_verb {
	const char *name, *operands, *summary;
	unsigned max_operands;
	const struct setting *settings; /* ends with name == NULL */
};
extern const struct control_verb control_verbs[]; /* ends with name == NULL */

extern const struct setting check_settings[]; /* ends with name == NULL */

#endif
