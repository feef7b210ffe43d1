// SPDX-License-Identifier: BSD-2-Clause
/*
 * The configuration as JSON.
 *
 * DOC: jansson parses the text, strictly: no duplicate keys, no NUL, no comments, bounded depth.
 * Every member is then turned into the text that its command-line option would take, and set by the
 * same function, so the two forms cannot differ. jansson keeps no positions; when a member is
 * wrong, a second, trivial scan finds it in the text, which is known to be JSON by then.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/json.h"
#include "base/suggest.h"
#include "base/util.h"
#include "config/config.h"
#include "config/units.h"

/* Where we are: the ordinal of the member or element at each depth. */
struct cursor {
	const char *name, *text;
	size_t len;
	unsigned path[3], depth;
	struct error *e;
};

/* The offset of the member (its key) or element that the cursor is at. */
static size_t cursor_offset(const struct cursor *c)
{
	unsigned at[3] = {0}, depth = 0;

	for (size_t i = 0; i < c->len; i++) {
		switch (c->text[i]) {
		case ' ':
		case '\t':
		case '\r':
		case '\n':
		case ':':
			continue;
		case '}':
		case ']':
			depth--;
			continue;
		case ',':
			if (depth >= 1 && depth <= c->depth)
				at[depth - 1]++;
			continue;
		default:
			break;
		}
		if (depth == c->depth && memcmp(at, c->path, depth * sizeof(*at)) == 0)
			return i;
		if (c->text[i] == '{' || c->text[i] == '[') {
			if (depth < c->depth)
				at[depth] = 0;
			depth++;
		} else if (c->text[i] == '"') {
			while (++i < c->len && c->text[i] != '"')
				if (c->text[i] == '\\')
					i++;
		}
	}
	return 0;
}

/* Sets or prefixes the error message with "NAME:LINE:COLUMN". */
__attribute__((format(printf, 3, 4))) static int fail_at(const struct cursor *c, int code,
							 const char *fmt, ...)
{
	size_t offset = cursor_offset(c);
	unsigned line = 1, column = 1;
	struct error what = {""};
	va_list ap;

	for (size_t i = 0; i < offset; i++) {
		if (c->text[i] == '\n') {
			line++;
			column = 1;
		} else if ((c->text[i] & 0xc0) != 0x80) { /* columns are characters */
			column++;
		}
	}
	va_start(ap, fmt);
	vsnprintf(what.msg, sizeof(what.msg), fmt, ap);
	va_end(ap);
	return error_set(c->e, code, "%.200s:%u:%u: %s", c->name, line, column, what.msg);
}

static const struct setting *find_key(const struct setting *table, const char *key)
{
	for (const struct setting *s = table; s->name; s++)
		if (setting_key(s) && strcmp(setting_key(s), key) == 0)
			return s;
	return NULL;
}

static int unknown_key(const struct cursor *c, const struct setting *table, const char *key)
{
	struct suggest near = {.word = key};

	for (const struct setting *s = table; s->name; s++)
		if (setting_key(s))
			suggest_try(&near, setting_key(s));
	return fail_at(c, -EINVAL, "unknown key '%.40s': %s", key,
		       suggest_hint(&near, "skep(1) lists the keys"));
}

/* The value as the command line would write it, or NULL when it is of the wrong type. */
static const char *value_text(const struct setting *s, const json_t *value, char number[32])
{
	switch (s->type) {
	case SETTING_BOOL:
		return json_is_boolean(value) ? (json_is_true(value) ? "on" : "off") : NULL;
	case SETTING_COUNT:
	case SETTING_MEMORY:
	case SETTING_BYTES:
	case SETTING_DURATION:
		if (json_is_integer(value)) {
			snprintf(number, 32, "%lld", (long long)json_integer_value(value));
			return number;
		}
		if (s->type == SETTING_COUNT)
			return NULL;
		break;
	default:
		break;
	}
	return json_string_value(value); /* NULL when it is no string */
}

