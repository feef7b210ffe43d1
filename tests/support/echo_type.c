// SPDX-License-Identifier: BSD-2-Clause
/* The echo device as a device of a VM: see docs/adding-a-device.md. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "config/device_options.h"
#include "echo.h"
#include "virtio/type.h"

#define QUEUE_SIZE 64u

/* The option: --echo NAME[,queues=N] */

struct echo_config {
	char *name;
	unsigned queues;
};

static const struct setting settings[] = {
	{"name", .arg = "NAME", STRING_FIELD(echo_config, name)},
	{"queues", .arg = "N", COUNT_FIELD(echo_config, queues), .min = 1, .max = 4,
	 .help = "queues, 1 to 4 (default: 1)"},
	{.name = NULL},
};

static int check(const void *configs, size_t num, struct error *e)
{
	const struct echo_config *config = configs;

	for (size_t i = 1; i < num; i++)
		if (strcmp(config[i].name, config[i - 1].name) == 0)
			return error_set(e, -EINVAL, "two echo devices are named '%.40s'",
					 config[i].name);
	return 0;
}

const struct device_options echo_options = {
	.name = "echo",
	.plural = "echoes",
	.what = "an echo device",
	.max = 8,
	.option = {.arg = "NAME[,OPTION...]",
		   .help = "add a device that copies what it is given (repeatable); see below"},
	.size = sizeof(struct echo_config),
	.defaults = &(const struct echo_config){.queues = 1},
	.settings = settings,
	.check = check,
};

/* How a VM builds it, on a loop of its own */

static struct echo *echo_of(const struct vm_device *d)
{
	return container_of(d->dev, struct echo, dev);
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct echo_config *config = d->config;
	struct loop *loop;
	int r = loop_new(&loop, "echo", LOOP_EPOLL, 0, e);

	if (r < 0)
		return r;
	device_add_loop(d, loop, "echo");
	d->dev = &echo_new(host->mem, config->queues, QUEUE_SIZE, loop)->dev;
	return 0;
}

/* Counters */

struct echo_counters {
	uint64_t chains, kicks;
};

static const struct device_counter counters[] = {
	{"chains", offsetof(struct echo_counters, chains)},
	{"kicks", offsetof(struct echo_counters, kicks)},
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		*(struct echo_counters *)ret =
			(struct echo_counters){echo_of(d)->chains, echo_of(d)->kicks};
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct echo_config *config = d->config;

	json_object_set_new(ret, "name", json_from_bytes(config->name));
}

static void print_status(size_t i, const json_t *echo, FILE *out)
{
	print_line(out, "echo %zu (%s): %llu chains", i, answer_text(echo, "name"),
		   (unsigned long long)answer_number(echo, "chains"));
}

/* skep control PATH echo-tell NAME TEXT [--upper]: the guest reads TEXT in the configuration */

static json_t *tell(const struct device_request *request, struct error *e)
{
	const char *name = json_string_value(json_object_get(request->json, "echo"));
	const char *text = json_string_value(json_object_get(request->json, "text"));
	char bytes[ECHO_WRITABLE] = "";

	if (!name || !text || strlen(text) > sizeof(bytes)) {
		error_set(e, -EINVAL,
			  "\"echo\" and \"text\" must be strings, \"text\" a short one");
		return NULL;
	}
	for (unsigned i = 0; i < request->num; i++) {
		const struct echo_config *config = request->devices[i].config;

		if (strcmp(config->name, name) != 0)
			continue;
		memcpy(bytes, text, strlen(text));
		virtio_dev_set_config(request->devices[i].dev, 0, bytes, sizeof(bytes));
		return json_pack("{s:I, s:s}", "echo", (json_int_t)i, "text", text);
	}
	error_set(e, -ENODEV, "no echo device is named '%.40s'", name);
	return NULL;
}

struct tell_options {
	bool upper;
};

static const struct setting tell_settings[] = {
	{"upper", BOOL_FIELD(tell_options, upper), .help = "in capitals"},
	{"help", 'h', .type = SETTING_HELP, .help = "show this text"},
	{.name = NULL},
};

static int ask_tell(const struct device_words *words, json_t *request, struct error *e)
{
	const struct tell_options *options = words->options;
	char text[ECHO_WRITABLE + 1] = "";

	if (!words->operand[1] || strlen(words->operand[1]) > ECHO_WRITABLE)
		return error_set(e, -EINVAL, "a text of at most %u bytes must follow the name",
				 ECHO_WRITABLE);
	for (size_t i = 0; words->operand[1][i]; i++)
		text[i] = options->upper ? (char)toupper((unsigned char)words->operand[1][i])
					 : words->operand[1][i];
	json_object_set_new(request, "echo", json_from_bytes(words->operand[0]));
	json_object_set_new(request, "text", json_from_bytes(text));
	return 0;
}

static int print_tell(const struct device_words *words, const json_t *answer, FILE *out)
{
	print_line(out, "echo %s: %s", words->operand[0], answer_text(answer, "text"));
	return 0;
}

static const struct device_command commands[] = {
	{
		.name = "echo-tell",
		.members = (const char *const[]){"echo", "text", NULL},
		.run = tell,
		.operands = "NAME TEXT",
		.summary = "show a guest TEXT",
		.max_operands = 2,
		.settings = tell_settings,
		.options_size = sizeof(struct tell_options),
		.ask = ask_tell,
		.print = print_tell,
	},
	{.name = NULL},
};

const struct device_type echo_type = {
	.name = "echo",
	.options = &echo_options,
	.build = build,
	.counters = counters,
	.count = count,
	.describe = describe,
	.print_status = print_status,
	.commands = commands,
};
