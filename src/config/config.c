// SPDX-License-Identifier: BSD-2-Clause
/* struct vm_config: defaults, the text forms of its fields, and what the whole must satisfy. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/suggest.h"
#include "base/util.h"
#include "config/config.h"
#include "config/device_options.h"
#include "config/settings.h"

static_assert(sizeof(enum disk_engine) == sizeof(unsigned), "choices are stored as unsigned");
static_assert(sizeof(enum disk_block_size) == sizeof(unsigned), "choices are stored as unsigned");
static_assert(sizeof(enum disk_discard) == sizeof(unsigned), "choices are stored as unsigned");
static_assert(sizeof(enum disk_werror) == sizeof(unsigned), "choices are stored as unsigned");
static_assert(sizeof(enum disk_detect_zeroes) == sizeof(unsigned),
	      "choices are stored as unsigned");

void config_init(struct vm_config *config)
{
	*config = (struct vm_config){
		.cpus = 1,
		.memory = 256 * MIB,
		.console.mode = CONSOLE_STDIO,
		.stop_timeout_ns = 30 * NSEC_PER_SEC,
		.kaslr = true,
		.cache = true,
		.sandbox = true,
	};
}

void config_destroy(struct vm_config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->num_disks; i++)
		free(config->disks[i].path);
	free(config->disks);
	for (size_t i = 0; i < config->num_sources; i++)
		free(config->sources[i]);
	free(config->sources);
	free(config->kernel);
	for (size_t i = 0; config->initrds && config->initrds[i]; i++)
		free(config->initrds[i]);
	free(config->initrds);
	free(config->append);
	free(config->console.path);
	free(config->result_path);
	free(config->control_path);
	*config = (struct vm_config){0};
}

void disk_config_init(struct disk_config *disk)
{
	*disk = (struct disk_config){.discard = DISCARD_UNMAP,
				     .engine = ENGINE_AUTO,
				     .queues = 1,
				     .burst_ns = NSEC_PER_SEC / 10};
}

/* Numbers with a unit */

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first. */
static const struct unit size_units[] = {
	{"T", GIB << 10}, {"G", GIB}, {"M", MIB}, {"K", KIB}, {"B", 1}, {NULL, 0},
};

static const struct unit duration_units[] = {
	{"h", 3600 * NSEC_PER_SEC},
	{"m", 60 * NSEC_PER_SEC},
	{"s", NSEC_PER_SEC},
	{"ms", 1000000},
	{"us", 1000},
	{"ns", 1},
	{NULL, 0},
};

/* DIGITS[.DIGITS][UNIT] times the unit's factor, cut to a whole number. -EINVAL, -ERANGE. */
static int parse_with_unit(const char *text, const struct unit *units, uint64_t bare_factor,
			   uint64_t max, uint64_t *ret)
{
	unsigned __int128 value, fraction = 0, scale = 1;
	uint64_t whole = 0, factor = bare_factor;
	bool overflow = false;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10u, &whole) ||
		    __builtin_add_overflow(whole, (unsigned)(*p - '0'), &whole))
			overflow = true;
	if (*p == '.') {
		p++;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++)
			if (scale < NSEC_PER_SEC * 1000000) { /* later digits cannot matter */
				fraction = fraction * 10 + (unsigned)(*p - '0');
				scale *= 10;
			}
	}
	if (*p) {
		while (units->name && strcasecmp(units->name, p) != 0)
			units++;
		if (!units->name)
			return -EINVAL;
		factor = units->factor;
	}
	if (factor == 1 && scale != 1)
		return -EINVAL;
	value = (unsigned __int128)whole * factor + fraction * factor / scale;
	if (overflow || value > max)
		return -ERANGE;
	*ret = (uint64_t)value;
	return 0;
}

static void format_with_unit(uint64_t value, const struct unit *units, char ret[32])
{
	while (value % units->factor != 0)
		units++;
	snprintf(ret, 32, "%llu%s", (unsigned long long)(value / units->factor), units->name);
}

