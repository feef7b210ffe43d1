// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast a device may go: token buckets, of bytes and of operations, that all its queues share.
 *
 * What a disk discards, or says that it is zero, has a bucket of its own, as large as that of bytes:
 * so it is limited, too, but reads and writes need not wait for it.
 *
 * A bucket is the moment when everything started so far will have been paid for at its rate. If
 * that is more than `burst` in the future, the next operation waits; so one of any size can start,
 * and is paid for afterwards.
 */
#ifndef SKEP_RATE_H
#define SKEP_RATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

/*
 * How much a device may do: bytes and operations a second, 0 for no limit; what was not used is
 * saved for `burst_ns`. All operations count, those that fail and those that move no data, too.
 */
struct rate_limits {
	uint64_t bytes_per_s, ops_per_s, burst_ns;
};

struct rate {
	atomic_bool limited; /* else the rest is not looked at */
	pthread_mutex_t lock;
	struct rate_limits limits;
	uint64_t bytes_paid, ops_paid, ranges_paid; /* CLOCK_MONOTONIC, nanoseconds */
};

void rate_init(struct rate *rate, const struct rate_limits *limits);
void rate_destroy(struct rate *rate);
/* What was used until now is forgotten. Any thread. */
void rate_set(struct rate *rate, const struct rate_limits *limits);

void rate_get(struct rate *rate, struct rate_limits *ret); /* Any thread. */

/* How long the next operation has to wait, nanoseconds; 0: it may start. Any thread. */
uint64_t rate_wait(struct rate *rate, uint64_t now);
/* An operation of `bytes` was started. Any thread. */
void rate_charge(struct rate *rate, uint64_t bytes, uint64_t now);

/* The same for a step of a range, which writes its bytes, or else discards them or says that they
 * are zeros. */
uint64_t rate_wait_step(struct rate *rate, bool writes, uint64_t now);
void rate_charge_step(struct rate *rate, uint64_t bytes, bool writes, uint64_t now);

/* For those that wait on one loop: fires when the first of them may go on. Whom it calls sets `due`
 * to 0. */
struct rate_timer {
	struct loop_timer timer;
	uint64_t due; /* at most until then (CLOCK_MONOTONIC, nanoseconds); 0: nothing waits */
};
/* One more waits, so many nanoseconds; 0: none does any more. On the loop's thread. */
void rate_timer_set(struct rate_timer *t, uint64_t wait);

#endif
