// SPDX-License-Identifier: BSD-2-Clause
#include "lane.h"

void blk_lane_run(struct blk_lane *lane)
{
	struct blk_request *r;

	while (lane->at_work < lane->max && !lane->waits &&
	       (r = fifo_take(&lane->waiting, struct blk_request, link))) {
		struct blk_engine *engine = r->queue->engine;

		r->share = lane->step(r);
		if (!r->share)
			break;
		lane->at_work += r->share;
		engine->ops->submit(engine, &r->io);
	}
}
