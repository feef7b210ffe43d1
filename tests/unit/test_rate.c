// SPDX-License-Identifier: BSD-2-Clause
/* The disk's token buckets, at moments that the test makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rate.h"
#include "base/util.h"

#define S  NSEC_PER_SEC
#define MS (NSEC_PER_SEC / 1000)

static struct rate rate;

static void set(uint64_t bytes, uint64_t ops, uint64_t burst)
{
	rate_init(&rate, &(struct rate_limits){bytes, ops, burst});
}

static void test_no_limit(void **state)
{
	(void)state;
	set(0, 0, S);
	for (unsigned i = 0; i < 1000; i++) {
		rate_charge(&rate, UINT64_MAX, 5 * S);
		assert_int_equal(rate_wait(&rate, 5 * S), 0);
	}
	rate_destroy(&rate);
}

static void test_bytes(void **state)
{
	(void)state;
	set(1000, 0, 0);
	/* The first always starts, and the next waits until that is paid for. */
	assert_int_equal(rate_wait(&rate, 10 * S), 0);
	rate_charge(&rate, 2500, 10 * S);
	assert_int_equal(rate_wait(&rate, 10 * S), 2500 * MS);
	assert_int_equal(rate_wait(&rate, 12 * S), 500 * MS);
	assert_int_equal(rate_wait(&rate, 12 * S + 500 * MS), 0);
	/* Time that was not used is not saved up. */
	assert_int_equal(rate_wait(&rate, 100 * S), 0);
	rate_charge(&rate, 1, 100 * S);
	assert_int_equal(rate_wait(&rate, 100 * S), MS);
	rate_destroy(&rate);
}

static void test_requests_and_burst(void **state)
{
	unsigned n = 0;

	(void)state;
	set(0, 100, S);
	/* A second's worth at once, and the one that empties the bucket. */
	while (!rate_wait(&rate, 50 * S) && n < 1000) {
		rate_charge(&rate, 0, 50 * S);
		n++;
	}
	assert_int_equal(n, 101);
	/* From then on, one every 10 ms. */
	for (unsigned i = 1; i <= 10; i++) {
		assert_int_equal(rate_wait(&rate, 50 * S + (i - 1) * 10 * MS), 10 * MS);
		assert_int_equal(rate_wait(&rate, 50 * S + i * 10 * MS), 0);
		rate_charge(&rate, 0, 50 * S + i * 10 * MS);
	}
	rate_destroy(&rate);
}

static void test_the_longer_wait_counts(void **state)
{
	(void)state;
	set(1000, 1, 0);
	rate_charge(&rate, 100, S);
	assert_int_equal(rate_wait(&rate, S), S);
	rate_charge(&rate, 10000, 2 * S);
	assert_int_equal(rate_wait(&rate, 2 * S), 10 * S);
	rate_destroy(&rate);
}

/* Short waits are made longer where nothing is lost by it. */
static void test_waits_are_worth_it(void **state)
{
	(void)state;
	set(0, 1000000, 100 * MS);
	while (!rate_wait(&rate, S))
		rate_charge(&rate, 0, S);
	assert_int_equal(rate_wait(&rate, S), MS);
	rate_set(&rate, &(struct rate_limits){0, 1000000, 1000});
	rate_charge(&rate, 0, S);
	assert_int_equal(rate_wait(&rate, S), 0);
	rate_charge(&rate, 0, S);
	assert_int_equal(rate_wait(&rate, S), 1000);
	rate_destroy(&rate);
}

/* Rates that do not divide a second, and debts beyond all time. */
static void test_no_rounding_no_overflow(void **state)
{
	(void)state;
	set(3, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		rate_charge(&rate, 1, S);
	assert_in_range(rate_wait(&rate, S), S, S + 3);
	rate_set(&rate, &(struct rate_limits){1, 1, 0});
	rate_charge(&rate, UINT64_MAX, S);
	rate_charge(&rate, UINT64_MAX, S);
	assert_int_equal(rate_wait(&rate, S), INT64_MAX - S);
	/* New limits forget it. */
	rate_set(&rate, &(struct rate_limits){UINT64_MAX, UINT64_MAX, 0});
	assert_int_equal(rate_wait(&rate, S), 0);
	rate_charge(&rate, 4096, S);
	assert_int_equal(rate_wait(&rate, S), 1);
	rate_destroy(&rate);
}

/* Discards are limited as bytes are, and neither waits for the other; zeros that are written are
 * bytes. */
static void test_steps_of_ranges(void **state)
{
	(void)state;
	set(1000, 1, 0);
	assert_int_equal(rate_wait_step(&rate, false, S), 0);
	rate_charge_step(&rate, 5000, false, S);
	assert_int_equal(rate_wait_step(&rate, false, S), 5 * S);
	assert_int_equal(rate_wait_step(&rate, false, 4 * S), 2 * S);
	assert_int_equal(rate_wait_step(&rate, true, S), 0);
	assert_int_equal(rate_wait(&rate, S), 0);
	rate_charge_step(&rate, 3000, true, S);
	assert_int_equal(rate_wait_step(&rate, true, S), 3 * S);
	assert_int_equal(rate_wait(&rate, S), 3 * S);
	assert_int_equal(rate_wait_step(&rate, false, S), 5 * S);
	rate_destroy(&rate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_requests_and_burst),
		cmocka_unit_test(test_the_longer_wait_counts),
		cmocka_unit_test(test_waits_are_worth_it),
		cmocka_unit_test(test_no_rounding_no_overflow),
		cmocka_unit_test(test_steps_of_ranges),
	};

	return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
