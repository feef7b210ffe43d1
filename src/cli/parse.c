// SPDX-License-Identifier: BSD-2-Clause
/* Parsing the command line by the tables of include/config/settings.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "cli.h"
#include "config/units.h"
#include "table.h"
#include "vm/devices.h"

#define MAX_CONFIG_FILE MIB

const struct cli_command cli_commands[] = {
	{CLI_RUN, "run", "boot a virtual machine and wait for its end", cli_help_run},
	{CLI_CONTROL, "control", "ask a virtual machine that runs", cli_help_control},
	{CLI_DISK, "disk", "make, look at, compact and resize images", cli_help_disk},
	{CLI_CHECK, "check", "show what this host offers", cli_help_check},
	{CLI_HELP, "help", "show help on a command", cli_help},
	{CLI_VERSION, "version", NULL, cli_help},
	{CLI_COMPLETE, "complete", NULL, cli_help},
	{.name = NULL},
};

const struct setting check_settings[] = {
	{"json", .group = "Options", BOOL_FIELD(check_options, json),
	 .help = "print the report as JSON"},
	{"help", 'h', .group = "Options", .type = SETTING_HELP, .help = "show this text"},
	{.name = NULL},
};

#define FLAG(f, text)                                                                              \
	{                                                                                          \
#f, .type = SETTING_BOOL, .offset = offsetof(struct disk_command, f), .help = text \
	}
#define HELP                                                                                       \
	{                                                                                          \
		"help", 'h', .type = SETTING_HELP, .help = "show this text"                        \
	}

static const struct setting create_settings[] = {
	FLAG(force, "replace a file that is there: what it holds is lost"),
	FLAG(preallocate, "allocate all of it now; with discard=ignore it stays so"),
	HELP,
	{.name = NULL},
};

static const struct setting info_settings[] = {
	FLAG(json, "print it as JSON"),
	HELP,
	{.name = NULL},
};

const struct setting help_settings[] = {
	HELP,
	{.name = NULL},
};

static const struct setting resize_settings[] = {
	FLAG(shrink, "SIZE may be less than it is; what is cut off must be zeros"),
	FLAG(force, "with --shrink, cut off data too: it is lost"),
	HELP,
	{.name = NULL},
};

const struct cli_verb disk_verbs[] = {
	[DISK_CREATE] = {"create", "PATH SIZE", "make a sparse image", 2, create_settings},
	[DISK_INFO] = {"info", "PATH", "show its size, what is allocated, and its holes", 1,
		       info_settings},
	[DISK_COMPACT] = {"compact", "PATH", "punch holes where it holds zeros", 1, help_settings},
	[DISK_RESIZE] = {"resize", "PATH [+]SIZE", "set its size, or grow it by +SIZE", 2,
			 resize_settings},
	{.name = NULL},
};

const struct cli_command *cli_command_find(const char *name, struct error *e)
{
	struct suggest near = {.word = name};

	if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
		name = "help";
	if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0)
		name = "version";
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
		if (c->summary)
			suggest_try(&near, c->name);
	}
	error_set(e, -EINVAL, "unknown %s '%.40s': %s", name[0] == '-' ? "option" : "command", name,
		  suggest_hint(&near, "'skep help' lists the commands"));
	return NULL;
}

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

static int unknown_option(const struct parser *p, const char *word, size_t len)
{
	struct suggest near = {.word = NULL};
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), word);
	near.word = name + (strncmp(name, "no-", 3) == 0 ? 3 : 0);
	for (const struct setting *s = p->table; s->name; s++)
		suggest_try(&near, s->name);
	if (near.best) {
		const struct setting *s = setting_find(p->table, near.best, strlen(near.best));

		return error_set(p->e, -EINVAL, "unknown option '--%s': did you mean '--%s%s'?",
				 name, s->inverted ? "no-" : "", near.best);
	}
	return error_set(p->e, -EINVAL, "unknown option '--%s': 'skep help %s' lists the options",
			 name, p->command);
}

static int apply(const struct parser *p, const struct setting *s, const char *value)
{
	int r = p->apply(p->ctx, s, value, p->e);

	if (r < 0 && r != -ECANCELED && s)
		return error_prefix(p->e, r, "--%s", s->name);
	return r;
}

static int missing_value(const struct parser *p, const struct setting *s)
{
	return error_set(p->e, -EINVAL, "--%s needs a value: --%s %s", s->name, s->name, s->arg);
}

/* `word` is what follows the dashes, `next` the argument after it or NULL. Returns the number of
 * further arguments used up. */
