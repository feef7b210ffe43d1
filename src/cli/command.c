// SPDX-License-Identifier: BSD-2-Clause
/* The table of commands. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/suggest.h"
#include "base/util.h"
#include "command.h"

const struct command *const commands[] = {
	&command_run,  &command_control, &command_disk,	    &command_check,
	&command_help, &command_version, &command_complete, NULL,
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

void command_complain(const struct error *e, int code)
{
	struct error line = *e;

	if (!line.msg[0])
		error_set(&line, code, "%s", strerror(-code));
	text_clean(line.msg);
	log_say("skep: %s\n", line.msg);
}
