// SPDX-License-Identifier: BSD-2-Clause
/*
 * The settings of a VM and of its disks: the one table that command-line options, sub-options of
 * --disk, keys of the JSON configuration, help text and shell completion are made from.
 */
#ifndef SKEP_SETTINGS_H
#define SKEP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"

enum setting_type {
	/* A field of the struct. */
	SETTING_STRING,	  /* char *, not empty */
	SETTING_APPEND,	  /* char *, each time added with a blank between */
	SETTING_LIST,	  /* char ** that ends with NULL, or NULL; each time one is added */
	SETTING_COUNT,	  /* unsigned, min to max */
	SETTING_SIZE,	  /* uint64_t bytes; a bare number is MiB */
	SETTING_BYTES,	  /* uint64_t bytes; so is a bare number */
	SETTING_DURATION, /* uint64_t nanoseconds; a bare number is seconds */
	SETTING_BOOL,	  /* bool */
	SETTING_CHOICE,	  /* an enum, in the order of `choices` */
	SETTING_SERIAL,	  /* char[BLK_SERIAL_LEN + 1] */
	SETTING_CONSOLE,  /* console */
	SETTING_DISK,	  /* adds to disks; "disks", an array of objects, in JSON */
	/* On the command line only. */
	SETTING_CONFIG,
	SETTING_DRY_RUN,
	SETTING_JSON,
	SETTING_HELP,
};

struct setting {
	const char *name; /* "cpus": --cpus, and the key "cpus" */
	char letter;	  /* 'c': -c; 0: none */
	bool inverted;	  /* SETTING_BOOL: shown as --no-NAME, because it is on unless said */
	const char *arg;  /* what follows, for help; NULL: nothing does */
	const char *help; /* without the final stop; wrapped when printed */
	const char *group;
	enum setting_type type;
	size_t offset; /* of the field */
	unsigned min, max;
	const char *const *choices; /* NULL-terminated */
};

extern const struct setting vm_settings[], disk_settings[]; /* end with name == NULL */

/* NULL: no such name. `len` bytes of `name` count. */
const struct setting *setting_find(const struct setting *table, const char *name, size_t len);

/* Whether the setting is a field, and so a key of the JSON configuration. */
static inline bool setting_is_field(const struct setting *s)
{
	return s->type < SETTING_DISK;
}

/* Sets the field of *base (a struct vm_config or disk_config) from text; bools are "on" or "off".
 * -EINVAL or -ERANGE with a message that does not name the setting, -ENOMEM. */
int setting_set(void *base, const struct setting *s, const char *text, struct error *e);

/* Writes the shortest exact text that config_parse_size() and config_parse_duration() read back. */
void setting_format_size(uint64_t bytes, char ret[32]);
void setting_format_duration(uint64_t ns, char ret[32]);

/* A disk's defaults, and adding one; takes over disk->path on success. -ENOSPC, -ENOMEM. */
void disk_config_init(struct disk_config *disk);
int config_append_disk(struct vm_config *config, const struct disk_config *disk, struct error *e);

#endif
