// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "config/device_options.h"
#include "config/units.h"
#include "virtio/type.h"

void device_add_loop(struct vm_device *d, struct loop *loop, const char *role)
{
	assert(d->num_loops < DEVICE_MAX_LOOPS);
	d->loops[d->num_loops].loop = loop;
	d->loops[d->num_loops++].role = role;
}

void device_count(struct device_count *ret, const struct vm_device *d, bool wait)
{
	*ret = (struct device_count){.device = d};
	if (d->type->count)
		d->type->count(d, wait, ret->counters);
}

static void add_counters(json_t *object, const struct device_type *type, const void *counters)
{
	for (const struct device_counter *c = type->counters; c->name; c++) {
		int64_t n;

		assert(c->offset + sizeof(n) <= sizeof(int64_t[DEVICE_MAX_COUNTERS]));
		memcpy(&n, (const char *)counters + c->offset, sizeof(n));
		json_object_set_new(object, c->name, n < 0 ? json_null() : json_integer(n));
	}
}

static json_t *to_json(const struct device_count *count, bool with_status)
{
	const struct device_type *type = count->device->type;
	json_t *object = json_object();

	if (type->describe)
		type->describe(count->device, object);
	add_counters(object, type, count->counters);
	if (with_status && type->add_status)
		type->add_status(count->device, object);
	return object;
}

static void add_type(json_t *doc, const struct device_type *type, const struct device_count *counts,
		     size_t num, bool with_status)
{
	static const int64_t zeros[DEVICE_MAX_COUNTERS];
	const char *plural = type->options->plural;
	json_t *value = plural ? json_array() : json_object();

	if (!plural)
		add_counters(value, type, zeros); /* unless there is one */
	for (size_t i = 0; i < num; i++) {
		json_t *object;

		if (counts[i].device->type != type)
			continue;
		object = to_json(&counts[i], with_status);
		if (plural) {
			json_array_append_new(value, object);
		} else {
			json_object_update(value, object);
			json_decref(object);
		}
	}
	json_object_set_new(doc, plural ? plural : type->options->name, value);
}

void devices_to_json(json_t *doc, const struct device_type *const *types,
		     const struct device_count *counts, size_t num, bool with_status)
{
	for (; *types; types++)
		if ((*types)->counters)
			add_type(doc, *types, counts, num, with_status);
}

int request_number(const json_t *request, const char *name, json_int_t least, uint64_t *ret,
		   struct error *e)
{
	const json_t *value = json_object_get(request, name);

	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < least)
		return error_set(e, -EINVAL, "\"%s\" must be a whole number, %s", name,
				 least ? "in bytes" : "0 for no limit");
	*ret = (uint64_t)json_integer_value(value);
	return 0;
}

void ask_device(json_t *request, const char *key, const char *device)
{
	bool position = strspn(device, "0123456789") == strlen(device) && strlen(device) < 10;

	json_object_set_new(request, key,
			    position ? json_integer(strtol(device, NULL, 10))
				     : json_from_bytes(device));
}

void ask_number(json_t *request, const char *name, uint64_t value)
{
	if (value != UINT64_MAX)
		json_object_set_new(request, name, json_integer((json_int_t)MIN(value, INT64_MAX)));
}

int ask_size(const struct device_words *words, json_t *request, struct error *e)
{
	uint64_t size;
	int r = config_parse_size(words->operand[0], MIB, &size, e);

	if (r < 0)
		return r;
	json_object_set_new(request, "size", json_integer((json_int_t)MIN(size, INT64_MAX)));
	return 0;
}

uint64_t answer_number(const json_t *answer, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(answer, name));
}

const char *answer_text(const json_t *answer, const char *name)
{
	const char *text = json_string_value(json_object_get(answer, name));

	return text ? text : "?";
}

const char *answer_bytes(const json_t *answer, const char *name, char ret[DEVICE_BYTES_LEN])
{
	return format_bytes(answer_number(answer, name), ret);
}
