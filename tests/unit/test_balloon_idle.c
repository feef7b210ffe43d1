// SPDX-License-Identifier: BSD-2-Clause
/* The page cache of an idle guest: drop-caches of the balloon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "balloon/balloon.h"
#include "balloon/idle.h"
#include "base/log.h"
#include "base/util.h"
#include "driver.h"

#define RAM	  (256 * MIB)
#define PERIOD	  (20 * 1000000ull)
#define AVAILABLE (200 * MIB)
/* But for what the guest keeps: 32 MiB, and a 16th of all. */
#define TAKEN (AVAILABLE - 32 * MIB - RAM / 16)

enum { INFLATE, DEFLATE, STATS };

struct fixture {
	struct drv d;
	struct loop *loop;
	struct virtio_dev *dev;
	struct device_host host;
	struct idle *idle;
	_Atomic uint64_t cpu_time, per_look;
	gpa_t stats;
};

static uint64_t cpu_time(void *ctx)
{
	struct fixture *f = ctx;

	f->cpu_time += f->per_look;
	return f->cpu_time;
}

/* The driver's statistics, which the device has until it asks for the next ones. */
static void tell(struct fixture *f, uint64_t cache)
{
	const struct virtio_balloon_stat stats[] = {
		{VIRTIO_BALLOON_S_MEMTOT, RAM},
		{VIRTIO_BALLOON_S_AVAIL, AVAILABLE},
		{VIRTIO_BALLOON_S_CACHES, cache},
	};

	memcpy(drv_ptr(&f->d, f->stats, sizeof(stats)), stats, sizeof(stats));
	assert_true(drv_add(&f->d.queue[STATS], &(struct drv_buf){f->stats, sizeof(stats), false},
			    1) >= 0);
	drv_kick(&f->d.queue[STATS]);
}

static struct fixture *start_busy(uint64_t cache, uint64_t per_look)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	drv_init(&f->d, RAM);
	f->stats = drv_alloc(&f->d, 4096, 16);
	f->per_look = per_look;
	f->host = (struct device_host){.cpu_time = cpu_time, .ctx = f};
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 8, NULL), 0);
	assert_int_equal(balloon_device_new(&f->dev, &f->d.mem, &(struct balloon_config){0}, false,
					    f->loop, NULL),
			 0);
	assert_int_equal(idle_new(&f->idle, f->dev, &f->host, PERIOD, f->loop, NULL), 0);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	drv_start(&f->d, UINT64_MAX, 0);
	tell(f, cache);
	return f;
}

static struct fixture *start(uint64_t cache)
{
	return start_busy(cache, 0);
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
	idle_free(f->idle);
	drv_free(&f->d);
	free(f);
}

/* Bytes that the balloon is to have. */
static uint64_t target(struct fixture *f)
{
	return (uint64_t)drv_page32(&f->d, VIRTIO_MMIO_CONFIG) * 4096;
}

static void is_blown_up(struct fixture *f, uint64_t bytes)
{
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG + 4, (uint32_t)(bytes / 4096));
}

/* Answers, always the same, until the balloon is to be of another size; at most so often. */
static unsigned until_not(struct fixture *f, uint64_t bytes, uint64_t cache, unsigned max)
{
	uint64_t until = patience_end();
	unsigned n = 0;

	while (target(f) == bytes && n < max) {
		if (drv_used(&f->d.queue[STATS], NULL, NULL)) {
			tell(f, cache);
			n++;
		}
		assert_true(now_ns() < until);
		usleep(1000);
	}
	return n;
}

#define SOME  8u /* answers, before something that must not happen is believed not to */
#define EVERY UINT32_MAX

static void test_an_idle_guest_gives_up_its_cache(void **state)
{
	struct fixture *f = start(64 * MIB);

	(void)state;
	until_not(f, 0, 64 * MIB, EVERY);
	assert_int_equal(target(f), TAKEN);
	is_blown_up(f, TAKEN);
	until_not(f, TAKEN, 64 * MIB, EVERY);
	assert_int_equal(target(f), 0);
	is_blown_up(f, 0);
	/* What is left now cannot be dropped; what comes later can. */
	assert_int_equal(until_not(f, 0, 64 * MIB, SOME), SOME);
	assert_int_equal(until_not(f, 0, 95 * MIB, SOME), SOME);
	until_not(f, 0, 96 * MIB, EVERY);
	assert_int_equal(target(f), TAKEN);
	end(f);
}

static void test_a_busy_guest_keeps_it(void **state)
{
	struct fixture *f = start_busy(64 * MIB, PERIOD / 19);

	(void)state;
	assert_int_equal(until_not(f, 0, 64 * MIB, SOME), SOME);
	f->per_look = PERIOD / 21;
	until_not(f, 0, 64 * MIB, EVERY);
	assert_int_equal(target(f), TAKEN);
	end(f);
}

static void test_a_small_cache_stays(void **state)
{
	struct fixture *f = start(31 * MIB);

	(void)state;
	assert_int_equal(until_not(f, 0, 31 * MIB, SOME), SOME);
	end(f);
}

/* The size that was there before comes back, however little the guest gave. */
static void test_a_guest_that_gives_nothing(void **state)
{
	struct fixture *f = start(64 * MIB);

	(void)state;
	balloon_set_size(f->dev, 8 * MIB);
	until_not(f, 8 * MIB, 64 * MIB, EVERY);
	assert_int_equal(target(f), 8 * MIB + TAKEN);
	is_blown_up(f, 16 * MIB);
	until_not(f, 8 * MIB + TAKEN, 64 * MIB, EVERY);
	assert_int_equal(target(f), 8 * MIB);
	end(f);
}

static void test_a_size_that_is_asked_for_meanwhile(void **state)
{
	struct fixture *f = start(64 * MIB);

	(void)state;
	until_not(f, 0, 64 * MIB, EVERY);
	balloon_set_size(f->dev, 12 * MIB);
	is_blown_up(f, 12 * MIB);
	assert_int_equal(until_not(f, 12 * MIB, 64 * MIB, SOME), SOME);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_idle_guest_gives_up_its_cache),
		cmocka_unit_test(test_a_busy_guest_keeps_it),
		cmocka_unit_test(test_a_small_cache_stays),
		cmocka_unit_test(test_a_guest_that_gives_nothing),
		cmocka_unit_test(test_a_size_that_is_asked_for_meanwhile),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
