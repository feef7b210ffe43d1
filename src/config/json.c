// SPDX-License-Identifier: BSD-2-Clause
/*
 * The configuration as JSON.
 *
 * DOC: jansson parses the text, strictly: no duplicate keys, no NUL, no comments, bounded depth.
 * Every member is then turned into the text that its command-line option would take and set by the
 * same function, so the two forms cannot differ. jansson keeps no positions; when a member is
 * wrong, where it is in the text is found by a second, trivial scan, which may trust that the text
 * is JSON.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/json.h"
#include "base/suggest.h"
#include "base/util.h"
#include "config/config.h"
#include "config/settings.h"

#define DISKS "disks" /* the key; the option is --disk */

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

static int unknown_key(const struct cursor *c, const struct setting *table, const char *key)
{
	struct suggest near = {.word = key};

	for (const struct setting *s = table; s->name; s++)
		if (setting_is_field(s))
			suggest_try(&near, s->name);
	if (table == vm_settings)
		suggest_try(&near, DISKS);
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
	case SETTING_SIZE:
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

static const char *type_name(const struct setting *s)
{
	switch (s->type) {
	case SETTING_BOOL:
		return "true or false";
	case SETTING_COUNT:
		return "a whole number";
	case SETTING_SIZE:
		return "a string like \"512M\", or a whole number of MiB";
	case SETTING_BYTES:
		return "a string like \"10M\", or a whole number of bytes";
	case SETTING_DURATION:
		return "a string like \"90s\", or a whole number of seconds";
	case SETTING_LIST:
		return "a string or an array of strings";
	default:
		return "a string";
	}
}

static int set_value(const struct cursor *c, void *base, const struct setting *s,
		     const json_t *value)
{
	struct error what = {""};
	const char *text;
	char number[32];
	int r;

	text = value_text(s, value, number);
	if (!text)
		return fail_at(c, -EINVAL, "'%s' must be %s", s->name, type_name(s));
	r = setting_set(base, s, text, &what);
	if (r < 0)
		return fail_at(c, r, "%s: %s", s->name, what.msg[0] ? what.msg : strerror(-r));
	return 0;
}

static int set_member(struct cursor *c, void *base, const struct setting *table, const char *key,
		      const json_t *value)
{
	const struct setting *s = setting_find(table, key, strlen(key));
	int r = 0;

	if (!s || !setting_is_field(s))
		return unknown_key(c, table, key);
	if (s->type != SETTING_LIST || !json_is_array(value))
		return set_value(c, base, s, value);
	for (size_t i = 0; r == 0 && i < json_array_size(value); i++)
		r = set_value(c, base, s, json_array_get(value, i));
	return r;
}

static int add_disk(struct cursor *c, struct vm_config *config, json_t *object)
{
	struct error what = {""};
	struct disk_config disk;
	const char *key;
	json_t *value;
	int r = 0;

	if (!json_is_object(object))
		return fail_at(c, -EINVAL, "a disk must be an object: {\"path\": ...}");
	disk_config_init(&disk);
	c->path[c->depth++] = 0;
	json_object_foreach(object, key, value)
	{
		r = set_member(c, &disk, disk_settings, key, value);
		if (r < 0)
			break;
		c->path[c->depth - 1]++;
	}
	c->depth--;
	if (r == 0 && !disk.path)
		r = fail_at(c, -EINVAL, "this disk has no \"path\"");
	if (r == 0) {
		r = config_append_disk(config, &disk, &what);
		if (r < 0)
			fail_at(c, r, "%s", what.msg[0] ? what.msg : strerror(-r));
	}
	if (r < 0)
		free(disk.path);
	return r;
}

static int add_disks(struct cursor *c, struct vm_config *config, const json_t *array)
{
	json_t *disk;
	size_t i;
	int r = 0;

	if (!json_is_array(array))
		return fail_at(c, -EINVAL, "'" DISKS "' must be an array of objects");
	c->depth++;
	json_array_foreach(array, i, disk)
	{
		c->path[c->depth - 1] = (unsigned)i;
		r = add_disk(c, config, disk);
		if (r < 0)
			break;
	}
	c->depth--;
	return r;
}

int config_parse_json(struct vm_config *config, const char *text, size_t len, const char *name,
		      struct error *e)
{
	struct cursor c = {.name = name, .text = text, .len = len, .e = e};
	json_error_t error;
	const char *key;
	json_t *doc, *value;
	int r = 0;

	doc = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (!doc)
		return error_set(e, -EINVAL, "%.200s:%d:%d: %s", name, error.line, error.column,
				 error.text);
	if (!json_is_object(doc))
		r = fail_at(&c, -EINVAL, "the configuration must be an object: {...}");
	c.depth = 1;
	json_object_foreach(doc, key, value)
	{
		if (strcmp(key, DISKS) == 0)
			r = add_disks(&c, config, value);
		else
			r = set_member(&c, config, vm_settings, key, value);
		if (r < 0)
			break;
		c.path[0]++;
	}
	json_decref(doc);
	return r;
}

/* Writing */

static json_t *console_value(const struct vm_config *config)
{
	if (config->console.mode == CONSOLE_FILE)
		return json_sprintf("%sfile=%s", config->console.fresh ? "fresh-" : "",
				    config->console.path);
	return json_string(config->console.mode == CONSOLE_OFF ? "off" : "stdio");
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
	case SETTING_SIZE:
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
	case SETTING_SERIAL:
		return json_string(field);
	case SETTING_CONSOLE:
		return console_value(base);
	default:
		return NULL;
	}
}

/* Text that was not given has no key. */
static bool is_unset(const void *base, const struct setting *s)
{
	const char *field = (const char *)base + s->offset;

	if (s->type == SETTING_STRING || s->type == SETTING_APPEND || s->type == SETTING_LIST)
		return !*(void *const *)(const void *)field;
	return s->type == SETTING_SERIAL && !*field;
}

/* NULL when memory is short or a string is not UTF-8. */
static json_t *struct_to_json(const void *base, const struct setting *table)
{
	json_t *object = json_object();

	for (const struct setting *s = table; s->name; s++) {
		if (!setting_is_field(s) || is_unset(base, s))
			continue;
		if (json_object_set_new(object, s->name, field_value(base, s)) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

char *config_to_json(const struct vm_config *config)
{
	json_t *doc = struct_to_json(config, vm_settings), *disks = json_array();
	bool whole = doc && disks;

	for (size_t i = 0; whole && i < config->num_disks; i++)
		whole = json_array_append_new(
				disks, struct_to_json(&config->disks[i], disk_settings)) == 0;
	if (!whole) {
		json_decref(disks);
		json_decref(doc);
		return NULL;
	}
	json_object_set_new(doc, DISKS, disks);
	return json_to_text(doc);
}
