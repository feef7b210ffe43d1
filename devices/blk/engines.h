// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_ENGINES_H
#define SKEP_BLK_ENGINES_H

#include "engine.h"

/* The engine for a queue on `loop`, over a throw-away image's base as well. Before the loop
 * starts. */
int blk_engine_open(struct blk_engine **ret, const struct blk_image *image, enum disk_engine wanted,
		    struct loop *loop, struct loop *worker, struct error *e);

/* Whether a disk, whose queues are on loops like this one, needs a loop of its own as worker. */
bool blk_needs_worker(const struct blk_image *image, const struct disk_config *config,
		      const struct loop *loop);

#endif
