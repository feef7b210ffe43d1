// SPDX-License-Identifier: BSD-2-Clause
/* The echo device and its driver on one thread: the loop does not run, drv_pump() delivers kicks.
 */
#ifndef SKEP_VIRTIO_FIXTURE_H
#define SKEP_VIRTIO_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "driver.h"
#include "echo.h"

#define QUEUES	2u
#define ALL	UINT64_MAX
#define VERSION (1ull << VIRTIO_F_VERSION_1)

enum {
	ACK = VIRTIO_CONFIG_S_ACKNOWLEDGE,
	DRIVER = VIRTIO_CONFIG_S_DRIVER,
	FEATURES = VIRTIO_CONFIG_S_FEATURES_OK,
	RUNNING = VIRTIO_CONFIG_S_DRIVER_OK,
	BROKEN = VIRTIO_CONFIG_S_NEEDS_RESET,
	FAILED = VIRTIO_CONFIG_S_FAILED,
	ALIVE = ACK | DRIVER | FEATURES | RUNNING
};

struct fixture {
	struct drv d;
	struct loop *loop;
	struct echo *echo;
	gpa_t buf;
};

static inline int setup_with(void **state, void (*attach)(struct drv *d, struct virtio_dev *dev))
{
	struct fixture *f = calloc(1, sizeof(*f));

	drv_init(&f->d, 8 * MIB);
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 16, NULL), 0);
	f->echo = echo_new(&f->d.mem, QUEUES, 64, f->loop);
	attach(&f->d, &f->echo->dev);
	f->buf = drv_alloc(&f->d, 4096, 16);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	return setup_with(state, drv_attach);
}

static inline int setup_coalesced(void **state)
{
	return setup_with(state, drv_attach_coalesced);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_dev_quiesce(&f->echo->dev);
	virtio_dev_free(&f->echo->dev);
	loop_free(f->loop);
	drv_free(&f->d);
	free(f);
	return 0;
}

static inline uint32_t get(struct fixture *f, uint32_t offset)
{
	return drv_read32(&f->d, offset);
}

static inline void put(struct fixture *f, uint32_t offset, uint32_t value)
{
	drv_write32(&f->d, offset, value);
}

static inline uint32_t status(struct fixture *f)
{
	return get(f, VIRTIO_MMIO_STATUS);
}

/* What the guest sees in the page is what a trapped read says, everywhere. */
static inline void assert_page_is_true(struct fixture *f)
{
	for (uint32_t r = 0; r < VIRTIO_MMIO_PAGE; r += 4)
		assert_int_equal(drv_page32(&f->d, r), get(f, r));
}

static inline int submit(struct fixture *f, unsigned q)
{
	return drv_add(&f->d.queue[q], (struct drv_buf[]){{f->buf, 16, true}}, 1);
}

/* One request through queue `q`, whole. */
static inline void assert_works(struct fixture *f, unsigned q)
{
	uint32_t id;
	int head = submit(f, q);

	drv_kick(&f->d.queue[q]);
	drv_pump(&f->d);
	assert_true(drv_used(&f->d.queue[q], &id, NULL));
	assert_int_equal(id, head);
}

/* Makes the driver break the protocol. */
static inline void provoke(struct fixture *f, unsigned q)
{
	drv_make_available(&f->d.queue[q], 0xffff);
	drv_kick(&f->d.queue[q]);
	drv_pump(&f->d);
	assert_int_equal(status(f), ALIVE | BROKEN);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define C(name) cmocka_unit_test_setup_teardown(name, setup_coalesced, teardown)

#endif
