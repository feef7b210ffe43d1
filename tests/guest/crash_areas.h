// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the test "crash" writes, for the payload and for tests/guest/image.c: in round g each of
 * CRASH_WRITES slots, picked by run and round, gets pattern CRASH_SEED(g). The rest of the image
 * holds pattern IMAGE_SEED, which stands for round 0.
 *
 * The payload flushes round g - 1, which is done, while it writes round g; when both have an answer
 * it says "acked=<g - 1>" on the console. What of that arrives is behind the guest, by as much as the
 * monitor keeps for its reader. So the guest also writes which round begins, as pattern CRASH_SEED(g),
 * to the sector behind the slots, and waits for that: no later round is in the image.
 */
#ifndef CRASH_AREAS_H
#define CRASH_AREAS_H

#include <stdint.h>

#include "blk_areas.h"

#define CRASH_SLOTS	   256u /* a power of two */
#define CRASH_SLOT_SECTORS 8u
#define CRASH_WRITES	   16u
#define CRASH_BEGUN	   (CRASH_SLOTS * CRASH_SLOT_SECTORS) /* the sector behind the slots */
#define CRASH_SEED(g)	   ((g) ? 16 + (g) : (uint64_t)IMAGE_SEED)
#define CRASH_MAX_ROUND	   60000u /* patterns have seeds of 16 bits */

/* The slot of write i of a round; those of one round differ. */
static inline unsigned crash_slot(uint64_t run, uint64_t round, unsigned i)
{
	uint64_t x = (run * 0x9e3779b97f4a7c15u) ^ (round * 0xbf58476d1ce4e5b9u);

	x ^= x >> 29;
	return ((unsigned)(x >> 8) + i * ((unsigned)(x >> 32) | 1)) & (CRASH_SLOTS - 1);
}

#endif
