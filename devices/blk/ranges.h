// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_RANGES_H
#define SKEP_BLK_RANGES_H

#include "disk.h"

/* DISCARD, WRITE_ZEROES and SECURE_ERASE. */
void blk_ranges_start(struct blk_request *r, const struct virtq_chain *chain);
uint32_t blk_range_step(struct blk_request *r);
/* The ranges that wait for the disk's limits look again. */
void blk_ranges_go_on(struct blk_queue *q);

#endif
