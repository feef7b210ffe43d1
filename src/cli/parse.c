// SPDX-License-Identifier: BSD-2-Clause
/* Parsing the command line by tables of settings. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "command.h"

#define USAGE_LEN 80u

static int unknown_option(const struct parser *p, const char *word, size_t len)
{
	struct suggest near = {.word = NULL};
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), word);
	near.word = name + (strncmp(name, "no-", 3) == 0 ? 3 : 0);
	for (const struct setting *s = p->table; s->name; s++)
		if (s->help)
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
	int r;

	if (s && s->type == SETTING_HELP)
		return -EHELP;
	r = p->apply(p->ctx, s, value, p->e);
	if (r < 0 && s)
		return error_prefix(p->e, r, "--%s", s->name);
	return r;
}

/* `value` is in the same word, or NULL; `next` is the word after it, or NULL. Returns the number of
 * further words used up. */
static int apply_value(const struct parser *p, const struct setting *s, const char *value,
		       const char *next)
{
	int r;

	if (value)
		return apply(p, s, value);
	if (!next)
		return error_set(p->e, -EINVAL, "--%s needs a value: --%s %s", s->name, s->name,
				 s->arg);
	r = apply(p, s, next);
	return r < 0 ? r : 1;
}

/* `word` is what follows the dashes; otherwise as apply_value(). */
static int parse_long(const struct parser *p, const char *word, const char *next)
{
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	const struct setting *s = setting_find(p->table, word, len);
	bool off = false;

	if (!s && len > 3 && strncmp(word, "no-", 3) == 0) {
		off = true;
		do /* an option that takes a value may have the name, too */
			s = setting_find(s ? s + 1 : p->table, word + 3, len - 3);
		while (s && (s->type != SETTING_BOOL || s->arg));
	}
	if (!s || !s->help)
		return unknown_option(p, word, len);
	if (!s->arg) {
		if (value)
			return error_set(p->e, -EINVAL, "--%.*s takes no value", (int)len, word);
		return apply(p, s, off ? "off" : "on");
	}
	return apply_value(p, s, value, next);
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
		if (s->arg)
			return apply_value(p, s, letters[1] ? letters + 1 : NULL, next);
		r = apply(p, s, "on");
		if (r < 0)
			return r;
	}
	return 0;
}

int cli_parse(const struct parser *p, int argc, char *const *argv)
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
		if (r < 0)
			return r;
		i += r;
	}
	return 0;
}

int cli_parse_error(int code)
{
	return code == -EINVAL || code == -ERANGE ? -EUSAGE : code;
}

/* Verbs */

const struct setting help_settings[] = {
	SETTING_HELP_ROW,
	{.name = NULL},
};

/* What follows "skep" when nothing is missing. */
static void usage(const struct verb_words *w, char ret[USAGE_LEN])
{
	const struct cli_verb *v = w->verb;

	snprintf(ret, USAGE_LEN, "%s%s%s%s%s", w->usage, v->name,
		 v->settings->type == SETTING_HELP ? "" : " [OPTION...]", v->operands[0] ? " " : "",
		 v->operands);
}

/* All operands but those in brackets must be there. */
static int check_operands(const struct verb_words *w, struct error *e)
{
	const char *word = w->verb->operands;
	char text[USAGE_LEN], name[16];
	size_t len;

	for (unsigned i = 0; *word; word += len + (word[len] == ' '), i++) {
		len = strcspn(word, " ");
		if (cli_is_given(w->operand[i]) || (word[0] == '[' && word[len - 1] == ']'))
			continue;
		word += strcspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, " "), word);
		for (char *c = name; *c; c++)
			*c = (char)tolower((unsigned char)*c);
		usage(w, text);
		return error_set(e, -EINVAL, "%s%s is missing: skep %s",
				 strchr(name, '|') ? "" : "a ", name, text);
	}
	return 0;
}

static int apply_verb(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	struct verb_words *w = ctx;
	char text[USAGE_LEN];

	if (s)
		return setting_set(w->call, s, value, e);
	if (w->num < w->verb->max_operands) {
		w->operand[w->num++] = value;
		return 0;
	}
	usage(w, text);
	return error_set(e, -EINVAL, "unexpected argument '%.200s': skep %s", value, text);
}

bool cli_asks_for_help(int argc, char *const *argv)
{
	return argc > 0 && (strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "--help") == 0);
}

int cli_parse_verb(struct verb_words *w, const struct cli_verb *table, int argc, char *const *argv,
		   struct error *e)
{
	struct suggest near = {.word = argv[0]};
	struct parser p = {NULL, w->command, apply_verb, w, e};
	char otherwise[64];
	int r;

	if (cli_asks_for_help(argc, argv))
		return -EHELP;
	for (w->verb = table; w->verb->name && strcmp(w->verb->name, argv[0]) != 0; w->verb++)
		suggest_try(&near, w->verb->name);
	if (!w->verb->name) {
		snprintf(otherwise, sizeof(otherwise), "'skep help %s' lists the commands",
			 w->command);
		return error_set(e, -EINVAL, "unknown command '%s%.40s': %s", w->usage, argv[0],
				 suggest_hint(&near, otherwise));
	}
	p.table = w->verb->settings;
	r = cli_parse(&p, argc - 1, argv + 1);
	return r < 0 ? r : check_operands(w, e);
}

bool cli_is_given(const char *operand)
{
	return operand && *operand;
}
