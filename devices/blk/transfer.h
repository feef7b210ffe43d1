// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_TRANSFER_H
#define SKEP_BLK_TRANSFER_H

#include "disk.h"

/* IN and OUT. */
void blk_transfer_start(struct blk_request *r, const struct virtq_chain *chain, uint64_t sector);
uint32_t blk_transfer_step(struct blk_request *r);
uint32_t blk_bounce_step(struct blk_request *r);

#endif