/* What a value must be, where it is no plain string. */
static const char *const type_names[] = {
	[SETTING_BOOL] = "true or false",
	[SETTING_COUNT] = "a whole number",
	[SETTING_MEMORY] =
		"a string like \"512M\" or \"start=1G,max=8G\", or a whole number of MiB",
	[SETTING_BYTES] = "a string like \"10M\", or a whole number of bytes",
	[SETTING_DURATION] = "a string like \"90s\", or a whole number of seconds",
	[SETTING_LIST] = "a string or an array of strings",
	[SETTING_DEVICE] = NULL,
};

static int set_value(const struct cursor *c, void *base, const struct setting *s,
		     const json_t *value)
{
	struct error what = {""};
	const char *text;
	char number[32];
	int r;

	text = value_text(s, value, number);
	if (!text)
		return fail_at(c, -EINVAL, "'%s' must be %s", s->name,
			       type_names[s->type] ? type_names[s->type] : "a string");
	r = setting_set(base, s, text, &what);
	if (r < 0)
		return fail_at(c, r, "%s: %s", s->name, what.msg[0] ? what.msg : strerror(-r));
	return 0;
}

static int set_members(struct cursor *c, void *base, const struct setting *table, json_t *object);

/* A device of a type whose devices are objects. */
static int add_device(struct cursor *c, struct vm_config *config, const struct device_options *type,
		      json_t *object)
{
	_cleanup_free_ void *device = device_config_new(type);
	const char *first = type->settings->name;
	struct error what = {""};
	int r;

	if (!json_is_object(object))
		return fail_at(c, -EINVAL, "%s must be an object: {\"%s\": ...}", type->what,
			       first);
	if (!device)
		return fail_at(c, -ENOMEM, "out of memory");
	r = set_members(c, device, type->settings, object);
	if (r == 0 && !type->named && !json_object_get(object, first))
		r = fail_at(c, -EINVAL, "this %s has no \"%s\"", type->name, first);
	if (r == 0) {
		r = config_add_device(config, type, device, &what);
		if (r < 0)
			fail_at(c, r, "%s", what.msg[0] ? what.msg : strerror(-r));
	}
	if (r < 0)
		device_config_destroy(type, device);
	return r;
}

static int set_device(struct cursor *c, struct vm_config *config, const struct setting *s,
		      json_t *value)
{
	return s->device->parse ? set_value(c, config, s, value)
				: add_device(c, config, s->device, value);
}

static int add_devices(struct cursor *c, struct vm_config *config, const struct setting *s,
		       json_t *array)
{
	json_t *value;
	size_t i;
	int r = 0;

	if (!json_is_array(array))
		return fail_at(c, -EINVAL, "'%s' must be an array of %s", setting_key(s),
			       s->device->parse ? "strings" : "objects");
	c->depth++;
	json_array_foreach(array, i, value)
	{
		c->path[c->depth - 1] = (unsigned)i;
		r = set_device(c, config, s, value);
		if (r < 0)
			break;
	}
	c->depth--;
	return r;
}

static int set_member(struct cursor *c, void *base, const struct setting *s, json_t *value)
{
	int r = 0;

	if (s->type == SETTING_DEVICE)
		return s->device->plural ? add_devices(c, base, s, value)
					 : set_device(c, base, s, value);
	if (s->type != SETTING_LIST || !json_is_array(value))
		return set_value(c, base, s, value);
	for (size_t i = 0; r == 0 && i < json_array_size(value); i++)
		r = set_value(c, base, s, json_array_get(value, i));
	return r;
}

/* The cursor is at the object. */
static int set_members(struct cursor *c, void *base, const struct setting *table, json_t *object)
{
	const char *key;
	json_t *value;
	int r = 0;

	assert(c->depth < ARRAY_SIZE(c->path));
	c->path[c->depth++] = 0;
	json_object_foreach(object, key, value)
	{
		const struct setting *s = find_key(table, key);

		r = s ? set_member(c, base, s, value) : unknown_key(c, table, key);
		if (r < 0)
			break;
		c->path[c->depth - 1]++;
	}
	c->depth--;
	return r;
}

int config_parse_json(struct vm_config *config, const char *text, size_t len, const char *name,
		      struct error *e)
{
	struct cursor c = {.name = name, .text = text, .len = len, .e = e};
	json_error_t error;
	json_t *doc;
	int r;

