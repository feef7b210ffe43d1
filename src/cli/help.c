// SPDX-License-Identifier: BSD-2-Clause
/* Help, from the tables. */
#include <string.h>

#include "base/util.h"
#include "command.h"
#include "config/device_options.h"

#define WIDTH  80u
#define INDENT 28u /* where the text of an option starts */

/* Writes words, wrapped; the cursor is at column `at`, further lines start at `indent`. */
static void wrap(FILE *out, const char *text, unsigned at, unsigned indent)
{
	while (*text) {
		unsigned len = (unsigned)strcspn(text, " ");

		if (at > indent && at + 1 + len > WIDTH - 1) {
			fprintf(out, "\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", (int)len, text);
		at += len;
		text += len;
		text += *text == ' ';
	}
	fputc('\n', out);
}

void help_entry(FILE *out, const char *left, const char *text, unsigned indent)
{
	unsigned len = (unsigned)strlen(left);

	fputs(left, out);
	if (len + 2 > indent)
		fprintf(out, "\n%*s", (int)indent, "");
	else
		fprintf(out, "%*s", (int)(indent - len), "");
	wrap(out, text, indent, indent);
}

static void option(FILE *out, const struct setting *s)
{
	char left[80], letter[8] = "    ";

	if (s->letter)
		snprintf(letter, sizeof(letter), "-%c, ", s->letter);
	snprintf(left, sizeof(left), "  %s--%s%s%s%s", letter, s->inverted ? "no-" : "", s->name,
		 s->arg ? " " : "", s->arg ? s->arg : "");
	help_entry(out, left, s->help, INDENT);
}

void help_words(FILE *out, const char *text)
{
	wrap(out, text, 0, 0);
}

void help_options(FILE *out, const struct setting *table)
{
	const char *group = NULL;

	for (const struct setting *s = table; s->name; s++) {
		if (s->group && (!group || strcmp(group, s->group) != 0))
			fprintf(out, "\n%s:\n", s->group);
		group = s->group;
		if (s->help)
			option(out, s);
	}
}

void help_verbs(FILE *out, const struct cli_verb *table)
{
	char line[256];

	for (const struct cli_verb *v = table; v->name; v++) {
		snprintf(line, sizeof(line), "%s%s%s: %s", v->name, v->operands[0] ? " " : "",
			 v->operands, v->summary);
		fputc('\n', out);
		help_words(out, line);
		help_options(out, v->settings);
	}
	fputs("\nExit status: 0 success, 125 failure, 2 usage error.\n", out);
}

void help_sub_options(FILE *out, const struct device_options *device)
{
	fprintf(out, "\nOptions of %s", device->what);
	if (!device->named)
		fprintf(out, " (a comma in the %s is written ,,)", device->settings->name);
	fputs(":\n", out);
	for (const struct setting *s = device_sub_options(device); s->name; s++) {
		char left[80];

		snprintf(left, sizeof(left), "  %s%s%s", s->name, s->arg ? "=" : "",
			 s->arg ? s->arg : "");
		help_entry(out, left, s->help, INDENT);
	}
}
