// SPDX-License-Identifier: BSD-2-Clause
/* The configuration of one device, of whatever type. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config/device_options.h"

const struct setting *device_sub_options(const struct device_options *type)
{
	return type->settings + !type->named;
}

void *device_config_new(const struct device_options *type)
{
	void *device = malloc(type->size);

	return device ? memcpy(device, type->defaults, type->size) : NULL;
}

void device_config_destroy(const struct device_options *type, void *device)
{
	settings_destroy(device, type->settings);
}

/* Cuts the next part off *rest, in place: a comma ends it, two commas are one of its characters. */
static char *next_part(char **rest)
{
	char *start = *rest, *in, *out;

	if (!start)
		return NULL;
	*rest = NULL;
	for (in = out = start; *in; *out++ = *in++)
		if (*in == ',' && *++in != ',') {
			*rest = in;
			break;
		}
	*out = '\0';
	return start;
}

static int unknown_option(const struct device_options *type, const char *part, size_t len,
			  struct error *e)
{
	char name[64], otherwise[64] = "'skep help run' lists the options";
	struct suggest near = {.word = name};

	snprintf(name, sizeof(name), "%.*s", (int)len, part);
	if (!type->named)
		snprintf(otherwise, sizeof(otherwise), "a comma in the %s is written ,,",
			 type->settings->name);
	for (const struct setting *s = device_sub_options(type); s->name; s++)
		suggest_try(&near, s->name);
	return error_set(e, -EINVAL, "unknown option '%.40s': %s", part,
			 suggest_hint(&near, otherwise));
}

static int set_option(const struct device_options *type, void *device, const char *part,
		      uint64_t *seen, struct error *e)
{
	const struct setting *table = device_sub_options(type);
	size_t len = strcspn(part, "=");
	const char *value = part[len] ? part + len + 1 : NULL;
	const struct setting *s = setting_find(table, part, len);
	uint64_t bit;
	int r;

	if (!s)
		return unknown_option(type, part, len, e);
	bit = (uint64_t)1 << (s - table);
	if (*seen & bit && s->type != SETTING_LIST)
		return error_set(e, -EINVAL, "'%s' is given twice", s->name);
	*seen |= bit;
	if (!s->arg && value)
		return error_set(e, -EINVAL, "'%s' takes no value", s->name);
	if (s->arg && !value)
		return error_set(e, -EINVAL, "'%s' needs a value: %s=%s", s->name, s->name, s->arg);
	r = setting_set(device, s, value ? value : "on", e);
	return r < 0 ? error_prefix(e, r, "%s", s->name) : 0;
}

/* [VALUE,]SUB-OPTION... */
static int parse_options(const struct device_options *type, void *device, const char *text,
			 struct error *e)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *part;
	uint64_t seen = 0;
	int r;

	static_assert(DEVICE_MAX_SETTINGS <= 8 * sizeof(seen), "a bit for each");
	if (!copy)
		return -ENOMEM;
	r = type->named ? 0 : setting_set(device, type->settings, next_part(&rest), e);
	if (r < 0)
		return error_prefix(e, r, "%s", type->settings->name);
	while (r == 0 && (part = next_part(&rest)))
		r = set_option(type, device, part, &seen, e);
	return r;
}

int device_config_parse(const struct device_options *type, void *device, const char *text,
			struct error *e)
{
	return type->parse ? type->parse(device, text, e) : parse_options(type, device, text, e);
}
