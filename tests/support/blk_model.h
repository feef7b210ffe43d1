// SPDX-License-Identifier: BSD-2-Clause
/*
 * Random requests against a disk, and a model of what the image must hold after: every byte, and
 * which blocks of it are allocated.
 */
#ifndef SKEP_TEST_BLK_MODEL_H
#define SKEP_TEST_BLK_MODEL_H

#include "disk.h"

struct blk_model_run {
	struct disk *disk; /* running; its queue 0 is used */
	const char *path;  /* of the image; all zeros, nothing allocated */
	unsigned requests; /* unless SKEP_BLK_MODEL_REQUESTS in the environment says how many */
	unsigned depth;	   /* at once, up to 64 */
	uint64_t seed;	   /* SKEP_BLK_MODEL_SEED is added */
	bool odd_buffers;  /* cut data into pieces of odd sizes at odd addresses */
	unsigned align;	   /* of offsets and lengths, sectors */
	bool zeros;	   /* some writes are of zeros; the disk detects these */
	bool ephemeral;	   /* the image may hold anything, and stays as it is */
	bool check_holes;  /* blocks of 4096 that were discarded are holes in the image */
};

/* NULL, or what went wrong (valid until the next call). */
const char *blk_model(const struct blk_model_run *run);

#endif
