// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "loops.h"
#include "rng/rng.h"

#define ALL	    UINT64_MAX
#define PLAIN	    (1ull << VIRTIO_F_VERSION_1) /* no EVENT_IDX */
#define MAX_REQUEST 65536u

struct fixture {
	struct drv d;
	struct loop *loop;
	struct virtio_dev *dev;
	struct turns turns;
};

static struct fixture *start(uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	drv_init(&f->d, 16 * MIB);
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 8, NULL), 0);
	assert_int_equal(rng_device_new(&f->dev, &f->d.mem, f->loop, NULL), 0);
	count_turns(f->loop, &f->turns);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	drv_start(&f->d, features, 0);
	return f;
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
	drv_free(&f->d);
	free(f);
}

static bool is_broken(struct fixture *f)
{
	settle(f->loop);
	return drv_is_broken(&f->d);
}

/* Adds one request; returns the bytes that it got. */
static uint32_t request(struct fixture *f, const struct drv_buf *bufs, unsigned n)
{
	uint32_t id, len;
	int head = drv_add(&f->d.queue[0], bufs, n);

	assert_true(head >= 0);
	drv_kick_if_needed(&f->d.queue[0]);
	drv_wait_used(&f->d.queue[0], &id, &len);
	assert_int_equal(id, head);
	return len;
}

static void test_fills_what_is_asked_for(void **state)
{
	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		struct fixture *f = start(plain ? PLAIN : ALL);
		struct drv_buf buf = {drv_alloc(&f->d, 128, 1), 64, true};
		uint8_t *p = drv_ptr(&f->d, buf.addr, 128), first[64];

		assert_int_equal(request(f, &buf, 1), 64);
		memcpy(first, p, 64);
		assert_false(mem_is_zero(first, 64));
		for (int i = 0; i < 100; i++) { /* more than the queue is long */
			assert_int_equal(request(f, &buf, 1), 64);
			assert_memory_not_equal(p, first, 64);
		}
		assert_true(mem_is_zero(p + 64, 64)); /* and nothing beyond */
		end(f);
	}
}

static void test_many_buffers(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf buf[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		buf[i] = (struct drv_buf){drv_alloc(&f->d, 1024, 1), i == 2 ? 0 : 1000, true};
	assert_int_equal(request(f, buf, 4), 3000);
	for (unsigned i = 0; i < 4; i++) {
		uint8_t *p = drv_ptr(&f->d, buf[i].addr, 1024);

		assert_int_equal(mem_is_zero(p, 1000), i == 2);
		assert_true(mem_is_zero(p + 1000, 24));
	}
	end(f);
}

static void test_large_request_gets_a_part(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf buf[2] = {
		{drv_alloc(&f->d, 40000, 1), 40000, true},
		{drv_alloc(&f->d, MIB, 1), MIB, true},
	};

	(void)state;
	assert_int_equal(request(f, buf, 2), MAX_REQUEST);
	assert_true(mem_is_zero((uint8_t *)drv_ptr(&f->d, buf[1].addr, MIB) + MAX_REQUEST - 40000,
				MIB - (MAX_REQUEST - 40000)));
	end(f);
}

static void test_work_of_a_turn_is_bounded(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf buf = {drv_alloc(&f->d, MAX_REQUEST, 1), MAX_REQUEST, true};
	uint32_t len;

	(void)state;
	f->turns.n = 0;
	for (int i = 0; i < 16; i++)
		assert_true(drv_add(&f->d.queue[0], &buf, 1) >= 0);
	drv_kick(&f->d.queue[0]);
	for (int i = 0; i < 16; i++) {
		drv_wait_used(&f->d.queue[0], NULL, &len);
		assert_int_equal(len, MAX_REQUEST);
	}
	assert_true(f->turns.n >= 15);
	end(f);
}

static void test_zero_bytes_are_nothing(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf buf = {drv_alloc(&f->d, 16, 1), 0, true};

	(void)state;
	assert_int_equal(request(f, &buf, 1), 0);
	assert_false(is_broken(f));
	end(f);
}

static void test_readable_buffers_are_an_error(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf buf[2] = {
		{drv_alloc(&f->d, 16, 1), 16, false},
		{drv_alloc(&f->d, 16, 1), 16, true},
	};

	(void)state;
	for (unsigned n = 1; n <= 2; n++) {
		drv_add(&f->d.queue[0], buf, n);
		drv_kick(&f->d.queue[0]);
		assert_true(is_broken(f));
		assert_false(drv_used(&f->d.queue[0], NULL, NULL));
		assert_true(mem_is_zero(drv_ptr(&f->d, buf[1].addr, 16), 16));

		/* A reset mends it. */
		drv_start(&f->d, ALL, 0);
		assert_int_equal(request(f, &buf[1], 1), 16);
		memset(drv_ptr(&f->d, buf[1].addr, 16), 0, 16);
	}
	end(f);
}

static void test_no_configuration(void **state)
{
	struct fixture *f = start(ALL);

	(void)state;
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG, 1);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG), 0);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_DEVICE_ID), 4);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fills_what_is_asked_for),
		cmocka_unit_test(test_many_buffers),
		cmocka_unit_test(test_large_request_gets_a_part),
		cmocka_unit_test(test_work_of_a_turn_is_bounded),
		cmocka_unit_test(test_zero_bytes_are_nothing),
		cmocka_unit_test(test_readable_buffers_are_an_error),
		cmocka_unit_test(test_no_configuration),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
