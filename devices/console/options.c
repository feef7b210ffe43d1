// SPDX-License-Identifier: BSD-2-Clause
/* The option --console. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

static const struct setting settings[] = {
	{"path", STRING_FIELD(console_config, path)},
	{.name = NULL},
};

static int parse(void *config, const char *text, struct error *e)
{
	struct console_config *console = config;
	bool fresh = strncmp(text, "fresh-", 6) == 0;
	const char *kind = fresh ? text + 6 : text;

	console->fresh = fresh;
	if (strncmp(kind, "file=", 5) == 0)
		console->mode = CONSOLE_FILE;
	else if (strcmp(text, "stdio") == 0)
		console->mode = CONSOLE_STDIO;
	else if (strcmp(text, "off") == 0)
		console->mode = CONSOLE_OFF;
	else
		return error_set(e, -EINVAL,
				 "'%.40s' is none of stdio, file=PATH, fresh-file=PATH and off",
				 text);
	return console->mode == CONSOLE_FILE ? setting_set(console, settings, kind + 5, e) : 0;
}

static char *format(const void *config)
{
	const struct console_config *console = config;
	char *text;

	if (console->mode != CONSOLE_FILE)
		return strdup(console->mode == CONSOLE_OFF ? "off" : "stdio");
	return asprintf(&text, "%sfile=%s", console->fresh ? "fresh-" : "", console->path) < 0
		       ? NULL
		       : text;
}

static bool is_off(const void *config)
{
	const struct console_config *console = config;

	return console->mode == CONSOLE_OFF;
}

static enum file_use file_use(const void *config)
{
	const struct console_config *console = config;

	return console->path ? FILE_OUTPUT : FILE_UNUSED;
}

const struct device_options console_options = {
	.name = "console",
	.what = "the console",
	.max = 1,
	.option =
		{.arg = "stdio|file=PATH|fresh-file=PATH|off",
		 .help = "where the guest's console goes: file= appends to a file, fresh-file= "
			 "empties it first (default: stdio; on a terminal, Ctrl-A x ends the VM)"},
	.size = sizeof(struct console_config),
	.defaults = &(const struct console_config){.mode = CONSOLE_STDIO},
	.settings = settings,
	.parse = parse,
	.format = format,
	.is_off = is_off,
	.file_use = file_use,
};
