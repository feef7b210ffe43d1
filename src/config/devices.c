// SPDX-License-Identifier: BSD-2-Clause
/* The devices of a config, of whatever type. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config/device_options.h"

static struct device_configs *configs_of(const struct vm_config *config,
					 const struct device_options *type)
{
	for (size_t i = 0; config->types && config->types[i]; i++)
		if (config->types[i] == type)
			return &config->devices[i];
	return NULL;
}

const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num)
{
	const struct device_configs *devices = configs_of(config, type);
	const void *one = devices && devices->num ? devices->all : type->defaults;

	if (type->plural) {
		*ret_num = devices ? devices->num : 0;
		return devices ? devices->all : NULL;
	}
	*ret_num = !type->is_off || !type->is_off(one);
	return one;
}

const struct setting *device_sub_options(const struct device_options *type)
{
	return type->settings + !type->named;
}

bool config_pins_memory(const struct vm_config *config)
{
	const struct device_options *const *type = config->types;

	for (; type && *type; type++) {
		size_t num;
		const char *all = config_devices(config, *type, &num);

		for (size_t i = 0; (*type)->pins_memory && i < num; i++)
			if ((*type)->pins_memory(all + i * (*type)->size))
				return true;
	}
	return false;
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

int config_add_device(struct vm_config *config, const struct device_options *type,
		      const void *device, struct error *e)
{
	struct device_configs *devices = configs_of(config, type);
	char *all;

	if (!type->plural && devices->num) {
		device_config_destroy(type, devices->all);
		memcpy(devices->all, device, type->size);
		return 0;
	}
	if (devices->num == type->max)
		return error_set(e, -EINVAL, "more than %u %s", type->max, type->plural);
	all = reallocarray(devices->all, devices->num + 1, type->size);
	if (!all)
		return -ENOMEM;
	memcpy(all + devices->num++ * type->size, device, type->size);
	devices->all = all;
	return 0;
}

/* One device as text: [VALUE,]SUB-OPTION... */

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
	if (*seen & bit)
		return error_set(e, -EINVAL, "'%s' is given twice", s->name);
	*seen |= bit;
	if (!s->arg && value)
		return error_set(e, -EINVAL, "'%s' takes no value", s->name);
	if (s->arg && !value)
		return error_set(e, -EINVAL, "'%s' needs a value: %s=%s", s->name, s->name, s->arg);
	r = setting_set(device, s, value ? value : "on", e);
	return r < 0 ? error_prefix(e, r, "%s", s->name) : 0;
}

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

int config_parse_device(struct vm_config *config, const struct device_options *type,
			const char *text, struct error *e)
{
	_cleanup_free_ void *device = device_config_new(type);
	int r;

	if (!device)
		return -ENOMEM;
	r = type->parse ? type->parse(device, text, e) : parse_options(type, device, text, e);
	if (r == 0)
		r = config_add_device(config, type, device, e);
	if (r < 0)
		device_config_destroy(type, device);
	return r;
}
