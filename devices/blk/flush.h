// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_FLUSH_H
#define SKEP_BLK_FLUSH_H

#include "disk.h"

/* Ends requests of the queue that waited for a sync which is done, and begins one where there are
 * more and none is at work: then true. At the end of a turn of the queue's loop. */
bool blk_flush_look(struct blk_queue *q);
/* The driver reset the device, no queue is active: what was lost before is forgotten. */
void blk_flush_forget(struct blk_device *blk);

#endif
