// SPDX-License-Identifier: BSD-2-Clause
/*
 * How long a queue looks for work before it sleeps: adaptive polling, as KVM's halt_poll_ns.
 *
 * After each piece of work it looks for `window`. Work that comes a little later than that, but
 * within `max`, would have been met by a longer window, so that doubles; work that lets wait longer
 * than `max` was not worth waiting for, so it halves, down to none.
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
