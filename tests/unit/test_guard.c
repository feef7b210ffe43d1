// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/guard.h"
#include "base/util.h"
#include "patience.h"

struct fixture {
	struct guard guard;
	_Atomic unsigned looks, times;
	_Atomic int last_signal;
	_Atomic uint64_t next; /* what look() returns */
};

static uint64_t look(struct guard *guard, int sig)
{
	struct fixture *f = container_of(guard, struct fixture, guard);
	uint64_t next = f->next;

	if (sig)
		f->last_signal = sig;
	if (now_ns() >= next) {
		f->times++;
		f->next = next = GUARD_NEVER;
	}
	f->looks++;
	return next;
}

static void await(const _Atomic unsigned *counter, unsigned at_least)
{
	uint64_t end = patience_end();

	while (*counter < at_least) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){.guard.look = look, .next = GUARD_NEVER};
	sigemptyset(&f->guard.signals);
	sigaddset(&f->guard.signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &f->guard.signals, NULL);
	assert_int_equal(guard_start(&f->guard, NULL, NULL, NULL), 0);
	await(&f->looks, 1);
}

static void test_signals_reach_the_guard(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	kill(getpid(), SIGUSR1);
	await(&f.looks, 2);
	assert_int_equal(f.last_signal, SIGUSR1);
	guard_stop(&f.guard);
}

static void test_the_guard_looks_when_it_is_time(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	f.next = now_ns() + 2000000;
	guard_wake(&f.guard);
	await(&f.times, 1);
	assert_int_equal(f.last_signal, 0);
	guard_stop(&f.guard);
}

/* Between one guard and the next nothing is lost. */
static void test_signals_wait_for_the_next_guard(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f);
	guard_stop(&f.guard);
	guard_stop(&f.guard);
	kill(getpid(), SIGUSR1);
	assert_int_equal(guard_start(&f.guard, NULL, NULL, NULL), 0);
	await(&f.looks, 3);
	assert_int_equal(f.last_signal, SIGUSR1);
	guard_stop(&f.guard);
}

static int refuse(void *arg)
{
	(void)arg;
	return -EPERM;
}

static void test_failed_setup_is_told(void **state)
{
	struct guard guard = {.look = look};
	struct error e = {""};

	(void)state;
	assert_int_equal(guard_start(&guard, refuse, NULL, &e), -EPERM);
	assert_string_equal(e.msg, "guard: cannot set up its thread: Operation not permitted");
	guard_stop(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals_reach_the_guard),
		cmocka_unit_test(test_the_guard_looks_when_it_is_time),
		cmocka_unit_test(test_signals_wait_for_the_next_guard),
		cmocka_unit_test(test_failed_setup_is_told),
	};

	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
