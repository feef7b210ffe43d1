// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_SYNC_H
#define SKEP_BLK_SYNC_H

#include "engine.h"

/* Sync: system calls on the loop's thread, in commit; `worker` may be NULL and is for flushes, and
 * for those `aside`. */
int blk_sync_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		  struct loop *worker, struct error *e);

#endif
