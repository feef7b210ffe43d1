// SPDX-License-Identifier: BSD-2-Clause
/* Help, printed from the tables. */
#include <string.h>

#include "base/util.h"
#include "table.h"
#include "vm/devices.h"

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

/* "  left       text", the text on a line of its own when the left part is long. */
static void entry(FILE *out, const char *left, const char *text)
{
	unsigned len = (unsigned)strlen(left);

	fputs(left, out);
	if (len + 2 > INDENT)
		fprintf(out, "\n%*s", (int)INDENT, "");
	else
		fprintf(out, "%*s", (int)(INDENT - len), "");
	wrap(out, text, INDENT, INDENT);
}

static void option(FILE *out, const struct setting *s)
{
	char left[80], letter[8] = "    ";

	if (s->letter)
		snprintf(letter, sizeof(letter), "-%c, ", s->letter);
	snprintf(left, sizeof(left), "  %s--%s%s%s%s", letter, s->inverted ? "no-" : "", s->name,
		 s->arg ? " " : "", s->arg ? s->arg : "");
	entry(out, left, s->help);
}

static void options(FILE *out, const struct setting *table)
{
	const char *group = NULL;

	for (const struct setting *s = table; s->name; s++) {
		if (s->group && (!group || strcmp(group, s->group) != 0))
			fprintf(out, "\n%s:\n", s->group);
		group = s->group;
		option(out, s);
	}
}

static void verbs(FILE *out, const struct cli_verb *table)
{
	for (const struct cli_verb *v = table; v->name; v++) {
		fprintf(out, "\n%s%s%s: %s\n", v->name, v->operands[0] ? " " : "", v->operands,
			v->summary);
		options(out, v->settings);
	}
	fputs("\nExit status: 0 done, 125 not done, 2 wrong usage.\n", out);
}

void cli_help(FILE *out)
{
	fputs("Usage: skep COMMAND [OPTION...]\n\n"
	      "A legacy-free microVM monitor for Linux KVM that gives back what it frees.\n\n"
	      "Commands:\n",
	      out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		if (c->summary)
			fprintf(out, "  %-11s%s\n", c->name, c->summary);
	fputs("  --version  show the version\n\n"
	      "'skep help COMMAND' says more, and so does skep(1).\n",
	      out);
}

static void sub_options(FILE *out, const struct device_options *device)
{
	fprintf(out, "\nOptions of %s (a comma in the %s is written ,,):\n", device->what,
		device->settings->name);
	for (const struct setting *s = device->settings + 1; s->name; s++) {
		char left[80];

		snprintf(left, sizeof(left), "  %s%s%s", s->name, s->arg ? "=" : "",
			 s->arg ? s->arg : "");
		entry(out, left, s->help);
	}
}

void cli_help_run(FILE *out)
{
	char add[512] = "Options apply from left to right, the last one counts; ";
	struct vm_config config;

	if (config_init(&config, vm_device_options) < 0)
		return;
	for (const struct setting *s = config.settings; s->name; s++)
		if (s->device && s->device->plural)
			snprintf(add + strlen(add), sizeof(add) - strlen(add), "%s, ",
				 s->device->plural);
	strcat(add, "initrds and --append add. --X undoes --no-X, and the other way around.");
	fputs("Usage: skep run [OPTION...]\n\n"
	      "Boots a virtual machine and waits for its end. Without --kernel it boots the\n"
	      "default guest to a shell.\n",
	      out);
	options(out, config.settings);
	for (const struct setting *s = config.settings; s->name; s++)
		if (s->device && s->device->settings && !s->device->parse)
			sub_options(out, s->device);
	fputc('\n', out);
	wrap(out, add, 0, 0);
	fputs("\nExit status: 0 power-off, 120 the guest asked for a reboot, 121 kernel panic,\n"
	      "122 triple fault or other unasked reset, 123 halted for good, 124 --timeout ran\n"
	      "out, 128+N ended by force after signal N, 125 skep failed, 2 wrong usage.\n",
	      out);
	config_destroy(&config);
}

void cli_help_control(FILE *out)
{
	fputs("Usage: skep control PATH COMMAND [OPTION...] [ARGUMENT...]\n\n"
	      "Asks a virtual machine that runs with --control PATH. A DISK is its\n"
	      "position, 0 for the first, or its serial number. A SIZE is like 512M or 4G; a\n"
	      "bare number is MiB.\n",
	      out);
	verbs(out, cli_control_verbs());
}

void cli_help_disk(FILE *out)
{
	fputs("Usage: skep disk COMMAND [OPTION...] PATH [SIZE]\n\n"
	      "Makes, shows and changes images while no VM runs on them. A SIZE is like 512M\n"
	      "or 4G; a bare number is MiB.\n",
	      out);
	verbs(out, disk_verbs);
}

void cli_help_check(FILE *out)
{
	fputs("Usage: skep check [OPTION...] [PATH...]\n\n"
	      "Shows what this host offers to skep, one line each, with the remedy for what is\n"
	      "missing: KVM and its speed, io_uring, hole punching at each PATH (default: the\n"
	      "current directory), and the rest.\n",
	      out);
	options(out, check_settings);
	fputs("\nExit status: 0 'skep run' works here, 1 it does not, 2 wrong usage.\n", out);
}
