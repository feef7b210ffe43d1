// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a device type brings for the configuration: an option of `skep run`, a key in JSON, and the
 * struct that they fill. Parser, help, completion, JSON and --dry-run follow from it.
 */
#ifndef SKEP_DEVICE_OPTIONS_H
#define SKEP_DEVICE_OPTIONS_H

#include <stddef.h>

#include "config/config.h"
#include "config/settings.h"

#define DEVICE_MAX_SETTINGS 64u /* of a type, and the row that ends them */

struct device_options {
	const char *name;      /* of one: "disk", the option --disk */
	const char *plural;    /* "disks", the key in JSON; NULL: a VM has one at most */
	const char *what;      /* "a disk", or "the ..." */
	unsigned max;	       /* in a VM */
	struct setting option; /* letter, arg and help; no help: there is no option */
	size_t size;	       /* of the type's struct */
	const void *defaults;  /* one of them, even if of no fields; its strings are NULL */

	/*
	 * Fields of the struct. Where there is no parse(), one device is "VALUE[,SUB-OPTION...]" as
	 * an option, the value being that of the first setting, which is a string and must be
	 * given, and an object in JSON. With `named` it is "SUB-OPTION[,SUB-OPTION...]".
	 */
	const struct setting *settings; /* end with name == NULL; NULL: the struct has no string */
	bool named;

	/* Fills *config, which is the default, from text; a negative errno, with a message that
	 * does not name the option or empty. */
	int (*parse)(void *config, const char *text, struct error *e);
	/* The text that parse() reads back. NULL when memory is short. */
	char *(*format)(const void *config);

	/* The rest may be NULL. */
	bool (*is_off)(const void *config); /* it says that there is no device */
	/* What becomes of the file that the first setting names; NULL: it names none. */
	enum file_use (*file_use)(const void *config);
	bool (*pins_memory)(const void *config); /* no page of the guest may go back to the host */
	/* Looks for contradictions in all devices of the type. -EINVAL with a message. */
	int (*check)(const void *configs, size_t num, struct error *e);
};

/*
 * The configurations of all devices of a type, in order: an array of the type's struct. Of a type
 * without a plural it has one element always, even if that says that there is no device: then
 * *ret_num is 0.
 */
const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num);

/* Those that are written as NAME or NAME=VALUE; end with name == NULL. */
const struct setting *device_sub_options(const struct device_options *type);

/* Whether one of the devices pins the guest's memory. */
bool config_pins_memory(const struct vm_config *config);

/* Adds a device, of which the strings are the config's then; of a type without a plural it replaces
 * the one that was there. -EINVAL with a message: these are too many; -ENOMEM. */
int config_add_device(struct vm_config *config, const struct device_options *type,
		      const void *device, struct error *e);
/* The same from what an option takes. Also -ERANGE, and other errors of parse(). */
int config_parse_device(struct vm_config *config, const struct device_options *type,
			const char *text, struct error *e);

/* A device with the defaults, to be freed; NULL when memory is short. */
void *device_config_new(const struct device_options *type);
/* Frees what a device's strings are, but not the struct. */
void device_config_destroy(const struct device_options *type, void *device);

#endif
