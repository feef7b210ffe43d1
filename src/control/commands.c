// SPDX-License-Identifier: BSD-2-Clause
/* The commands of a running VM (docs/control.md): the VM's own are here, those of its devices in
 * the devices' rooms. */
#include <errno.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "control/control.h"

static json_t *status(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	(void)e;
	json_t *answer =
		json_pack("{s:i, s:s, s:s?, s:i, s:s, s:f}", "protocol", CONTROL_PROTOCOL,
			  "version", SKEP_VERSION, "name", vm->name, "pid", (int)getpid(), "state",
			  vm->paused	 ? "paused"
			  : vm->stopping ? "stopping"
					 : "running",
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

static json_t *power_button(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	(void)e;
	vm->power_button(vm->ctx);
	return json_object();
}

static json_t *shut_down(const struct control_vm *vm, const json_t *request, struct error *e)
{
	uint64_t timeout_ns = UINT64_MAX;

	if (request_number(request, "timeout_ns", 0, &timeout_ns, e) < 0)
		return NULL;
	vm->shut_down(vm->ctx, timeout_ns);
	return json_integer(CONTROL_END);
}

static json_t *wait_for_end(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)vm;
	(void)request;
	(void)e;
	return json_integer(CONTROL_END);
}

static json_t *events(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)vm;
	(void)request;
	(void)e;
	return json_integer(CONTROL_EVENTS);
}

static json_t *pause_vm(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	if (vm->paused)
		return json_object();
	return vm->pause(vm->ctx, true, e) < 0 ? NULL : json_integer(CONTROL_PAUSED);
}

static json_t *resume_vm(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	return vm->pause(vm->ctx, false, e) < 0 ? NULL : json_object();
}

static json_t *stop(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	(void)e;
	vm->stop(vm->ctx);
	return json_object();
}

static json_t *messages_of(const struct klog_page *page)
{
	json_t *list = json_array();

	for (size_t i = 0; i < page->num; i++) {
		const struct klog_record *r = &page->record[i];

		json_array_append_new(list, json_pack("{s:I, s:I, s:i, s:s, s:s}", "seq",
						      (json_int_t)r->seq, "ns", (json_int_t)r->ns,
						      "level", (int)r->level, "caller", r->caller,
						      "text", r->text));
	}
	return list;
}

/* Where the log begins that is asked for. */
static int get_from(const json_t *request, uint64_t *ret, struct error *e)
{
	const json_t *from = json_object_get(request, "from");

	*ret = KLOG_NEWEST;
	if (!from)
		return 0;
	if (!json_is_integer(from) || json_integer_value(from) < 0)
		return error_set(e, -EINVAL, "\"from\" must be the number of a message");
	*ret = (uint64_t)json_integer_value(from);
	return 0;
}

static json_t *dmesg(const struct control_vm *vm, const json_t *request, struct error *e)
{
	struct klog_range range = {.bytes = KLOG_MAX_BYTES};
	struct klog_page page;
	json_t *answer = NULL;
	int r = get_from(request, &range.from, e);

	if (r < 0)
		return NULL;
	r = klog_read(vm->klog, &range, &page);
	if (r == 0)
		answer = json_pack("{s:o, s:I, s:I}", "messages", messages_of(&page), "next",
				   (json_int_t)page.next, "end", (json_int_t)page.end);
	else if (r != -ENOMEM)
		error_set(e, r,
			  "there is no log in the guest's memory: it is that of a Linux kernel, "
			  "5.10 or newer, which has been running for a moment");
	klog_page_free(&page);
	return answer;
}

static const char *const none[] = {NULL};

/* The VM's own. */
static const struct command {
	const char *name;
	const char *const *members; /* that it takes */
	json_t *(*run)(const struct control_vm *vm, const json_t *request, struct error *e);
} commands[] = {
	{"status", none, status},
	{"power-button", none, power_button},
	{"events", none, events},
	{"pause", none, pause_vm},
	{"resume", none, resume_vm},
	{"shutdown", (const char *const[]){"timeout_ns", NULL}, shut_down},
	{"stop", none, stop},
	{"wait", none, wait_for_end},
	{"dmesg", (const char *const[]){"from", NULL}, dmesg},
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
		if (!*m && strcmp(key, "command") != 0 && strcmp(key, "id") != 0) {
			error_set(e, -EINVAL, "'%s' takes no \"%.40s\"", command, key);
			return false;
		}
	}
	return true;
}

static json_t *run(const struct control_vm *vm, const struct command *c, const json_t *request,
		   struct error *e)
{
	return members_are_known(c->name, c->members, request, e) ? c->run(vm, request, e) : NULL;
}

static json_t *run_of_type(const struct control_vm *vm, const struct device_type *type,
			   const struct device_command *c, const json_t *json, struct error *e)
{
	struct device_request request = {.devices = vm->devices,
					 .json = json,
					 .files = vm->files,
					 .num_files = vm->num_files};
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
