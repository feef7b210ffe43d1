// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast a disk may go: token buckets, of bytes and of requests, that all its queues share.
 *
 * Discards, and zeros that are not written, have a bucket of their own, as large as that of bytes:
 * so they are limited, too, but reads and writes need not wait for them.
 *
 * A bucket is the moment when everything started so far will have been paid for at its rate. If
 * that is more than `burst` in the future, the next request waits; so a request of any size can
 * start, and is paid for afterwards.
 */
#ifndef SKEP_BLK_RATE_H
#define SKEP_BLK_RATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * How much a disk may do: bytes and requests a second, 0 for no limit; what was not used is saved
 * for `burst_ns`. All requests count, those that fail and those that move no data, too.
 */
struct blk_limits {
	uint64_t bytes_per_s, ops_per_s, burst_ns;
};

struct blk_rate {
	atomic_bool limited; /* else the rest is not looked at */
	pthread_mutex_t lock;
	struct blk_limits limits;
	uint64_t bytes_paid, ops_paid, ranges_paid; /* CLOCK_MONOTONIC, nanoseconds */
};

void blk_rate_init(struct blk_rate *rate, const struct blk_limits *limits);
void blk_rate_destroy(struct blk_rate *rate);
/* What was used until now is forgotten. Any thread. */
void blk_rate_set(struct blk_rate *rate, const struct blk_limits *limits);

void blk_rate_get(struct blk_rate *rate, struct blk_limits *ret); /* Any thread. */

/* How long the next request has to wait, nanoseconds; 0: it may start. Any thread. */
uint64_t blk_rate_wait(struct blk_rate *rate, uint64_t now);
/* A request of `bytes` was started. Any thread. */
void blk_rate_charge(struct blk_rate *rate, uint64_t bytes, uint64_t now);

/* The same for a step of a range, which writes its bytes, or else discards them or says that they
 * are zeros. */
uint64_t blk_rate_wait_step(struct blk_rate *rate, bool writes, uint64_t now);
void blk_rate_charge_step(struct blk_rate *rate, uint64_t bytes, bool writes, uint64_t now);

#endif
