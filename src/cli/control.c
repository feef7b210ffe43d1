// SPDX-License-Identifier: BSD-2-Clause
/* What may be asked of a running VM, and `skep control`. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "config/device_options.h"
#include "control.h"
#include "control/control.h"
#include "vm/devices.h"

/* The VM's own commands; control/commands.c has the other end */

struct status_options {
	bool json;
};

static const struct setting status_settings[] = {
	{"json", BOOL_FIELD(status_options, json), .help = "print it as JSON"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static void print_devices(const struct device_type *type, const json_t *answer, FILE *out)
{
	const char *plural = type->options->plural;
	const json_t *devices = json_object_get(answer, plural ? plural : type->options->name);
	const json_t *device;
	size_t i;

	if (json_is_object(devices))
		type->print_status(0, devices, out);
	json_array_foreach(devices, i, device) type->print_status(i, device, out);
}

static int print_status(const struct device_words *words, const json_t *answer, FILE *out)
{
	const struct status_options *options = words->options;
	_cleanup_free_ char *text = NULL;

	if (options->json) {
		text = json_to_text(json_incref((json_t *)(uintptr_t)answer));
		if (!text)
			return -ENOMEM;
		fputs(text, out);
		return 0;
	}
	print_line(out, "%s for %.1f s", answer_text(answer, "state"),
		   json_number_value(json_object_get(answer, "seconds")));
	for (const struct device_type *const *type = device_types; *type; type++)
		if ((*type)->print_status)
			print_devices(*type, answer, out);
	return 0;
}

struct dmesg_options {
	bool all, json;
};

static const struct setting dmesg_settings[] = {
	{"all", BOOL_FIELD(dmesg_options, all),
	 .help = "all that the kernel still has, not its newest 64 KiB"},
	{"json", BOOL_FIELD(dmesg_options, json), .help = "print each message as a JSON object"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int ask_dmesg(const struct device_words *words, json_t *request, struct error *e)
{
	const struct dmesg_options *options = words->options;

	(void)e;
	if (options->all)
		json_object_set_new(request, "from", json_integer(0));
	return 0;
}

static int print_dmesg(const struct device_words *words, const json_t *answer, FILE *out)
{
	const struct dmesg_options *options = words->options;
	const json_t *messages = json_object_get(answer, "messages"), *message;
	size_t i;

	json_array_foreach(messages, i, message)
	{
		struct klog_record record = {.ns = answer_number(message, "ns"),
					     .text = answer_text(message, "text")};

		if (!options->json) {
			klog_print(&record, out);
			continue;
		}
		json_dumpf(message, out, JSON_COMPACT | JSON_ENSURE_ASCII);
		fputc('\n', out);
	}
	return 0;
}

/* Up to what there was at first: a guest that writes without end is not followed. */
static bool more_dmesg(const json_t *first, const json_t *answer, json_t *request)
{
	const json_t *from = json_object_get(request, "from");
	uint64_t next = answer_number(answer, "next");

	if (!from || next <= (uint64_t)json_integer_value(from) ||
	    next >= answer_number(first, "end"))
		return false;
	json_object_set_new(request, "from", json_integer((json_int_t)next));
	return true;
}

struct shutdown_options {
	uint64_t timeout_ns;
};

static const struct setting shutdown_settings[] = {
	{"timeout", .arg = "TIME", DURATION_FIELD(shutdown_options, timeout_ns),
	 .help = "end it by force after this time (default: that of run's --stop-timeout)"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int ask_shutdown(const struct device_words *words, json_t *request, struct error *e)
{
	const struct shutdown_options *options = words->options;

	(void)e;
	ask_number(request, "timeout_ns", options->timeout_ns);
	return 0;
}

/* The VM's status is that of the command, too. */
static int print_end(const struct device_words *words, const json_t *answer, FILE *out)
{
	const char *why = json_string_value(json_object_get(answer, "error"));

	(void)words;
	print_line(out, "%s%s%s", answer_text(answer, "end"), why ? ": " : "", why ? why : "");
	return (int)answer_number(answer, "status") & 255;
}

static int print_event(const struct device_words *words, const json_t *event, FILE *out)
{
	(void)words;
	json_dumpf(event, out, JSON_COMPACT | JSON_ENSURE_ASCII);
	fputc('\n', out);
	fflush(out);
	return 0;
}

static const struct device_command vm_commands[] = {
	{
		.name = "status",
		.operands = "",
		.summary = "show how long it has been running, and what its devices did",
		.settings = status_settings,
		.options_size = sizeof(struct status_options),
		.print = print_status,
	},
	{
		.name = "pause",
		.operands = "",
		.summary = "stop its CPUs and devices; what these have begun they finish",
	},
	{.name = "resume", .operands = "", .summary = "let it go on"},
	{
		.name = "events",
		.operands = "",
		.summary = "print what happens to it, a JSON object a line, until it has ended",
		.streams = true,
		.print = print_event,
	},
	{.name = "power-button", .operands = "", .summary = "press the guest's power button"},
	{
		.name = "shutdown",
		.operands = "",
		.summary = "press the power button, or end the command, and wait until it has "
			   "ended; after a while by force",
		.settings = shutdown_settings,
		.defaults = &(const struct shutdown_options){UINT64_MAX},
		.options_size = sizeof(struct shutdown_options),
		.waits = true,
		.ask = ask_shutdown,
	},
	{.name = "stop", .operands = "", .summary = "end it by force"},
	{
		.name = "wait",
		.operands = "",
		.summary = "wait until it has ended, tell how, and exit with its status",
		.waits = true,
		.print = print_end,
	},
	{
		.name = "dmesg",
		.operands = "",
		.summary = "print its Linux kernel's log, read from its memory",
		.settings = dmesg_settings,
		.options_size = sizeof(struct dmesg_options),
		.ask = ask_dmesg,
		.print = print_dmesg,
		.more = more_dmesg,
	},
	{.name = NULL},
};

/* The commands for a VM by its name, `skep stop VM`, are rows in front of the same: */
static const struct {
	const char *asked, *name;
} other_names[] = {{"status", "stat"}, {"shutdown", "stop"}, {"stop", "kill"}};

#define MAX_VERBS 40u
static struct verb_table {
	struct cli_verb verb[MAX_VERBS + 1], steer[MAX_VERBS + 1]; /* end with name == NULL */
	char operands[MAX_VERBS][32];				   /* of `steer` */
	const struct device_command *command[MAX_VERBS];
	unsigned num;
} table;

static void add_verbs(const struct device_command *c)
{
	for (; c && c->name; c++) {
		struct cli_verb *verb = &table.verb[table.num], *steer = &table.steer[table.num];
		char *operands = table.operands[table.num];

		if (!c->summary)
			continue;
		assert(table.num < MAX_VERBS);
		table.command[table.num++] = c;
		*verb = (struct cli_verb){
			.name = c->name,
			.operands = c->operands,
			.summary = c->summary,
			.max_operands = c->max_operands,
			.settings = c->settings ? c->settings : help_settings,
		};
		*steer = *verb;
		for (size_t i = 0; i < ARRAY_SIZE(other_names); i++)
			if (strcmp(c->name, other_names[i].asked) == 0)
				steer->name = other_names[i].name;
		snprintf(operands, sizeof(table.operands[0]), "VM%s%s", *c->operands ? " " : "",
			 c->operands);
		steer->operands = operands;
		steer->max_operands++;
	}
}

static const struct verb_table *verbs(void)
{
	if (table.num)
		return &table;
	add_verbs(vm_commands);
	for (const struct device_type *const *type = device_types; *type; type++)
		add_verbs((*type)->commands);
	return &table;
}

const struct cli_verb *cli_control_verbs(void)
{
	return verbs()->verb;
}

const struct cli_verb *cli_steer_verbs(void)
{
	return verbs()->steer;
}

/* The verb and what follows it; the options of each have a struct of their own. */
static int parse_words(struct control_call *ret, struct verb_words *w, const struct cli_verb *list,
		       int argc, char *const *argv, struct error *e)
{
	const struct device_command *c = NULL;
	int r;

	for (unsigned i = 0; i < verbs()->num; i++)
		if (strcmp(list[i].name, argv[0]) == 0)
			c = verbs()->command[i];
	if (c && c->defaults)
		memcpy(ret->options, c->defaults, c->options_size);
	w->call = ret->options;
	r = cli_parse_verb(w, list, argc, argv, e);
	if (r < 0)
		return r;
	ret->command = c;
	ret->request = json_pack("{s:s}", "command", c->name);
	return ret->request ? 0 : error_set(e, -ENOMEM, "out of memory");
}

/* Its operands are at `operand`. */
static int take_words(struct control_call *call, const char *const *operand, struct error *e)
{
	memcpy(call->words.operand, operand, sizeof(call->words.operand));
	return call->command->ask ? call->command->ask(&call->words, call->request, e) : 0;
}

int cli_parse_control(int argc, char *const *argv, struct control_call *ret, struct error *e)
{
	struct verb_words w = {.command = "control", .usage = "control PATH "};
	int r;

	*ret = (struct control_call){.words.options = ret->options};
	if (cli_asks_for_help(argc, argv))
		return -EHELP;
	if (argc < 2 || !cli_is_given(argv[0]))
		return error_set(e, -EINVAL, "a %s is missing: skep control PATH COMMAND",
				 argc > 0 && cli_is_given(argv[0]) ? "command" : "path");
	ret->vm = argv[0];
	r = parse_words(ret, &w, cli_control_verbs(), argc - 1, argv + 1, e);
	return r < 0 ? r : take_words(ret, w.operand, e);
}

int cli_parse_steer(int argc, char *const *argv, struct control_call *ret, struct error *e)
{
	struct verb_words w = {.command = argv[0], .usage = ""};
	int r;

	*ret = (struct control_call){.words.options = ret->options};
	r = parse_words(ret, &w, cli_steer_verbs(), argc, argv, e);
	ret->vm = w.operand[0];
	return r < 0 ? r : take_words(ret, w.operand + 1, e);
}

void control_call_destroy(struct control_call *call)
{
	json_decref(call->request);
	call->request = NULL;
}

/* The command */

static int run(int argc, char *const *argv, struct error *e)
{
	struct control_call call;
	int r = cli_parse_control(argc, argv, &call, e);

	r = r < 0 ? cli_parse_error(r) : control_call_run(&call, stdout, e);
	control_call_destroy(&call);
	return r;
}

static void help(FILE *out)
{
	fputs("Usage: skep control PATH COMMAND [OPTION...] [ARGUMENT...]\n\n"
	      "Controls a running virtual machine by the commands of its control socket, which\n"
	      "is at PATH, or that of the machine of this name. A SIZE is like 512M or 4G; a\n"
	      "bare number is MiB.\n",
	      out);
	help_verbs(out, cli_control_verbs());
}

static void complete(FILE *out, int n, char *const *words)
{
	if (n == 1) {
		complete_vm(out, words[0]);
		fputs(":files\n", out);
	} else {
		complete_verbs(out, cli_control_verbs(), false, n - 1, words + 1);
	}
}

const struct command command_control = {
	.name = "control",
	.summary = "control a running virtual machine: the raw form of the above",
	.run = run,
	.help = help,
	.complete = complete,
};

static int run_steer(int argc, char *const *argv, struct error *e)
{
	struct control_call call;
	int r = cli_parse_steer(argc + 1, argv - 1, &call, e);

	r = r < 0 ? cli_parse_error(r) : control_call_run(&call, stdout, e);
	control_call_destroy(&call);
	return r;
}

static void help_steer(FILE *out)
{
	fputs("Usage: skep COMMAND [OPTION...] VM [ARGUMENT...]\n\n"
	      "Controls a running virtual machine: by its name, which 'skep ps' shows, or by\n"
	      "the path of its control socket. A SIZE is like 512M or 4G; a bare number is MiB.\n",
	      out);
	help_verbs(out, cli_steer_verbs());
}

static void complete_steer(FILE *out, int n, char *const *words)
{
	if (words[n - 1][0] != '-' && n == 1)
		complete_vm(out, words[0]);
	complete_verbs(out, cli_steer_verbs(), false, n + 1, words - 1);
}

const struct command command_steer = {
	.run = run_steer,
	.help = help_steer,
	.complete = complete_steer,
};