int config_parse_size(const char *text, uint64_t unit, uint64_t *ret, struct error *e)
{
	int r = parse_with_unit(text, size_units, unit, UINT64_MAX, ret);

	if (r == -ERANGE)
		return error_set(e, r, "'%.40s' is too large a size", text);
	if (r < 0)
		return error_set(e, r, "'%.40s' is not a size: write it like 512M or 4G", text);
	return 0;
}

int config_parse_duration(const char *text, uint64_t *ret, struct error *e)
{
	int r = parse_with_unit(text, duration_units, NSEC_PER_SEC, INT64_MAX, ret);

	if (r == -ERANGE)
		return error_set(e, r, "'%.40s' is too long a time", text);
	if (r < 0)
		return error_set(e, r, "'%.40s' is not a time: write it like 90s, 5m or 250ms",
				 text);
	return 0;
}

void setting_format_size(uint64_t bytes, char ret[32])
{
	if (bytes == 0)
		strcpy(ret, "0B");
	else
		format_with_unit(bytes, size_units, ret);
}

void setting_format_duration(uint64_t ns, char ret[32])
{
	if (ns == 0)
		strcpy(ret, "0s");
	else
		format_with_unit(ns, duration_units, ret);
}

/* Settings */

const struct setting *setting_find(const struct setting *table, const char *name, size_t len)
{
	for (; table->name; table++)
		if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
			return table;
	return NULL;
}

static int set_string(char **field, const char *text, struct error *e)
{
	char *copy;

	if (!*text)
		return error_set(e, -EINVAL, "is empty: write a path");
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

static int add_to_list(char ***field, const char *text, struct error *e)
{
	char **list = *field, *copy = NULL;
	size_t n = 0;
	int r;

	while (list && list[n])
		n++;
	if (n == CONFIG_MAX_INITRDS)
		return error_set(e, -EINVAL, "more than %u files", CONFIG_MAX_INITRDS);
	r = set_string(&copy, text, e);
	if (r < 0)
		return r;
	list = reallocarray(list, n + 2, sizeof(*list));
	if (!list) {
		free(copy);
		return -ENOMEM;
	}
	list[n] = copy;
	list[n + 1] = NULL;
	*field = list;
	return 0;
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

static int set_memory(uint64_t *field, const char *text, struct error *e)
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
	*field = bytes;
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

static int set_serial(char *field, const char *text, struct error *e)
{
	if (strlen(text) > BLK_SERIAL_LEN)
		return error_set(e, -EINVAL, "'%.40s' is longer than %u characters", text,
				 BLK_SERIAL_LEN);
	for (const char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			return error_set(e, -EINVAL, "may hold printable ASCII characters only");
	strcpy(field, text);
	return 0;
}

static int set_console(struct vm_config *config, const char *text, struct error *e)
{
	bool fresh = strncmp(text, "fresh-", 6) == 0;
	const char *kind = fresh ? text + 6 : text;

	if (strncmp(kind, "file=", 5) == 0) {
		int r = set_string(&config->console.path, kind + 5, e);

		if (r == 0) {
			config->console.mode = CONSOLE_FILE;
			config->console.fresh = fresh;
		}
		return r;
	}
	if (strcmp(text, "stdio") == 0)
		config->console.mode = CONSOLE_STDIO;
	else if (strcmp(text, "off") == 0)
		config->console.mode = CONSOLE_OFF;
	else
		return error_set(e, -EINVAL,
				 "'%.40s' is none of stdio, file=PATH, fresh-file=PATH and off",
				 text);
	free(config->console.path);
	config->console.path = NULL;
	return 0;
}

int setting_set(void *base, const struct setting *s, const char *text, struct error *e)
{
	void *field = (char *)base + s->offset;

	switch (s->type) {
	case SETTING_STRING:
		return set_string(field, text, e);
	case SETTING_APPEND:
		return append_string(field, text);
	case SETTING_LIST:
		return add_to_list(field, text, e);
	case SETTING_COUNT:
		return set_count(field, s, text, e);
	case SETTING_SIZE:
		return set_memory(field, text, e);
	case SETTING_BYTES:
		return config_parse_size(text, 1, field, e);
	case SETTING_DURATION:
		return config_parse_duration(text, field, e);
	case SETTING_BOOL:
		return set_bool(field, text, e);
	case SETTING_CHOICE:
		return set_choice(field, s, text, e);
	case SETTING_SERIAL:
		return set_serial(field, text, e);
	case SETTING_CONSOLE:
		return set_console(base, text, e);
	default:
		return -EINVAL;
	}
}

/* Disks */

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

static int set_disk_option(struct disk_config *disk, const char *part, unsigned *seen,
			   struct error *e)
{
	size_t len = strcspn(part, "=");
	const char *value = part[len] ? part + len + 1 : NULL;
	const struct setting *s = setting_find(disk_settings, part, len);
	struct suggest near = {.word = part};
	unsigned bit;
	int r;

	if (!s || s == disk_settings) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)len, part);
		near.word = name;
		for (s = disk_settings + 1; s->name; s++)
			suggest_try(&near, s->name);
		return error_set(e, -EINVAL, "unknown option '%.40s': %s", part,
				 suggest_hint(&near, "a comma in the path is written ,,"));
	}
	bit = 1u << (s - disk_settings);
	if (*seen & bit)
		return error_set(e, -EINVAL, "'%s' is given twice", s->name);
	*seen |= bit;
	if (!s->arg && value)
		return error_set(e, -EINVAL, "'%s' takes no value", s->name);
	if (s->arg && !value)
		return error_set(e, -EINVAL, "'%s' needs a value: %s=%s", s->name, s->name, s->arg);
	r = setting_set(disk, s, value ? value : "on", e);
	return r < 0 ? error_prefix(e, r, "%s", s->name) : 0;
}

