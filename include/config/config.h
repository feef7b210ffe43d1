// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a VM is to be: one immutable struct, the same from flags and from --config FILE (JSON).
 */
#ifndef SKEP_CONFIG_H
#define SKEP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "blk/config.h"
#include "console/config.h"

#define CONFIG_MAX_CPUS	   64u
#define CONFIG_MAX_DISKS   120u
#define CONFIG_MAX_INITRDS 16u
#define CONFIG_MEMORY_UNIT ((uint64_t)2 << 20)	/* guest RAM comes in huge pages */
#define CONFIG_MAX_MEMORY  ((uint64_t)16 << 40) /* bytes */

struct vm_config {
	char *kernel;	 /* NULL: the default guest */
	char **initrds;	 /* ends with NULL; NULL: none, or the default guest's */
	char *append;	 /* added to the default command line; NULL: nothing */
	unsigned cpus;	 /* 1 to CONFIG_MAX_CPUS */
	uint64_t memory; /* bytes, a multiple of 2 MiB */
	struct disk_config *disks;
	size_t num_disks;
	struct console_config console;
	uint64_t timeout_ns;	  /* 0: none */
	uint64_t stop_timeout_ns; /* power button to end by force; 0: at once */
	char *result_path;	  /* NULL: none */
	char *control_path;	  /* of the control socket; NULL: none */
	char **sources;		  /* configuration files that were read; no setting */
	size_t num_sources;
	bool kaslr;	     /* by the monitor, when the kernel was built for it */
	bool cache;	     /* keep the decompressed kernel */
	bool mmio_cmdline;   /* announce devices as virtio_mmio.device= too */
	bool trap_registers; /* debugging: no register page, each register read exits */
	bool sandbox;
	bool verbose; /* LOG_DEBUG */
	bool quiet;   /* LOG_ERROR */
};

/* Defaults: 1 CPU, 256 MiB, stdio, KASLR, cache, sandbox, 30 s to stop. */
void config_init(struct vm_config *config);
void config_destroy(struct vm_config *config);

/* Parses "512", "512M", "4G", "1.5G" (B, K, M, G, T: powers of 1024; a bare number counts `unit`
 * bytes). -EINVAL, or -ERANGE on overflow, with a message. */
int config_parse_size(const char *text, uint64_t unit, uint64_t *ret, struct error *e);
/* Parses "90", "90s", "5m", "1.5h", "250ms" (ns, us, ms, s, m, h) into nanoseconds, at most
 * INT64_MAX. -EINVAL, or -ERANGE on overflow, with a message. */
int config_parse_duration(const char *text, uint64_t *ret, struct error *e);
/* Parses and adds
 * "PATH[,readonly][,serial=S][,OPTION...]" with the options of disk_settings; a comma in the
 * path is written ",,". */
int config_add_disk(struct vm_config *config, const char *text, struct error *e);

/* Adds what a JSON text says to *config: pure, no file is opened. Disks, initrds and `append` are
 * added to what is there, all else replaces it. `name` is for messages, which give line and column;
 * unknown keys are errors that name the nearest known one. On error *config may have changed in
 * part. */
int config_parse_json(struct vm_config *config, const char *text, size_t len, const char *name,
		      struct error *e);
/* The whole config as JSON that config_parse_json() reads back, over several lines; freed by the
 * caller. NULL when memory is short or a string is not UTF-8, which JSON cannot hold. */
char *config_to_json(const struct vm_config *config);

/* Notes that a configuration was read from `path`. -ENOMEM. */
int config_add_source(struct vm_config *config, const char *path);

/* The serial number that the guest sees of disks[i]. */
void config_disk_serial(const struct vm_config *config, size_t i, char ret[BLK_SERIAL_LEN + 1]);

/* Checks what only the whole can tell: contradictions. Each setting was checked when it was set.
 * -EINVAL with a message. */
int config_validate(const struct vm_config *config, struct error *e);

#endif