static int parse_long(const struct parser *p, const char *word, const char *next)
{
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	const struct setting *s = setting_find(p->table, word, len);
	bool off = false;
	int r;

	if (!s && len > 3 && strncmp(word, "no-", 3) == 0) {
		s = setting_find(p->table, word + 3, len - 3);
		off = true;
		if (s && (s->type != SETTING_BOOL || s->arg))
			s = NULL;
	}
	if (!s)
		return unknown_option(p, word, len);
	if (!s->arg) {
		if (value)
			return error_set(p->e, -EINVAL, "--%.*s takes no value", (int)len, word);
		return apply(p, s, off ? "off" : "on");
	}
	if (value)
		return apply(p, s, value);
	if (!next)
		return missing_value(p, s);
	r = apply(p, s, next);
	return r < 0 ? r : 1;
}

/* Letters in one word: "-vc4", "-c", "4". */
static int parse_letters(const struct parser *p, const char *letters, const char *next)
{
	for (; *letters; letters++) {
		const struct setting *s = p->table;
		int r;

		while (s->name && s->letter != *letters)
			s++;
		if (!s->name)
			return error_set(p->e, -EINVAL,
					 "unknown option '-%c': 'skep help %s' lists the options",
					 *letters, p->command);
		if (!s->arg) {
			r = apply(p, s, "on");
			if (r < 0)
				return r;
			continue;
		}
		if (letters[1])
			return apply(p, s, letters + 1);
		if (!next)
			return missing_value(p, s);
		r = apply(p, s, next);
		return r < 0 ? r : 1;
	}
	return 0;
}

static int parse(const struct parser *p, int argc, char *const *argv)
{
	bool options = true;

	for (int i = 0; i < argc; i++) {
		const char *word = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
		int r;

		if (options && strcmp(word, "--") == 0) {
			options = false;
			continue;
		}
		if (!options || word[0] != '-' || !word[1])
			r = apply(p, NULL, word);
		else if (word[1] == '-')
			r = parse_long(p, word + 2, next);
		else
			r = parse_letters(p, word + 1, next);
		if (r == -ECANCELED) /* --help */
			return 0;
		if (r < 0)
			return r;
		i += r;
	}
	return 0;
}

/* run */

static int load_config(struct vm_config *config, const char *path, struct error *e)
{
	bool is_stdin = strcmp(path, "-") == 0;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	ssize_t len;

	fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, -errno, "'%s': %s", path, strerror(errno));
	text = malloc(MAX_CONFIG_FILE + 1);
	if (!text)
		return -ENOMEM;
	len = read_full(fd, text, MAX_CONFIG_FILE + 1);
	if (len < 0)
		return error_set(e, len == -EINVAL ? -EIO : (int)len, "'%s': %s", path,
				 strerror((int)-len)); /* not what was written is invalid */
	if ((size_t)len > MAX_CONFIG_FILE)
		return error_set(e, -EINVAL, "'%s' is larger than 1 MiB: is it JSON?", path);
	if (!is_stdin && config_add_source(config, path) < 0)
		return -ENOMEM;
	return config_parse_json(config, text, (size_t)len, is_stdin ? "stdin" : path, e);
}

static int apply_run(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct run_options *o = ctx;

	if (!s)
		return error_set(e, -EINVAL,
				 "unexpected argument '%.200s': kernel and disks are given with "
				 "--kernel and --disk",
				 value);
	switch (s->type) {
	case SETTING_CONFIG:
		return load_config(&o->config, value, e);
	case SETTING_DRY_RUN:
		o->dry_run = true;
		return 0;
	case SETTING_HELP:
		o->help = true;
		return -ECANCELED;
	default:
		return setting_set(&o->config, s, value, e);
	}
}

