// SPDX-License-Identifier: BSD-2-Clause
/*
 * How long a queue looks for work before it sleeps: adaptive polling, as KVM's halt_poll_ns.
 *
 * After each piece of work the queue looks for more during `window`. If work comes later than that
 * but within `max`, a longer window would have caught it, so the window doubles; if work comes
 * later than `max`, looking was a waste, so the window halves, down to none.
 */
#ifndef SKEP_BLK_POLL_H
#define SKEP_BLK_POLL_H

#include <stdbool.h>
#include <stdint.h>

#define BLK_POLL_START_NS 10000u /* the shortest window */

struct blk_poll {
	uint64_t max, window; /* nanoseconds; a max of 0: never */
	uint64_t worked;      /* CLOCK_MONOTONIC, nanoseconds: when there was work */
};

/* There was work. */
void blk_poll_worked(struct blk_poll *poll, uint64_t now);
/* Whether to go on looking. */
bool blk_poll_lasts(const struct blk_poll *poll, uint64_t now);

#endif
