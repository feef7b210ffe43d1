// SPDX-License-Identifier: BSD-2-Clause
/* Both halves of a virtqueue in guest memory, without a device. */
#ifndef SKEP_VIRTQ_FIXTURE_H
#define SKEP_VIRTQ_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "driver.h"

#define QSIZE	 8u
#define MAX_SIZE 256u
#define MAX_IOV	 16u
#define BOTH	 (1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

struct fixture {
	struct drv d;
	struct drv_queue q; /* the driver's half ... */
	struct virtq vq;    /* ... and the device's */
	struct iovec iov[MAX_IOV];
	struct virtq_chain chain;
	const char *why;
	gpa_t buf; /* 64 KiB */
};

static inline void start(struct fixture *f, uint16_t size, uint64_t features)
{
	drv_queue_place(&f->q, &f->d, size, features & (1ull << VIRTIO_RING_F_EVENT_IDX));
	f->vq = (struct virtq){.max_size = MAX_SIZE};
	drv_queue_bind(&f->q, &f->vq);
	assert_int_equal(virtq_activate(&f->vq, &f->d.mem, features, &f->why), 0);
	f->chain = (struct virtq_chain){.iov = f->iov, .max_iov = MAX_IOV};
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	drv_init(&f->d, 4 * MIB);
	f->buf = drv_alloc(&f->d, 64 * KIB, 16);
	start(f, QSIZE, BOTH);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	gmem_read_hook = NULL;
	drv_free(&f->d);
	free(f);
	return 0;
}

static inline int pop(struct fixture *f)
{
	return virtq_pop(&f->vq, &f->chain, &f->why);
}

static inline void assert_broken(struct fixture *f, const char *what)
{
	assert_int_equal(pop(f), -EBADMSG);
	assert_non_null(strstr(f->why, what));
}

static inline struct drv_buf out(struct fixture *f, uint32_t len)
{
	return (struct drv_buf){f->buf, len, false};
}

static inline struct drv_buf in(struct fixture *f, uint32_t len)
{
	return (struct drv_buf){f->buf, len, true};
}

/* A hand-made descriptor. */
static inline void desc(struct fixture *f, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
			uint16_t next)
{
	f->q.desc[i] = (struct vring_desc){addr, len, (uint16_t)flags, next};
}

/* Puts one indirect descriptor for a table of `entries` in place; the table. */
static inline struct vring_desc *indirect(struct fixture *f, uint64_t features, unsigned entries)
{
	struct drv_buf one = out(f, 1);

	start(f, QSIZE, features);
	drv_add_indirect(&f->q, &one, 1);
	f->q.desc[0].len = 16 * entries;
	return drv_table(&f->q, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
