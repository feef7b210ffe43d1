// SPDX-License-Identifier: BSD-2-Clause
/* The option --console. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config.h"
#include "config/units.h"

static const struct setting settings[] = {
	{"path", STRING_FIELD(console_config, path)},
	{"fd", COUNT_FIELD(console_config, fd), .min = STDERR_FILENO + 1, .max = INT_MAX},
	{"max-size", BYTES_FIELD(console_config, max_size)},
	{.name = NULL},
};

/* What is written as a word, or as KIND=VALUE, which sets one of the settings. */
static const struct kind {
	const char *word;
	enum console_mode mode;
	bool fresh;
	const struct setting *value;
} kinds[] = {
	{"stdio", CONSOLE_STDIO, false, NULL},
	{"pty", CONSOLE_PTY, false, NULL},
	{"off", CONSOLE_OFF, false, NULL},
	{"file=", CONSOLE_FILE, false, &settings[0]},
	{"fresh-file=", CONSOLE_FILE, true, &settings[0]},
	{"socket=", CONSOLE_SOCKET, false, &settings[0]},
	{"fd=", CONSOLE_FD, false, &settings[1]},
};

/* A comma is the path's, unless what follows it looks like the option. */
static int check_path(const char *path, struct error *e)
{
	const char *comma = strrchr(path, ',');
	char name[64];
	struct suggest near = {.word = name};

	if (!comma)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(comma + 1, "="), comma + 1);
	if (strlen(name) > 3)
		suggest_try(&near, "max-size");
	return near.best ? error_set(e, -EINVAL, "'%.40s' is no option: write max-size=SIZE",
				     comma + 1)
			 : 0;
}

/* "PATH[,max-size=SIZE]" */
static int parse_file(struct console_config *console, const char *text, struct error *e)
{
	static const char option[] = ",max-size=";
	const char *size = strstr(text, option);
	_cleanup_free_ char *path = size ? strndup(text, (size_t)(size - text)) : strdup(text);
	int r = path ? check_path(path, e) : -ENOMEM;

	if (r == 0)
		r = setting_set(console, &settings[0], path, e);
	if (r < 0 || !size)
		return r;
	r = setting_set(console, &settings[2], size + strlen(option), e);
	if (r == 0 && console->max_size < CONSOLE_MIN_SIZE)
		r = error_set(e, -EINVAL, "it must be at least 64K");
	return r < 0 ? error_prefix(e, r, "max-size") : 0;
}

static int parse(void *config, const char *text, struct error *e)
{
	struct console_config *console = config;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kind *kind = &kinds[i];
		size_t len = strlen(kind->word);

		if (kind->value ? strncmp(text, kind->word, len) : strcmp(text, kind->word))
			continue;
		console->mode = kind->mode;
		console->fresh = kind->fresh;
		if (kind->mode == CONSOLE_FILE)
			return parse_file(console, text + len, e);
		return kind->value ? setting_set(console, kind->value, text + len, e) : 0;
	}
	return error_set(e, -EINVAL,
			 "'%.40s' is none of stdio, file=PATH, fresh-file=PATH, socket=PATH, pty, "
			 "fd=N and off",
			 text);
}

static char *format(const void *config)
{
	const struct console_config *console = config;
	const struct kind *kind = kinds;
	char *text = NULL, size[32];
	int r;

	while (kind->mode != console->mode || kind->fresh != console->fresh)
		kind++;
	if (console->mode == CONSOLE_FD)
		r = asprintf(&text, "%s%u", kind->word, console->fd);
	else if (console->max_size)
		r = asprintf(&text, "%s%s,max-size=%s", kind->word, console->path,
			     (setting_format_size(console->max_size, size), size));
	else
		r = asprintf(&text, "%s%s", kind->word, kind->value ? console->path : "");
	return r < 0 ? NULL : text;
}

static bool is_off(const void *config)
{
	const struct console_config *console = config;

	return console->mode == CONSOLE_OFF;
}

static void file(const void *config, struct config_file *ret)
{
	const struct console_config *console = config;

	if (console->mode == CONSOLE_FILE || console->mode == CONSOLE_SOCKET)
		ret->path = console->path;
	else if (console->mode == CONSOLE_FD)
		ret->fd = console->fd;
	ret->use = FILE_OUTPUT;
}

const struct device_options console_options = {
	.name = "console",
	.what = "the console",
	.max = 1,
	.option =
		{.arg = "stdio|file=PATH[,max-size=SIZE]|fresh-file=PATH|socket=PATH|pty|fd=N|off",
		 .help = "where the guest's console goes: file= appends to a file, fresh-file= "
			 "empties it first, socket= listens for one client at a time, pty makes a "
			 "pseudo-terminal, fd= is a descriptor that skep inherits (default: stdio; "
			 "on a terminal, Ctrl-A x ends the VM)"},
	.size = sizeof(struct console_config),
	.defaults = &(const struct console_config){.mode = CONSOLE_STDIO},
	.settings = settings,
	.parse = parse,
	.format = format,
	.is_off = is_off,
	.yields = true,
	.file = file,
};
