// SPDX-License-Identifier: BSD-2-Clause
/* What can be asked of a VM that runs: docs/control.md. A command is a function and a line in the
 * table at the end. */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/suggest.h"
#include "base/util.h"
#include "blk/blk.h"
#include "control/control.h"

static void add_limits(json_t *disk, const struct blk_limits *limits)
{
	json_object_set_new(disk, "bps", json_integer((json_int_t)limits->bytes_per_s));
	json_object_set_new(disk, "iops", json_integer((json_int_t)limits->ops_per_s));
	json_object_set_new(disk, "burst_ns", json_integer((json_int_t)limits->burst_ns));
}

static json_t *status(const struct control_vm *vm, const json_t *request, struct error *e)
{
	const struct vm_config *config = vm->config;
	json_t *disks = json_array();

	(void)request;
	(void)e;
	for (size_t i = 0; i < config->num_disks; i++) {
		char serial[BLK_SERIAL_LEN + 1];
		struct disk_result result;
		struct blk_limits limits;
		json_t *disk;

		blk_device_result(vm->disks[i], &result);
		blk_device_limits(vm->disks[i], &limits);
		disk = vm_disk_json(&config->disks[i], &result);
		config_disk_serial(config, i, serial);
		json_object_set_new(disk, "serial", json_from_bytes(serial));
		json_object_set_new(disk, "size",
				    json_integer((json_int_t)blk_device_size(vm->disks[i])));
		add_limits(disk, &limits);
		json_array_append_new(disks, disk);
	}
	return json_pack("{s:s, s:f, s:o}", "state", vm->stopping ? "stopping" : "running",
			 "seconds", (double)(now_ns() - vm->started_ns) / 1e9, "disks", disks);
}

static json_t *power_button(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	(void)e;
	vm->power_button(vm->ctx);
	return json_object();
}

static json_t *stop(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	(void)e;
	vm->stop(vm->ctx);
	return json_object();
}

static int find_by_serial(const struct vm_config *config, const char *wanted, size_t *ret,
			  struct error *e)
{
	char serial[BLK_SERIAL_LEN + 1];
	size_t found = 0;

	for (size_t i = 0; i < config->num_disks; i++) {
		config_disk_serial(config, i, serial);
		if (strcmp(serial, wanted) == 0) {
			*ret = i;
			found++;
		}
	}
	if (found == 1)
		return 0;
	return error_set(e, -ENODEV, "%s the serial number '%.40s': see what \"status\" lists",
			 found ? "more than one disk has" : "no disk has", wanted);
}

/* The disk that "disk" names, by its position or its serial number. */
static int find_disk(const struct control_vm *vm, const json_t *request, size_t *ret,
		     struct error *e)
{
	const json_t *disk = json_object_get(request, "disk");
	size_t n = vm->config->num_disks;
	json_int_t i;

	if (json_is_string(disk))
		return find_by_serial(vm->config, json_string_value(disk), ret, e);
	if (!json_is_integer(disk))
		return error_set(e, -EINVAL,
				 "\"disk\" must be the position of a disk, 0 for the first, or its "
				 "serial number");
	i = json_integer_value(disk);
	if (i < 0 || (uint64_t)i >= n)
		return error_set(e, -ENODEV, "there is no disk %lld: the VM has %zu", (long long)i,
				 n);
	*ret = (size_t)i;
	return 0;
}

/* A member that counts bytes, more than none. 0 when it is not there. */
static int get_bytes(const json_t *request, const char *name, uint64_t *ret, struct error *e)
{
	const json_t *value = json_object_get(request, name);

	*ret = 0;
	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) <= 0)
		return error_set(e, -EINVAL, "\"%s\" must be a whole number of bytes", name);
	*ret = (uint64_t)json_integer_value(value);
	return 0;
}