int config_append_disk(struct vm_config *config, const struct disk_config *disk, struct error *e)
{
	struct disk_config *disks;

	if (config->num_disks == CONFIG_MAX_DISKS)
		return error_set(e, -EINVAL, "more than %u disks", CONFIG_MAX_DISKS);
	disks = reallocarray(config->disks, config->num_disks + 1, sizeof(*disks));
	if (!disks)
		return -ENOMEM;
	disks[config->num_disks++] = *disk;
	config->disks = disks;
	return 0;
}

int config_add_disk(struct vm_config *config, const char *text, struct error *e)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *part;
	struct disk_config disk;
	unsigned seen = 0;
	int r;

	disk_config_init(&disk);
	if (!copy)
		return -ENOMEM;
	r = setting_set(&disk, disk_settings, next_part(&rest), e);
	if (r < 0)
		return error_prefix(e, r, "path");
	while (r == 0 && (part = next_part(&rest)))
		r = set_disk_option(&disk, part, &seen, e);
	if (r == 0)
		r = config_append_disk(config, &disk, e);
	if (r < 0)
		free(disk.path);
	return r;
}

int config_add_source(struct vm_config *config, const char *path)
{
	char **sources = reallocarray(config->sources, config->num_sources + 1, sizeof(*sources));

	if (!sources)
		return -ENOMEM;
	config->sources = sources;
	sources[config->num_sources] = strdup(path);
	if (!sources[config->num_sources])
		return -ENOMEM;
	config->num_sources++;
	return 0;
}

/* The whole */

void config_disk_serial(const struct vm_config *config, size_t i, char ret[BLK_SERIAL_LEN + 1])
{
	const char *given = config->disks[i].serial;

	if (given[0])
		snprintf(ret, BLK_SERIAL_LEN + 1, "%s", given);
	else
		snprintf(ret, BLK_SERIAL_LEN + 1, "skep%zu", i);
}

struct named_path {
	const char *path, *what;
	bool written;
};

