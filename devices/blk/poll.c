// SPDX-License-Identifier: BSD-2-Clause
#include "poll.h"
#include "base/util.h"

void blk_poll_worked(struct blk_poll *poll, uint64_t now)
{
	uint64_t gap = now - poll->worked;

	poll->worked = now;
	if (gap > poll->max)
		poll->window = poll->window / 2 < BLK_POLL_START_NS ? 0 : poll->window / 2;
	else if (gap > poll->window)
		poll->window = MIN(MAX(2 * poll->window, BLK_POLL_START_NS), poll->max);
}

bool blk_poll_lasts(const struct blk_poll *poll, uint64_t now)
{
	return now - poll->worked < poll->window;
}
