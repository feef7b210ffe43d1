// SPDX-License-Identifier: BSD-2-Clause
/* The configuration of a VM: one immutable struct, from options and from --config FILE (JSON). */
#ifndef SKEP_CONFIG_H
#define SKEP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/device_options.h"

#define CONFIG_MAX_CPUS	   64u
#define CONFIG_MAX_INITRDS 16u
#define CONFIG_MAX_ENV	   4096u
#define CONFIG_MAX_CACHES  8u
#define CONFIG_MAX_NAME	   64u

#define CWDS(X) X(CWD_RW, "rw") X(CWD_RO, "ro") X(CWD_OVERLAY, "overlay") X(CWD_OFF, "off")
enum cwd { CWDS(CHOICE_VALUE) };

struct vm_config {
	char *kernel;		    /* NULL: the default guest */
	char **initrds;		    /* ends with NULL; NULL: none, or the default guest's */
	char *append;		    /* added to the default command line; NULL: nothing */
	char *cloud_init;	    /* a directory; NULL: none */
	unsigned cpus;		    /* 1 to CONFIG_MAX_CPUS */
	struct ram_size memory;	    /* multiples of 2 MiB */
	char **command;		    /* and its arguments, as `initrds`; NULL: none */
	char **env, **env_files;    /* NAME or NAME=VALUE; paths: as `initrds` */
	char *user, *root;	    /* of the command; NULL: as outside */
	char **expose;		    /* secrets of the host's, as `initrds` */
	uint64_t overlay_limit;	    /* bytes of its overlays; 0: half of the memory */
	char **caches;		    /* NAME:PATH, as `initrds` */
	char **artifacts;	    /* GUEST:HOST, as `initrds` */
	unsigned cwd;		    /* enum cwd: the command's view of the working directory */
	bool terminal, no_terminal; /* it has a terminal, or none, whatever the streams are */
	struct {		    /* AGENT_SETUP of agent/protocol.h; no setting */
		char *bytes;
		size_t len;
		int artifacts; /* where they are to go; with `artifacts` */
	} setup;
	uint64_t timeout_ns;	  /* 0: none */
	uint64_t stop_timeout_ns; /* power button to end by force; 0: at once */
	uint64_t kill_after_ns;	  /* a command's time to end by itself; 0: stop_timeout_ns */
	char *result_path;	  /* or "-", or "fd=N"; NULL: none */
	char *control_path;	  /* of the control socket; NULL: none */
	char **sources;		  /* configuration files that were read, as `initrds`; no setting */
	bool guest;		  /* the default guest stays, whatever disks there are */
	bool kaslr;		  /* by the monitor, when the kernel was built for it */
	bool cache;		  /* keep the decompressed kernel */
	bool mmio_cmdline;	  /* announce devices as virtio_mmio.device= too */
	bool trap_registers;	  /* debugging: no register page, each register read exits */
	bool sandbox;
	bool verbose;			/* LOG_DEBUG */
	bool quiet;			/* LOG_ERROR */
	char name[CONFIG_MAX_NAME + 1]; /* empty: one is made up; "off": none */

	const struct device_options *const *types; /* of devices; ends with NULL */
	struct device_configs {			   /* by type: see config_devices() */
		void *all;
		size_t num;
	} * devices;
	struct setting *settings; /* vm_settings and the options of the types */
};

/* Defaults: KASLR, cache, sandbox, 30 s to stop, and those of the device types.
 * `types` ends with NULL and outlives the config. -ENOMEM: there is nothing to destroy. */
int config_init(struct vm_config *config, const struct device_options *const *types);
void config_destroy(struct vm_config *config);

/* Fills in what nobody has said: 1 CPU and 256 MiB; for a command as many as the host and cgroups
 * offer, but 8 at most, and half of the memory, but 4 GiB at most. */
void config_settle(struct vm_config *config);

/*
 * The configurations of all devices of a type, in order: an array of the type's struct. Of a type
 * without a plural it has one element always, even if that says that there is no device: then
 * *ret_num is 0.
 */
const void *config_devices(const struct vm_config *config, const struct device_options *type,
			   size_t *ret_num);

/* Adds a device, and takes over its strings; of a type without a plural it replaces the one that was
 * there. -EINVAL with a message: these are too many; -ENOMEM. */
int config_add_device(struct vm_config *config, const struct device_options *type,
		      const void *device, struct error *e);

/* The same from what an option takes. Also -ERANGE, and other errors of the type's parse(). */
int config_parse_device(struct vm_config *config, const struct device_options *type,
			const char *text, struct error *e);

/* Whether one of the devices pins the guest's memory. */
bool config_pins_memory(const struct vm_config *config);

/* Adds a JSON text to *config; opens no file. Initrds, `append` and devices of which there may be
 * several are added to those there are, everything else replaces them. Messages begin with `name`,
 * line and column; for an unknown key they suggest the nearest known one. On error *config may have
 * changed in part. */
int config_parse_json(struct vm_config *config, const char *text, size_t len, const char *name,
		      struct error *e);
/* The whole config as JSON that config_parse_json() reads back, indented; freed by the caller. NULL
 * when out of memory, or when a string is not UTF-8, which JSON cannot hold. */
char *config_to_json(const struct vm_config *config);

/* The file number `i`; false where there is no further one. Sources do not count. */
bool config_file(const struct vm_config *config, size_t i, struct config_file *ret);

/* The descriptor that the result goes to, where that is "fd=N"; else 0. */
unsigned config_result_fd(const struct vm_config *config);

/* Looks for contradictions between settings; each one was checked when it was set. -EINVAL with a
 * message. */
int config_validate(const struct vm_config *config, struct error *e);

#endif
