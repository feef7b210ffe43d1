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

#define CONFIG_MAX_CPUS	   64u
#define CONFIG_MAX_DISKS   120u
#define CONFIG_MAX_INITRDS 16u
#define CONFIG_MAX_QUEUES  16u			/* of a disk */
#define CONFIG_MAX_POLL_NS 10000000u		/* of a disk */
#define CONFIG_MEMORY_UNIT ((uint64_t)2 << 20)	/* guest RAM comes in huge pages */
#define CONFIG_MAX_MEMORY  ((uint64_t)16 << 40) /* bytes */
#define BLK_SERIAL_LEN	   20u			/* virtio 1.3, section 5.2.6: VIRTIO_BLK_T_GET_ID */

enum disk_engine { ENGINE_AUTO, ENGINE_URING, ENGINE_SYNC };
enum disk_block_size { BLOCK_SIZE_AUTO, BLOCK_SIZE_512, BLOCK_SIZE_4096 };
enum disk_discard { DISCARD_UNMAP, DISCARD_IGNORE };
enum disk_werror { WERROR_REPORT, WERROR_ENOSPC_PAUSE };
enum disk_detect_zeroes { DETECT_ZEROES_OFF, DETECT_ZEROES_UNMAP };
enum disk_cache { CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_NONE, CACHE_UNSAFE };
enum console_mode { CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_OFF };

struct disk_config {
	char *path;
	char serial[BLK_SERIAL_LEN + 1]; /* empty: derived from the disk's index */
	bool readonly;
	bool ephemeral; /* what is written is thrown away */
	enum disk_block_size
		block_size; /* that the guest sees; auto: a device's own, 512 of a file */
	enum disk_discard discard;
	enum disk_detect_zeroes detect_zeroes; /* a write of zeros becomes a hole */
	enum disk_werror werror;	       /* what a write does that finds no space */
	enum disk_cache cache;
	enum disk_engine engine;
	uint64_t poll_ns; /* before a queue sleeps, at most CONFIG_MAX_POLL_NS; 0: not at all */
	bool pin;	  /* guest memory is pinned, as the engine's fixed buffers */
	unsigned queues;  /* 1 to 16 */
	uint64_t bps;	  /* bytes a second, 0: no limit */
	unsigned iops;	  /* requests a second, 0: no limit */
	uint64_t burst_ns;
};

struct vm_config {
	char *kernel;	 /* NULL: the default guest */
	char **initrds;	 /* ends with NULL; NULL: none, or the default guest's */
	char *append;	 /* added to the default command line; NULL: nothing */
	unsigned cpus;	 /* 1 to CONFIG_MAX_CPUS */
	uint64_t memory; /* bytes, a multiple of 2 MiB */
	struct disk_config *disks;
	size_t num_disks;
	enum console_mode console;
	char *console_path;	  /* CONSOLE_FILE */
	bool console_fresh;	  /* CONSOLE_FILE: emptied at the start; else added to */
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
