// SPDX-License-Identifier: BSD-2-Clause
/*
 * Settings: the tables that command-line options, sub-options of devices, keys of the JSON
 * configuration, help text and shell completion are made from.
 */
#ifndef SKEP_SETTINGS_H
#define SKEP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CONFIG_MEMORY_UNIT ((uint64_t)2 << 20)	/* guest RAM comes in huge pages */
#define CONFIG_MAX_MEMORY  ((uint64_t)16 << 40) /* bytes */

enum setting_type {
	/* A field of the struct. */
	SETTING_STRING, /* char *, not empty */
	SETTING_APPEND, /* char *, each time added with a blank between */
	SETTING_LIST,  /* char ** that ends with NULL, or NULL; each time one is added, up to `max`;
			   * max 0: any, also empty ones */
	SETTING_TEXT,  /* char[max + 1], printable ASCII */
	SETTING_COUNT, /* unsigned, min to max */
	SETTING_MEMORY,	  /* struct ram_size; a bare number is MiB */
	SETTING_BYTES,	  /* uint64_t bytes; so is a bare number */
	SETTING_DURATION, /* uint64_t nanoseconds; a bare number is seconds */
	SETTING_BOOL,	  /* bool */
	SETTING_CHOICE,	  /* an enum, in the order of `choices` */
	SETTING_DEVICE,	  /* adds a device to a struct vm_config, or replaces the one there */
	/* On the command line only. */
	SETTING_CONFIG,
	SETTING_DRY_RUN,
	SETTING_HELP,
};

/* Bytes of guest RAM: when it starts, and at most. */
struct ram_size {
	uint64_t start, max; /* the same: it does not grow */
};

struct setting {
	const char *name; /* "cpus": --cpus, and the key "cpus" */
	char letter;	  /* 'c': -c; 0: none */
	bool inverted;	  /* SETTING_BOOL: shown as --no-NAME, because it is on unless said */
	const char *arg;  /* what follows, for help; NULL: nothing does */
	const char *
		help; /* without the final stop; wrapped when printed; NULL: no option, only in JSON */
	const char *group;
	const char *key; /* in JSON, where it is not the name */
	enum setting_type type;
	size_t offset; /* of the field */
	unsigned min, max;
	const char *const *choices; /* NULL-terminated */
	/* SETTING_DEVICE; set() is setting_set() for it. */
	const struct device_options *device;
	int (*set)(void *base, const struct setting *s, const char *text, struct error *e);
};

/* A field for a row of a table. Each compiles only for a member of the right type. */
#define SETTING_FIELD(s, member, t)                                                                \
	.offset = offsetof(struct s, member) +                                                     \
		  0 * sizeof(_Generic(&((struct s *)0)->member, t * : 0))
#define STRING_FIELD(s, member)	  .type = SETTING_STRING, SETTING_FIELD(s, member, char *)
#define APPEND_FIELD(s, member)	  .type = SETTING_APPEND, SETTING_FIELD(s, member, char *)
#define LIST_FIELD(s, member)	  .type = SETTING_LIST, SETTING_FIELD(s, member, char **)
#define COUNT_FIELD(s, member)	  .type = SETTING_COUNT, SETTING_FIELD(s, member, unsigned)
#define MEMORY_FIELD(s, member)	  .type = SETTING_MEMORY, SETTING_FIELD(s, member, struct ram_size)
#define BYTES_FIELD(s, member)	  .type = SETTING_BYTES, SETTING_FIELD(s, member, uint64_t)
#define DURATION_FIELD(s, member) .type = SETTING_DURATION, SETTING_FIELD(s, member, uint64_t)
#define BOOL_FIELD(s, member)	  .type = SETTING_BOOL, SETTING_FIELD(s, member, bool)
#define TEXT_FIELD(s, member)                                                                      \
	.type = SETTING_TEXT, .offset = offsetof(struct s, member),                                \
	.max = sizeof(((struct s *)0)->member) - 1

/* --help, of a command. */
#define SETTING_HELP_ROW                                                                           \
	{                                                                                          \
		"help", 'h', .type = SETTING_HELP, .help = "show this help"                        \
	}

/*
 * An enum and its names, in one list: #define FRUITS(X) X(FRUIT_PEAR, "pear") X(FRUIT_FIG, "fig"),
 * enum fruit { FRUITS(CHOICE_VALUE) }, and a row with CHOICE_FIELD(basket, fruit, FRUITS), which
 * has an `arg`, "pear|fig".
 */
#define CHOICE_VALUE(value, name) value,
#define CHOICE_NAME_(value, name) [value] = name,
#define CHOICE_ARG_(value, name)  "|" name
#define CHOICE_FIELD(s, member, list)                                                              \
	.type = SETTING_CHOICE, SETTING_FIELD(s, member, unsigned), .arg = &list(CHOICE_ARG_)[1],  \
	.choices = (const char *const[])                                                           \
	{                                                                                          \
		list(CHOICE_NAME_) NULL                                                            \
	}

/* The settings of a VM but for its devices; ends with name == NULL. */
extern const struct setting vm_settings[];

/* NULL: no such name. `len` bytes of `name` count. */
const struct setting *setting_find(const struct setting *table, const char *name, size_t len);

/* The key in the JSON configuration; NULL: it has none. */
const char *setting_key(const struct setting *s);

/* Sets the field of *base, the table's struct, from text; bools are "on" or "off". -EINVAL or
 * -ERANGE with a message that does not name the setting, -ENOMEM. */
int setting_set(void *base, const struct setting *s, const char *text, struct error *e);

/* Adds a copy of `text` to a list of strings that ends with NULL, or is NULL. -ENOMEM. */
int list_add(char ***list, const char *text);
void list_free(char **list);

/* Frees the strings of *base. `table` may be NULL. */
void settings_destroy(void *base, const struct setting *table);

#endif