/* No file may be written through one name and used through another. Links are looked through when
 * files are opened (output_check(), file_lock()). */
static int check_paths(const struct vm_config *config, struct error *e)
{
	struct named_path all[CONFIG_MAX_DISKS + CONFIG_MAX_INITRDS + 4] = {
		{config->result_path, "the result", true},
		{config->control_path, "the control socket", true},
		{config->console.path, "the console", true},
		{config->kernel, "the kernel", false},
	};
	size_t n = 4;

	for (char **initrd = config->initrds; initrd && *initrd; initrd++)
		all[n++] = (struct named_path){*initrd, "the initrd", false};

	for (size_t i = 0; i < config->num_disks; i++)
		all[n++] = (struct named_path){config->disks[i].path, "a disk",
					       !config->disks[i].readonly &&
						       !config->disks[i].ephemeral};
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++)
			if (all[i].path && all[j].path && (all[i].written || all[j].written) &&
			    strcmp(all[i].path, all[j].path) == 0)
				return error_set(e, -EINVAL,
						 "'%.200s' is both %s and %s: give each its own "
						 "file",
						 all[i].path, all[i].what, all[j].what);
	return 0;
}

static int check_disk(const struct disk_config *disk, struct error *e)
{
	if (disk->detect_zeroes == DETECT_ZEROES_UNMAP && disk->discard == DISCARD_IGNORE)
		return error_set(e, -EINVAL,
				 "detect-zeroes=unmap punches holes, which discard=ignore rules "
				 "out: leave one of them out");
	if (disk->pin && disk->engine == ENGINE_SYNC)
		return error_set(e, -EINVAL,
				 "pin is for io_uring, which engine=sync rules out: leave one of "
				 "them out");
	if (disk->poll_ns > CONFIG_MAX_POLL_NS)
		return error_set(e, -EINVAL, "poll is longer than 10ms: write it like 50us");
	if (disk->ephemeral && disk->readonly)
		return error_set(e, -EINVAL, "readonly and ephemeral: give one of them");
	if (disk->ephemeral && disk->cache != CACHE_WRITEBACK)
		return error_set(e, -EINVAL,
				 "nothing of an ephemeral disk is kept: leave `cache` out");
	return 0;
}

/* A guest names its disks by their serial numbers, and so does `skep control`. */
static int check_serials(const struct vm_config *config, struct error *e)
{
	char a[BLK_SERIAL_LEN + 1], b[BLK_SERIAL_LEN + 1];

	for (size_t i = 0; i < config->num_disks; i++) {
		config_disk_serial(config, i, a);
		for (size_t j = i + 1; j < config->num_disks; j++) {
			config_disk_serial(config, j, b);
			if (strcmp(a, b) == 0)
				return error_set(e, -EINVAL,
						 "disks %zu and %zu have the serial number '%s': "
						 "give each its own with serial=",
						 i + 1, j + 1, a);
		}
	}
	return 0;
}

int config_validate(const struct vm_config *config, struct error *e)
{
	int r;

	for (size_t i = 0; i < config->num_disks; i++) {
		r = check_disk(&config->disks[i], e);
		if (r < 0)
			return error_prefix(e, r, "disk %zu (%s)", i + 1, config->disks[i].path);
	}
	if (config->verbose && config->quiet)
		return error_set(e, -EINVAL, "both verbose and quiet: give one of them");
	r = check_serials(config, e);
	return r < 0 ? r : check_paths(config, e);
}

const struct device_options blk_options = {.name = "disk", .plural = "disks"};
const struct device_options console_options = {.name = "console"};
const struct device_options rng_options = {.name = "rng"};

const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num)
{
	*ret_num = type == &blk_options	      ? config->num_disks
		   : type == &console_options ? config->console.mode != CONSOLE_OFF
					      : 1;
	if (type == &blk_options)
		return config->disks;
	return type == &console_options ? &config->console : NULL;
}
