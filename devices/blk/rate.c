// SPDX-License-Identifier: BSD-2-Clause
#include "rate.h"
#include "base/util.h"

/* If `burst` allows it, a wait is at least this long: a timer for each request would cost more. */
#define PAUSE_NS 1000000u

void blk_rate_init(struct blk_rate *rate, const struct blk_limits *limits)
{
	pthread_mutex_init(&rate->lock, NULL);
	blk_rate_set(rate, limits);
}

void blk_rate_destroy(struct blk_rate *rate)
{
	pthread_mutex_destroy(&rate->lock);
}

void blk_rate_set(struct blk_rate *rate, const struct blk_limits *limits)
{
	pthread_mutex_lock(&rate->lock);
	rate->limits = *limits;
	rate->bytes_paid = rate->ops_paid = rate->ranges_paid = 0;
	rate->limited = limits->bytes_per_s || limits->ops_per_s;
	pthread_mutex_unlock(&rate->lock);
}

void blk_rate_get(struct blk_rate *rate, struct blk_limits *ret)
{
	pthread_mutex_lock(&rate->lock);
	*ret = rate->limits;
	pthread_mutex_unlock(&rate->lock);
}

static uint64_t wait_of(uint64_t paid, uint64_t now, uint64_t burst_ns)
{
	return paid > now && paid - now > burst_ns ? paid - now - burst_ns : 0;
}

uint64_t blk_rate_wait(struct blk_rate *rate, uint64_t now)
{
	uint64_t bytes, ops, wait, least;

	if (!rate->limited)
		return 0;
	pthread_mutex_lock(&rate->lock);
	bytes = wait_of(rate->bytes_paid, now, rate->limits.burst_ns);
	ops = wait_of(rate->ops_paid, now, rate->limits.burst_ns);
	wait = MAX(bytes, ops);
	least = MIN(rate->limits.burst_ns, PAUSE_NS);
	pthread_mutex_unlock(&rate->lock);
	return wait ? MAX(wait, least) : 0;
}

static void pay(uint64_t *paid, uint64_t amount, uint64_t per_s, uint64_t now)
{
	unsigned __int128 ns;

	if (!per_s)
		return;
	/* Rounded up, so that nothing is free. Debts of centuries are all the same. */
	ns = ((unsigned __int128)amount * NSEC_PER_SEC + per_s - 1) / per_s;
	ns += MAX(*paid, now);
	*paid = (uint64_t)MIN(ns, (unsigned __int128)INT64_MAX);
}

void blk_rate_charge(struct blk_rate *rate, uint64_t bytes, uint64_t now)
{
	if (!rate->limited)
		return;
	pthread_mutex_lock(&rate->lock);
	pay(&rate->bytes_paid, bytes, rate->limits.bytes_per_s, now);
	pay(&rate->ops_paid, 1, rate->limits.ops_per_s, now);
	pthread_mutex_unlock(&rate->lock);
}

static uint64_t *paid_for_step(struct blk_rate *rate, bool writes)
{
	return writes ? &rate->bytes_paid : &rate->ranges_paid;
}

uint64_t blk_rate_wait_step(struct blk_rate *rate, bool writes, uint64_t now)
{
	uint64_t wait;

	pthread_mutex_lock(&rate->lock);
	wait = wait_of(*paid_for_step(rate, writes), now, rate->limits.burst_ns);
	pthread_mutex_unlock(&rate->lock);
	return wait;
}

void blk_rate_charge_step(struct blk_rate *rate, uint64_t bytes, bool writes, uint64_t now)
{
	pthread_mutex_lock(&rate->lock);
	pay(paid_for_step(rate, writes), bytes, rate->limits.bytes_per_s, now);
	pthread_mutex_unlock(&rate->lock);
}
