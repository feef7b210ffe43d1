// SPDX-License-Identifier: BSD-2-Clause
/* `skep ps`: the VMs that have a name and run. */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/runtime.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "control.h"

#define SILENCE_NS (2 * NSEC_PER_SEC)

struct ps_options {
	bool json;
};

static const struct setting settings[] = {
	{"json", BOOL_FIELD(ps_options, json), .help = "print it as JSON"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

/* What a VM left that was killed. */
static void sweep(const char *dir, const char *name)
{
	_cleanup_free_ char *own = NULL, *socket = NULL;
	int lock;

	if (asprintf(&own, "%s/%s", dir, name) < 0 ||
	    asprintf(&socket, "%s/" RUNTIME_SOCKET, own) < 0)
		return;
	lock = unix_lock_directory(dir);
	if (unix_remove_left(socket, NULL) == 0)
		rmdir(own);
	if (lock >= 0)
		close(lock);
}

static void add_vm(void *list, const char *dir, const char *name)
{
	json_t *request = json_pack("{s:s}", "command", "status"), *answer = NULL, *vm;
	struct error e = {""};
	int r;

	r = control_ask(name, request, NULL, 0, SILENCE_NS, &answer, &e);
	json_decref(request);
	if (r == -ECONNREFUSED)
		sweep(dir, name);
	if (r == -ECONNREFUSED || r == -ENOENT)
		return;
	if (r < 0)
		log_say(&e, r);
	vm = json_pack("{s:o}", "name", json_from_bytes(name));
	for (const char *const *key = (const char *const[]){"pid", "state", "seconds", NULL};
	     answer && *key; key++)
		json_object_set(vm, *key, json_object_get(answer, *key));
	json_array_append_new(list, vm);
	json_decref(answer);
}

static int apply(void *ctx, const struct setting *s, const char *value, struct error *e)
{
	return s ? setting_set(ctx, s, value, e)
		 : error_set(e, -EINVAL, "unexpected argument '%.200s': skep ps [OPTION...]",
			     value);
}

static void print(const json_t *list)
{
	const json_t *vm;
	size_t i;

	print_line(stdout, "%-20s %7s  %-9s %10s", "NAME", "PID", "STATE", "SECONDS");
	json_array_foreach(list, i, vm)
		print_line(stdout, "%-20s %7llu  %-9s %10.0f", answer_text(vm, "name"),
			   (unsigned long long)answer_number(vm, "pid"), answer_text(vm, "state"),
			   json_number_value(json_object_get(vm, "seconds")));
}

static int run(int argc, char *const *argv, struct error *e)
{
	struct ps_options options = {.json = false};
	struct parser p = {settings, "ps", apply, &options, e};
	int r = cli_parse(&p, argc, argv);
	_cleanup_free_ char *text = NULL;
	json_t *list;

	if (r < 0)
		return cli_parse_error(r);
	list = json_array();
	cli_for_each_vm(add_vm, list);
	if (!options.json)
		print(list);
	text = json_to_text(list);
	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	if (options.json)
		fputs(text, stdout);
	return 0;
}

static void help(FILE *out)
{
	fputs("Usage: skep ps [OPTION...]\n\n"
	      "Lists the virtual machines of this user that run and have a name.\n\nOptions:\n",
	      out);
	help_options(out, settings);
}

static void complete(FILE *out, int n, char *const *words)
{
	if (words[n - 1][0] == '-')
		complete_options(out, settings, n, words);
}

const struct command command_ps = {
	.name = "ps",
	.summary = "list the virtual machines that run",
	.run = run,
	.help = help,
	.complete = complete,
};