static json_t *resize_disk(const struct control_vm *vm, const json_t *request, struct error *e)
{
	uint64_t size, grow;
	int64_t now;
	size_t i = 0;

	if (find_disk(vm, request, &i, e) < 0 || get_bytes(request, "size", &size, e) < 0 ||
	    get_bytes(request, "grow", &grow, e) < 0)
		return NULL;
	if (size && grow) {
		error_set(e, -EINVAL, "both \"size\" and \"grow\": give one of them");
		return NULL;
	}
	if (grow)
		size = blk_device_size(vm->disks[i]) + grow; /* neither is 2^63 */
	now = blk_device_resize(vm->disks[i], size, e);
	if (now < 0) {
		error_prefix(e, (int)now, "disk %s", vm->config->disks[i].path);
		return NULL;
	}
	return json_pack("{s:I, s:I}", "disk", (json_int_t)i, "size", (json_int_t)now);
}

/* A member that counts something, maybe none of it. *ret stays when it is not there. */
static int get_limit(const json_t *request, const char *name, uint64_t *ret, struct error *e)
{
	const json_t *value = json_object_get(request, name);

	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return error_set(e, -EINVAL, "\"%s\" must be a whole number, 0 for no limit", name);
	*ret = (uint64_t)json_integer_value(value);
	return 0;
}

static json_t *limit_disk(const struct control_vm *vm, const json_t *request, struct error *e)
{
	struct blk_limits limits;
	json_t *answer;
	size_t i = 0;

	if (find_disk(vm, request, &i, e) < 0)
		return NULL;
	blk_device_limits(vm->disks[i], &limits);
	if (get_limit(request, "bps", &limits.bytes_per_s, e) < 0 ||
	    get_limit(request, "iops", &limits.ops_per_s, e) < 0 ||
	    get_limit(request, "burst_ns", &limits.burst_ns, e) < 0)
		return NULL;
	blk_device_set_limits(vm->disks[i], &limits);
	answer = json_pack("{s:I}", "disk", (json_int_t)i);
	add_limits(answer, &limits);
	return answer;
}

static json_t *console_file(const struct control_vm *vm, const json_t *request, struct error *e)
{
	(void)request;
	if (vm->file < 0)
		error_set(e, -EINVAL,
			  "no file came with it: its descriptor is to be passed (SCM_RIGHTS)");
	else if (vm->console_file(vm->ctx, vm->file, e) == 0)
		return json_object();
	return NULL;
}

struct command {
	const char *name;
	json_t *(*run)(const struct control_vm *vm, const json_t *request, struct error *e);
	const char *members[4]; /* that it takes, besides "command" */
};

static const struct command commands[] = {
	{"status", status, {NULL}},
	{"power-button", power_button, {NULL}},
	{"stop", stop, {NULL}},
	{"console-file", console_file, {NULL}},
	{"resize-disk", resize_disk, {"disk", "size", "grow"}},
	{"limit-disk", limit_disk, {"disk", "bps", "iops", "burst_ns"}},
};

static const struct command *find_command(const char *name, struct error *e)
{
	struct suggest near = {.word = name};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		suggest_try(&near, commands[i].name);
	}
	error_set(e, -EINVAL, "unknown command '%.40s': %s", name,
		  suggest_hint(&near, "'skep help control' lists the commands"));
	return NULL;
}

/* What is misspelt must not be as if it were not there. */
static bool members_are_known(const struct command *c, const json_t *request, struct error *e)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)request, key, value)
	{
		size_t i = 0;

		while (i < ARRAY_SIZE(c->members) && c->members[i] && strcmp(c->members[i], key))
			i++;
		if ((i == ARRAY_SIZE(c->members) || !c->members[i]) && strcmp(key, "command")) {
			error_set(e, -EINVAL, "'%s' takes no \"%.40s\"", c->name, key);
			return false;
		}
	}
	return true;
}

json_t *control_command(const struct control_vm *vm, const json_t *request, struct error *e)
{
	const char *name = json_string_value(json_object_get(request, "command"));
	const struct command *c;

	if (!name) {
		error_set(e, -EINVAL,
			  "a request is an object with a \"command\", like "
			  "{\"command\": \"status\"}");
		return NULL;
	}
	c = find_command(name, e);
	return c && members_are_known(c, request, e) ? c->run(vm, request, e) : NULL;
}
