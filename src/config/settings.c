// SPDX-License-Identifier: BSD-2-Clause
/* From text to the fields of a struct, by a table. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config/settings.h"
#include "config/units.h"

const struct setting *setting_find(const struct setting *table, const char *name, size_t len)
{
	for (; table->name; table++)
		if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
			return table;
	return NULL;
}

const char *setting_key(const struct setting *s)
{
	if (s->type > SETTING_DEVICE)
		return NULL;
	return s->key ? s->key : s->name;
}

static int say_empty(const struct setting *s, struct error *e)
{
	return error_set(e, -EINVAL, "is empty: write a %s", s->arg ? s->arg : "path");
}

static int set_string(char **field, const struct setting *s, const char *text, struct error *e)
{
	char *copy;

	if (!*text)
		return say_empty(s, e);
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int append_string(char **field, const char *text)
{
	char *both;

	if (!*text)
		return 0;
	if (asprintf(&both, "%s%s%s", *field ? *field : "", *field ? " " : "", text) < 0)
		return -ENOMEM;
	free(*field);
	*field = both;
	return 0;
}

static size_t list_length(char **list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

int list_add(char ***list, const char *text)
{
	size_t n = list_length(*list);
	char **more = reallocarray(*list, n + 2, sizeof(*more));

	if (!more)
		return -ENOMEM;
	*list = more;
	more[n] = strdup(text);
	more[n + 1] = NULL;
	return more[n] ? 0 : -ENOMEM;
}

void list_free(char **list)
{
	for (char **text = list; text && *text; text++)
		free(*text);
	free(list);
}

static int add_to_list(char ***field, const struct setting *s, const char *text, struct error *e)
{
	if (s->max && !*text)
		return say_empty(s, e);
	if (s->max && list_length(*field) == s->max)
		return error_set(e, -EINVAL, "is given more than %u times", s->max);
	return list_add(field, text);
}

static int set_count(unsigned *field, const struct setting *s, const char *text, struct error *e)
{
	uint64_t value = 0;
	const char *p = text;

	for (; isdigit((unsigned char)*p) && value <= s->max; p++)
		value = value * 10 + (unsigned)(*p - '0');
	if (p == text || *p || value < s->min || value > s->max)
		return error_set(e, -EINVAL, "'%.40s' is not a number from %u to %u", text, s->min,
				 s->max);
	*field = (unsigned)value;
	return 0;
}

static_assert(CONFIG_MEMORY_UNIT == 2 * MIB && CONFIG_MAX_MEMORY == 16384 * GIB,
	      "from 2M to 16T, a multiple of 2 MiB");

static int parse_memory(uint64_t *ret, const char *text, struct error *e)
{
	uint64_t bytes = 0;
	int r = config_parse_size(text, MIB, &bytes, e);

	if (r < 0)
		return r;
	if (bytes == 0 || bytes > CONFIG_MAX_MEMORY)
		return error_set(e, -ERANGE, "'%.40s' is not from 2M to 16T (a bare number is MiB)",
				 text);
	if (bytes % CONFIG_MEMORY_UNIT != 0)
		return error_set(e, -EINVAL, "'%.40s' is not a multiple of 2 MiB: try %lluM", text,
				 (unsigned long long)(ALIGN_UP(bytes, CONFIG_MEMORY_UNIT) / MIB));
	*ret = bytes;
	return 0;
}

/* SIZE, or "start=SIZE,max=SIZE" in either order. */
static int set_memory(struct ram_size *field, const char *text, struct error *e)
{
	_cleanup_free_ char *copy = strdup(text);
	struct ram_size size = {0};
	char *rest = copy, *part;

	if (!copy)
		return -ENOMEM;
	while ((part = strsep(&rest, ","))) {
		bool is_start = !strncmp(part, "start=", 6), is_max = !strncmp(part, "max=", 4);
		uint64_t *which = is_max ? &size.max : &size.start;
		int r;

		if (!is_start && !is_max && (part > copy || rest))
			return error_set(e, -EINVAL, "'%.40s' is neither start=SIZE nor max=SIZE",
					 part);
		if (*which)
			return error_set(e, -EINVAL, "'%.40s' is given twice", part);
		r = parse_memory(which, is_start ? part + 6 : is_max ? part + 4 : part, e);
		if (r < 0)
			return r;
	}
	if (strchr(text, '=') && (!size.start || size.max < size.start))
		return error_set(e, -EINVAL,
				 "write how much memory there is at the start, and at most: "
				 "start=1G,max=8G");
	*field = (struct ram_size){size.start, MAX(size.start, size.max)};
	return 0;
}

static int set_bool(bool *field, const char *text, struct error *e)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return error_set(e, -EINVAL, "'%.40s' is neither on nor off", text);
	*field = strcmp(text, "on") == 0;
	return 0;
}

static int set_choice(unsigned *field, const struct setting *s, const char *text, struct error *e)
{
	struct suggest near = {.word = text};

	for (unsigned i = 0; s->choices[i]; i++) {
		if (strcmp(s->choices[i], text) == 0) {
			*field = i;
			return 0;
		}
		suggest_try(&near, s->choices[i]);
	}
	if (near.best)
		return error_set(e, -EINVAL, "'%.40s' is none of %s: did you mean '%s'?", text,
				 s->arg, near.best);
	return error_set(e, -EINVAL, "'%.40s' is none of %s", text, s->arg);
}

static int set_text(char *field, const struct setting *s, const char *text, struct error *e)
{
	if (strlen(text) > s->max)
		return error_set(e, -EINVAL, "'%.40s' is longer than %u characters", text, s->max);
	for (const char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			return error_set(e, -EINVAL, "may contain only printable ASCII characters");
	strcpy(field, text);
	return 0;
}

int setting_set(void *base, const struct setting *s, const char *text, struct error *e)
{
	void *field = (char *)base + s->offset;

	switch (s->type) {
	case SETTING_STRING:
		return set_string(field, s, text, e);
	case SETTING_APPEND:
		return append_string(field, text);
	case SETTING_LIST:
		return add_to_list(field, s, text, e);
	case SETTING_COUNT:
		return set_count(field, s, text, e);
	case SETTING_MEMORY:
		return set_memory(field, text, e);
	case SETTING_BYTES:
		return config_parse_size(text, 1, field, e);
	case SETTING_DURATION:
		return config_parse_duration(text, field, e);
	case SETTING_BOOL:
		return set_bool(field, text, e);
	case SETTING_CHOICE:
		return set_choice(field, s, text, e);
	case SETTING_TEXT:
		return set_text(field, s, text, e);
	case SETTING_DEVICE:
		return s->set(base, s, text, e);
	default:
		return -EINVAL;
	}
}

void settings_destroy(void *base, const struct setting *table)
{
	for (const struct setting *s = table; s && s->name; s++) {
		void *field = (char *)base + s->offset;

		if (s->type == SETTING_LIST)
			list_free(*(char ***)field);
		if (s->type == SETTING_STRING || s->type == SETTING_APPEND)
			free(*(char **)field);
	}
}
