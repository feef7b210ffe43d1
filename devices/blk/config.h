// SPDX-License-Identifier: BSD-2-Clause
/* The configuration of a disk. */
#ifndef SKEP_BLK_CONFIG_H
#define SKEP_BLK_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "config/device_options.h"

#define BLK_MAX_DISKS	120u
#define BLK_MAX_QUEUES	16u /* of a disk */
#define BLK_MAX_POLL_NS 10000000u
#define BLK_MAX_IOPS	1000000000u
#define BLK_SERIAL_LEN	20u /* virtio 1.3, section 5.2.6: VIRTIO_BLK_T_GET_ID */

#define DISK_ENGINES(X) X(ENGINE_AUTO, "auto") X(ENGINE_URING, "uring") X(ENGINE_SYNC, "sync")
enum disk_engine { DISK_ENGINES(CHOICE_VALUE) };

#define DISK_BLOCK_SIZES(X)                                                                        \
	X(BLOCK_SIZE_AUTO, "auto") X(BLOCK_SIZE_512, "512") X(BLOCK_SIZE_4096, "4096")
enum disk_block_size { DISK_BLOCK_SIZES(CHOICE_VALUE) };

#define DISK_FORMATS(X) X(FORMAT_AUTO, "auto") X(FORMAT_RAW, "raw")
enum disk_format { DISK_FORMATS(CHOICE_VALUE) };

#define DISK_DISCARDS(X) X(DISCARD_UNMAP, "unmap") X(DISCARD_IGNORE, "ignore")
enum disk_discard { DISK_DISCARDS(CHOICE_VALUE) };

#define DISK_DETECT_ZEROES(X) X(DETECT_ZEROES_OFF, "off") X(DETECT_ZEROES_UNMAP, "unmap")
enum disk_detect_zeroes { DISK_DETECT_ZEROES(CHOICE_VALUE) };

#define DISK_WERRORS(X) X(WERROR_REPORT, "report") X(WERROR_ENOSPC_PAUSE, "enospc-pause")
enum disk_werror { DISK_WERRORS(CHOICE_VALUE) };

#define DISK_CACHES(X)                                                                             \
	X(CACHE_WRITEBACK, "writeback")                                                            \
	X(CACHE_WRITETHROUGH, "writethrough") X(CACHE_NONE, "none") X(CACHE_UNSAFE, "unsafe")
enum disk_cache { DISK_CACHES(CHOICE_VALUE) };

struct disk_config {
	char *path;
	char serial[BLK_SERIAL_LEN + 1]; /* empty: derived from the disk's index */
	bool readonly;
	bool ephemeral; /* what is written is thrown away */
	enum disk_block_size
		block_size; /* that the guest sees; auto: a device's own, 512 of a file */
	enum disk_format format;
	enum disk_discard discard;
	enum disk_detect_zeroes detect_zeroes; /* a write of zeros becomes a hole */
	enum disk_werror werror;	       /* what a write does without space */
	enum disk_cache cache;
	enum disk_engine engine;
	uint64_t poll_ns; /* before a queue sleeps, at most BLK_MAX_POLL_NS; 0: not at all */
	bool pin;	  /* guest memory is pinned, as the engine's fixed buffers */
	unsigned queues;  /* 1 to BLK_MAX_QUEUES */
	uint64_t bps;	  /* bytes a second, 0: no limit */
	unsigned iops;	  /* requests a second, 0: no limit */
	uint64_t burst_ns;
};

extern const struct device_options blk_options;

/* The serial number that the guest sees of the VM's disk number `index`. */
void disk_serial(const struct disk_config *disk, size_t index, char ret[BLK_SERIAL_LEN + 1]);

#endif
