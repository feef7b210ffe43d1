// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_START_H
#define SKEP_BLK_START_H

#include "disk.h"

/* Starts the request in `chain`, whose descriptors are in memory->scratch. 0, or -EBADMSG when the
 * driver broke the protocol; where there is a status byte, it says so. */
int blk_request_start(struct blk_queue *q, const struct virtq_chain *chain, const char **why);

#endif