int cli_parse_run(int argc, char *const *argv, struct run_options *ret, struct error *e)
{
	struct parser p = {NULL, "run", apply_run, ret, e};

	*ret = (struct run_options){0};
	if (config_init(&ret->config, vm_device_options) < 0)
		return -ENOMEM;
	p.table = ret->config.settings;
	return parse(&p, argc, argv);
}

void run_options_destroy(struct run_options *options)
{
	if (options)
		config_destroy(&options->config);
}

/* check */

static int apply_check(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct check_options *o = ctx;

	if (!s) {
		if (o->num_paths == ARRAY_SIZE(o->paths))
			return error_set(e, -EINVAL, "more than %zu paths: check them in turns",
					 ARRAY_SIZE(o->paths));
		o->paths[o->num_paths++] = value;
	} else if (s->type == SETTING_HELP) {
		o->help = true;
		return -ECANCELED;
	} else {
		return setting_set(o, s, value, e);
	}
	return 0;
}

int cli_parse_check(int argc, char *const *argv, struct check_options *ret, struct error *e)
{
	struct parser p = {check_settings, "check", apply_check, ret, e};

	*ret = (struct check_options){0};
	return parse(&p, argc, argv);
}

/* disk and control: a verb with its own options and operands */

static int apply_verb(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct verb_words *w = ctx;

	if (s && s->type == SETTING_HELP) {
		w->help = true;
		return -ECANCELED;
	}
	if (s)
		return setting_set(w->call, s, value, e);
	if (w->num == w->verb->max_operands)
		return error_set(e, -EINVAL, "unexpected argument '%.200s': skep %s %s %s", value,
				 w->usage, w->verb->name, w->verb->operands);
	w->operand[w->num++] = value;
	return 0;
}

int cli_parse_verb(struct verb_words *w, const struct cli_verb *table, int argc, char *const *argv,
		   struct error *e)
{
	struct suggest near = {.word = argv[0]};
	struct parser p = {NULL, w->command, apply_verb, w, e};
	char otherwise[64];

	for (w->verb = table; w->verb->name && strcmp(w->verb->name, argv[0]) != 0; w->verb++)
		suggest_try(&near, w->verb->name);
	if (!w->verb->name) {
		snprintf(otherwise, sizeof(otherwise), "'skep help %s' lists the commands",
			 w->command);
		return error_set(e, -EINVAL, "unknown command '%s %.40s': %s", w->usage, argv[0],
				 suggest_hint(&near, otherwise));
	}
	p.table = w->verb->settings;
	return parse(&p, argc - 1, argv + 1);
}

int cli_missing(const struct verb_words *w, const char *what, struct error *e)
{
	return error_set(e, -EINVAL, "a %s is missing: skep %s %s %s", what, w->usage,
			 w->verb->name, w->verb->operands);
}

bool cli_is_given(const char *operand)
{
	return operand && *operand;
}

bool cli_asks_for_help(int argc, char *const *argv)
{
	return argc > 0 && (strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "--help") == 0);
}

int cli_parse_disk(int argc, char *const *argv, struct disk_command *ret, struct error *e)
{
	struct verb_words w = {.command = "disk", .usage = "disk", .call = ret};
	const char *size;
	int r;

	*ret = (struct disk_command){.help = cli_asks_for_help(argc, argv)};
	if (ret->help)
		return 0;
	if (argc == 0)
		return error_set(e, -EINVAL, "a command is missing: 'skep help disk' lists them");
	r = cli_parse_verb(&w, disk_verbs, argc, argv, e);
	ret->help = w.help;
	if (r < 0 || ret->help)
		return r;
	ret->action = (enum disk_action)(w.verb - disk_verbs);
	ret->path = w.operand[0];
	size = w.operand[1];
	if (!cli_is_given(ret->path))
		return cli_missing(&w, "path", e);
	if (w.num < w.verb->max_operands)
		return cli_missing(&w, "size", e);
	if (!size)
		return 0;
	ret->grow = ret->action == DISK_RESIZE && size[0] == '+';
	return config_parse_size(size + ret->grow, MIB, &ret->size, e);
}
