// SPDX-License-Identifier: BSD-2-Clause
/* What a disk is to be. */
#ifndef SKEP_BLK_CONFIG_H
#define SKEP_BLK_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_MAX_QUEUES  16u	     /* of a disk */
#define CONFIG_MAX_POLL_NS 10000000u /* of a disk */
#define BLK_SERIAL_LEN	   20u	     /* virtio 1.3, section 5.2.6: VIRTIO_BLK_T_GET_ID */

enum disk_engine { ENGINE_AUTO, ENGINE_URING, ENGINE_SYNC };
enum disk_block_size { BLOCK_SIZE_AUTO, BLOCK_SIZE_512, BLOCK_SIZE_4096 };
enum disk_discard { DISCARD_UNMAP, DISCARD_IGNORE };
enum disk_werror { WERROR_REPORT, WERROR_ENOSPC_PAUSE };
enum disk_detect_zeroes { DETECT_ZEROES_OFF, DETECT_ZEROES_UNMAP };
enum disk_cache { CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_NONE, CACHE_UNSAFE };

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

#endif
