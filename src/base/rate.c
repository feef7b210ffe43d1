// SPDX-License-Identifier: BSD-2-Clause
#include "base/rate.h"
#include "base/util.h"

/* If `burst` allows it, a wait is at least this long: a timer for each request would cost more. */
#define PAUSE_NS 1000000u

void rate_init(struct rate *rate, const struct rate_limits *limits)
{
	pthread_mutex_init(&rate->lock, NULL);
	rate_set(rate, limits);
}

void rate_destroy(struct rate *rate)
{
	pthread_mutex_destroy(&rate->lock);
}

void rate_set(struct rate *rate, const struct rate_limits *limits)
{
	pthread_mutex_lock(&rate->lock);
	rate->limits = *limits;
	rate->bytes_paid = rate->ops_paid = rate->ranges_paid = 0;
	rate->limited = limits->bytes_per_s || limits->ops_per_s;
	pthread_mutex_unlock(&rate->lock);
}

void rate_get(struct rate *rate, struct rate_limits *ret)
{
	pthread_mutex_lock(&rate->lock);
	*ret = rate->limits;
	pthread_mutex_unlock(&rate->lock);
}

static uint64_t wait_of(uint64_t paid, uint64_t now, uint64_t burst_ns)
{
	return paid > now && paid - now > burst_ns ? paid - now - burst_ns : 0;
}

uint64_t rate_wait(struct rate *rate, uint64_t now)
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

void rate_charge(struct rate *rate, uint64_t bytes, uint64_t now)
{
	if (!rate->limited)
		return;
	pthread_mutex_lock(&rate->lock);
	pay(&rate->bytes_paid, bytes, rate->limits.bytes_per_s, now);
	pay(&rate->ops_paid, 1, rate->limits.ops_per_s, now);
	pthread_mutex_unlock(&rate->lock);
}

static uint64_t *paid_for_step(struct rate *rate, bool writes)
{
	return writes ? &rate->bytes_paid : &rate->ranges_paid;
}

uint64_t rate_wait_step(struct rate *rate, bool writes, uint64_t now)
{
	uint64_t wait;

	pthread_mutex_lock(&rate->lock);
	wait = wait_of(*paid_for_step(rate, writes), now, rate->limits.burst_ns);
	pthread_mutex_unlock(&rate->lock);
	return wait;
}

void rate_charge_step(struct rate *rate, uint64_t bytes, bool writes, uint64_t now)
{
	pthread_mutex_lock(&rate->lock);
	pay(paid_for_step(rate, writes), bytes, rate->limits.bytes_per_s, now);
	pthread_mutex_unlock(&rate->lock);
}

void rate_timer_set(struct rate_timer *t, uint64_t wait)
{
	uint64_t due = wait ? now_ns() + wait : 0;

	if (wait && t->due && t->due <= due)
		return;
	t->due = due;
	loop_timer_set(&t->timer, wait);
}
