// SPDX-License-Identifier: BSD-2-Clause
/* Completion, from the tables: the shells' own scripts only pass words on. */
#include <string.h>

#include "command.h"
#include "config/device_options.h"

static void candidate(FILE *out, const char *word, const char *prefix, const char *text,
		      const char *suffix)
{
	char whole[512];

	snprintf(whole, sizeof(whole), "%s%s%s", prefix, text, suffix);
	if (strncmp(whole, word, strlen(word)) == 0)
		fprintf(out, "%s\n", whole);
}

/* What may follow an option: its alternatives as help shows them, "on|off" or "auto|uring|sync". */
static void alternatives(FILE *out, const struct setting *s, const char *word, const char *prefix)
{
	char one[64];

	if (!strchr(s->arg, '|'))
		return;
	for (const char *p = s->arg; *p;
	     p += p[strcspn(p, "|")] ? strcspn(p, "|") + 1 : strlen(p)) {
		snprintf(one, sizeof(one), "%.*s", (int)strcspn(p, "|="), p);
		candidate(out, word, prefix, one, p[strcspn(p, "|=")] == '=' ? "=" : "");
	}
}

/* "PATH,readonly,eng", perhaps after "--OPTION=". */
static void device(FILE *out, const struct device_options *type, const char *word)
{
	const char *comma = strrchr(word, ','), *part = comma ? comma + 1 : word;
	char done[256];
	int len;

	if (!comma && !type->named) {
		fputs(":files\n", out);
		return;
	}
	len = snprintf(done, sizeof(done), "%.*s", (int)(part - word), word);
	if (len < 0 || (size_t)len >= sizeof(done))
		return;
	for (const struct setting *s = device_sub_options(type); s->name; s++) {
		size_t name = strlen(s->name);

		if (strncmp(part, s->name, name) == 0 && part[name] == '=') {
			snprintf(done + len, sizeof(done) - (size_t)len, "%s=", s->name);
			alternatives(out, s, word, done);
			return;
		}
		candidate(out, word, done, s->name, s->arg ? "=" : "");
	}
}

/* The value of an option; `prefix` is "--option=" where the shell keeps that in the word. */
static void value(FILE *out, const struct setting *s, const char *word, const char *prefix)
{
	if (s->device && !s->device->parse)
		device(out, s->device, word);
	else if (strchr(s->arg, '|'))
		alternatives(out, s, word, prefix);
	else if (strstr(s->arg, "FILE"))
		fputs(":files\n", out);
}

static void options(FILE *out, const struct setting *table, const char *word)
{
	for (const struct setting *s = table; s->name; s++)
		if (s->help)
			candidate(out, word, s->inverted ? "--no-" : "--", s->name, "");
}

/* The option whose value comes next after `word`, or NULL. */
static const struct setting *awaits_value(const struct setting *table, const char *word)
{
	const struct setting *s = NULL;

	if (strncmp(word, "--", 2) == 0) {
		s = setting_find(table, word + 2, strlen(word + 2));
	} else if (word[0] == '-' && word[1] && !word[2]) {
		for (s = table; s->name && s->letter != word[1];)
			s++;
	}
	return s && s->name && s->arg ? s : NULL;
}

void complete_options(FILE *out, const struct setting *table, int n, char *const *words)
{
	const char *word = words[n - 1], *before = n > 1 ? words[n - 2] : "";
	const struct setting *s;
	char prefix[64];

	/* bash makes three words of --option=value. */
	if (strcmp(word, "=") == 0)
		word = "";
	else if (strcmp(before, "=") == 0 && n > 2)
		before = words[n - 3];
	s = awaits_value(table, before);
	if (s) {
		value(out, s, word, "");
		return;
	}
	if (strncmp(word, "--", 2) == 0 && strchr(word, '=')) {
		s = setting_find(table, word + 2, strcspn(word + 2, "="));
		if (s && s->arg) {
			snprintf(prefix, sizeof(prefix), "--%s=", s->name);
			value(out, s, word, prefix);
		}
	} else if (word[0] == '-') {
		options(out, table, word);
	} else {
		fputs(":files\n", out);
	}
}

void complete_verbs(FILE *out, const struct cli_verb *table, bool files, int n, char *const *words)
{
	for (const struct cli_verb *v = table; v->name; v++) {
		if (n == 1)
			candidate(out, words[0], "", v->name, "");
		else if (strcmp(words[0], v->name) == 0 &&
			 (files || strstr(v->operands, "FILE") || words[n - 1][0] == '-'))
			complete_options(out, v->settings, n - 1, words + 1);
	}
}
