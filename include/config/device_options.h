// SPDX-License-Identifier: BSD-2-Clause
/*
 * A device type's part of the configuration: an option of `skep run`, a key in JSON, and the struct
 * that they fill. Parser, help, completion, JSON and --dry-run follow from it.
 */
#ifndef SKEP_DEVICE_OPTIONS_H
#define SKEP_DEVICE_OPTIONS_H

#include <stddef.h>

#include "config/settings.h"

struct vm_config;

#define DEVICE_MAX_SETTINGS 64u /* of a type, and the row that ends them */

/* What becomes of a file of the host. */
enum file_use {
	FILE_READ,
	FILE_WRITTEN,
	FILE_OUTPUT, /* written, for the user to read */
};

/* A file or socket that the config names. */
struct config_file {
	const char *path; /* NULL: not this time */
	const char *what; /* "the kernel" */
	enum file_use use;
	unsigned fd; /* an inherited descriptor in the place of a path; 0: none */
};

struct device_options {
	const char *name;      /* of one: "disk", the option --disk */
	const char *plural;    /* "disks", the key in JSON; NULL: a VM has one at most */
	const char *what;      /* "a disk", or "the ..." */
	unsigned max;	       /* in a VM */
	struct setting option; /* letter, arg and help; no help: there is no option */
	size_t size;	       /* of the type's struct */
	const void *defaults;  /* one of them, even without fields; its strings are NULL */

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
	bool (*is_off)(const void *config); /* there is no device */
	bool yields; /* where the VM runs a command, there is one only if it is asked for */
	/* For a type without an option: whether other settings want the device. */
	bool (*is_there)(const struct vm_config *config);
	/* The file that the device is given, or the socket that it makes: fills in path and use, or fd,
	 * of *ret, which are zero. NULL: there is none. */
	void (*file)(const void *config, struct config_file *ret);
	bool is_directory; /* of the host, which the guest can mount by its tag */
	bool has_systems;  /* the default guest looks for one that it can start */
	bool (*pins_memory)(const void *config); /* no page of the guest may go back to the host */
	/* Looks for contradictions in all devices of the type. -EINVAL with a message. */
	int (*check)(const void *configs, size_t num, struct error *e);
};

/* Those that are written as NAME or NAME=VALUE; end with name == NULL. */
const struct setting *device_sub_options(const struct device_options *type);

/* Fills *device, which is the default, from what an option takes. -EINVAL, -ERANGE or an error of
 * parse(), with a message; -ENOMEM. */
int device_config_parse(const struct device_options *type, void *device, const char *text,
			struct error *e);

/* A device with the defaults, to be freed; NULL when memory is short. */
void *device_config_new(const struct device_options *type);
/* Frees what a device's strings are, but not the struct. */
void device_config_destroy(const struct device_options *type, void *device);

#endif
