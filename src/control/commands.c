// SPDX-License-Identifier: BSD-2-Clause
/* The commands of a running VM (docs/control.md): the VM's own are here, those of its devices in
 * the devices' rooms. */
#include <errno.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "control/control.h"

static json_t *status(const struct control_vm *vm)
{
	json_t *answer = json_pack("{s:s, s:f}", "state", vm->stopping ? "stopping" : "running",
				   "seconds", (double)(now_ns() - vm->started_ns) / 1e9);
	struct device_count *counts = calloc(vm->num_devices + 1, sizeof(*counts));

	for (unsigned i = 0; counts && i < vm->num_devices; i++)
		device_count(&counts[i], &vm->devices[i], true);
	if (counts)
		devices_to_json(answer, vm->types, counts, vm->num_devices, true);
	else
		json_decref(answer);
	free(counts);
	return counts ? answer : NULL;
}

static json_t *power_button(const struct control_vm *vm)
{
	vm->power_button(vm->ctx);
	return json_object();
}

static json_t *stop(const struct control_vm *vm)
{
	vm->stop(vm->ctx);
	return json_object();
}

/* The VM's own. They take no members. */
static const struct command {
	const char *name;
	json_t *(*run)(const struct control_vm *vm);
} commands[] = {
	{"status", status},
	{"power-button", power_button},
	{"stop", stop},
};

/* A misspelt member must not be ignored. */
static bool members_are_known(const char *command, const char *const *members,
			      const json_t *request, struct error *e)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)request, key, value)
	{
		const char *const *m = members;

		while (*m && strcmp(*m, key) != 0)
			m++;
		if (!*m && strcmp(key, "command") != 0) {
			error_set(e, -EINVAL, "'%s' takes no \"%.40s\"", command, key);
			return false;
		}
	}
	return true;
}

static json_t *run(const struct control_vm *vm, const struct command *c, const json_t *request,
		   struct error *e)
{
	static const char *const none[] = {NULL};

	return members_are_known(c->name, none, request, e) ? c->run(vm) : NULL;
}

static json_t *run_of_type(const struct control_vm *vm, const struct device_type *type,
			   const struct device_command *c, const json_t *json, struct error *e)
{
	struct device_request request = {.devices = vm->devices, .json = json, .file = vm->file};
	const struct vm_device *end = vm->devices + vm->num_devices;

	while (request.devices < end && request.devices->type != type)
		request.devices++;
	while (request.devices + request.num < end && request.devices[request.num].type == type)
		request.num++;
	return members_are_known(c->name, c->members, json, e) ? c->run(&request, e) : NULL;
}

json_t *control_command(const struct control_vm *vm, const json_t *request, struct error *e)
{
	const char *name = json_string_value(json_object_get(request, "command"));
	struct suggest near = {.word = name};

	if (!name) {
		error_set(e, -EINVAL,
			  "a request is an object with a \"command\", like "
			  "{\"command\": \"status\"}");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return run(vm, &commands[i], request, e);
		suggest_try(&near, commands[i].name);
	}
	for (const struct device_type *const *type = vm->types; *type; type++) {
		const struct device_command *c = (*type)->commands;

		for (; c && c->name; c++) {
			if (strcmp(c->name, name) == 0)
				return run_of_type(vm, *type, c, request, e);
			suggest_try(&near, c->name);
		}
	}
	error_set(e, -EINVAL, "unknown command '%.40s': %s", name,
		  suggest_hint(&near, "'skep help control' lists the commands"));
	return NULL;
}