	doc = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (!doc)
		return error_set(e, -EINVAL, "%.200s:%d:%d: %s", name, error.line, error.column,
				 error.text);
	if (json_is_object(doc))
		r = set_members(&c, config, config->settings, doc);
	else
		r = fail_at(&c, -EINVAL, "the configuration must be an object: {...}");
	json_decref(doc);
	return r;
}

/* Writing */

static json_t *struct_to_json(const void *base, const struct setting *table);

static json_t *device_value(const struct device_options *type, const void *device)
{
	_cleanup_free_ char *text = NULL;

	if (!type->format)
		return struct_to_json(device, type->settings);
	text = type->format(device);
	return json_string(text);
}

static json_t *devices_value(const struct vm_config *config, const struct device_options *type)
{
	json_t *array;
	size_t num;
	const char *devices = config_devices(config, type, &num);

	if (!type->plural)
		return device_value(type, devices);
	array = json_array();
	for (size_t i = 0; i < num; i++)
		if (json_array_append_new(array, device_value(type, devices + i * type->size)) <
		    0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

/* One stands for itself. */
static json_t *list_value(char *const *list)
{
	json_t *array;

	if (!list[1])
		return json_string(list[0]);
	array = json_array();
	for (; *list; list++)
		if (json_array_append_new(array, json_string(*list)) < 0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *memory_value(const struct ram_size *size)
{
	char start[32], max[32];

	setting_format_size(size->start, start);
	setting_format_size(size->max, max);
	return size->max == size->start ? json_string(start)
					: json_sprintf("start=%s,max=%s", start, max);
}

static json_t *field_value(const void *base, const struct setting *s)
{
	const void *field = (const char *)base + s->offset;
	char text[32];

	switch (s->type) {
	case SETTING_STRING:
	case SETTING_APPEND:
		return json_string(*(char *const *)field);
	case SETTING_LIST:
		return list_value(*(char **const *)field);
	case SETTING_COUNT:
		return json_integer(*(const unsigned *)field);
	case SETTING_MEMORY:
		return memory_value(field);
	case SETTING_BYTES:
		setting_format_size(*(const uint64_t *)field, text);
		return json_string(text);
	case SETTING_DURATION:
		setting_format_duration(*(const uint64_t *)field, text);
		return json_string(text);
	case SETTING_BOOL:
		return json_boolean(*(const bool *)field);
	case SETTING_CHOICE:
		return json_string(s->choices[*(const unsigned *)field]);
	case SETTING_TEXT:
		return json_string(field);
	case SETTING_DEVICE:
		return devices_value(base, s->device);
	default:
		return NULL;
	}
}

/* There is none unless it is asked for, and it was not. */
static bool is_absent(const struct vm_config *config, const struct device_options *type)
{
	size_t num;

	config_devices(config, type, &num);
	return !type->plural && !num &&
	       (type->is_off(type->defaults) || (type->yields && config->command));
}

/* Text that was not given has no key, nor has a device that is not there by itself. */
static bool is_unset(const void *base, const struct setting *s)
{
	const char *field = (const char *)base + s->offset;

	if (s->type == SETTING_DEVICE)
		return is_absent(base, s->device);
	if (s->type == SETTING_STRING || s->type == SETTING_APPEND || s->type == SETTING_LIST)
		return !*(void *const *)(const void *)field;
	return s->type == SETTING_TEXT && !*field;
}

/* Arrays of devices, which are long, come after all else. */
static bool add_members(json_t *object, const void *base, const struct setting *table, bool arrays)
{
	for (const struct setting *s = table; s->name; s++) {
		bool is_array = s->type == SETTING_DEVICE && s->device->plural;

		if (setting_key(s) && is_array == arrays && !is_unset(base, s) &&
		    json_object_set_new(object, setting_key(s), field_value(base, s)) < 0)
			return false;
	}
	return true;
}

/* NULL when memory is short or a string is not UTF-8. */
static json_t *struct_to_json(const void *base, const struct setting *table)
{
	json_t *object = json_object();

	if (add_members(object, base, table, false) && add_members(object, base, table, true))
		return object;
	json_decref(object);
	return NULL;
}

char *config_to_json(const struct vm_config *config)
{
	json_t *doc = struct_to_json(config, config->settings);

	return doc ? json_to_text(doc) : NULL;
}
