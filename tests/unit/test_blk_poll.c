// SPDX-License-Identifier: BSD-2-Clause
/* How long a queue looks for work, at moments that the test makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "blk/poll.h"

#define US 1000u

static uint64_t now = 1000 * NSEC_PER_SEC;

/* Work, so long after the last; the window from there on. */
static uint64_t work_after(struct blk_poll *p, uint64_t ns)
{
	now += ns;
	blk_poll_worked(p, now);
	return p->window;
}

static void test_off(void **state)
{
	struct blk_poll p = {.max = 0};

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(work_after(&p, i * US), 0);
		assert_false(blk_poll_lasts(&p, now));
	}
}

static void test_grows_while_it_would_have_met_work(void **state)
{
	struct blk_poll p = {.max = 50 * US};

	(void)state;
	assert_int_equal(work_after(&p, 0), 0); /* the first ever: who knows */
	assert_int_equal(work_after(&p, 45 * US), BLK_POLL_START_NS);
	assert_int_equal(work_after(&p, 45 * US), 20 * US);
	assert_int_equal(work_after(&p, 45 * US), 40 * US);
	assert_int_equal(work_after(&p, 45 * US), 50 * US);
	/* It meets it from now on. */
	assert_int_equal(work_after(&p, 45 * US), 50 * US);
	assert_int_equal(work_after(&p, 1 * US), 50 * US);
	assert_int_equal(work_after(&p, 50 * US), 50 * US);
}

static void test_grows_no_further_than_it_helps(void **state)
{
	struct blk_poll p = {.max = 10000 * US};

	(void)state;
	work_after(&p, 0);
	for (unsigned i = 0; i < 100; i++)
		work_after(&p, 30 * US);
	assert_int_equal(p.window, 40 * US);
}

static void test_shrinks_when_work_lets_wait(void **state)
{
	struct blk_poll p = {.max = 50 * US, .window = 50 * US};

	(void)state;
	assert_int_equal(work_after(&p, NSEC_PER_SEC), 25 * US);
	assert_int_equal(work_after(&p, 51 * US), 12500);
	assert_int_equal(work_after(&p, 51 * US), 0);
	assert_int_equal(work_after(&p, 51 * US), 0);
	assert_int_equal(work_after(&p, 50 * US), BLK_POLL_START_NS);
}

static void test_a_maximum_below_the_start(void **state)
{
	struct blk_poll p = {.max = 3 * US};

	(void)state;
	work_after(&p, 0);
	assert_int_equal(work_after(&p, 2 * US), 3 * US);
	assert_int_equal(work_after(&p, 4 * US), 0);
}

static void test_lasts_for_the_window(void **state)
{
	struct blk_poll p = {.max = 50 * US, .window = 50 * US, .worked = now};

	(void)state;
	work_after(&p, 10 * US);
	assert_true(blk_poll_lasts(&p, now));
	assert_true(blk_poll_lasts(&p, now + 50 * US - 1));
	assert_false(blk_poll_lasts(&p, now + 50 * US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_grows_while_it_would_have_met_work),
		cmocka_unit_test(test_grows_no_further_than_it_helps),
		cmocka_unit_test(test_shrinks_when_work_lets_wait),
		cmocka_unit_test(test_a_maximum_below_the_start),
		cmocka_unit_test(test_lasts_for_the_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
