// SPDX-License-Identifier: BSD-2-Clause
/* Split virtqueues, device side: what they do for a driver that keeps the rules. */
#include "virtq_fixture.h"

static void test_chain_as_the_driver_made_it(void **state)
{
	struct fixture *f = *state;
	struct drv_buf bufs[] = {out(f, 16), out(f, 512), in(f, 100), in(f, 1)};
	int head = drv_add(&f->q, bufs, 4);

	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.num_out, 2);
	assert_int_equal(f->chain.num_in, 2);
	assert_int_equal(f->chain.out_bytes, 528);
	assert_int_equal(f->chain.in_bytes, 101);
	assert_ptr_equal(f->iov[1].iov_base, drv_ptr(&f->d, f->buf, 512));
	assert_int_equal(f->iov[1].iov_len, 512);
	assert_int_equal(f->iov[3].iov_len, 1);
	assert_int_equal(pop(f), 0);
}

static void test_used_entries_reach_the_driver(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;
	int a = drv_add(&f->q, (struct drv_buf[]){in(f, 10)}, 1);
	int b = drv_add(&f->q, (struct drv_buf[]){in(f, 20)}, 1);

	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 1);
	virtq_push(&f->vq, (uint16_t)b, 20); /* out of order */
	virtq_push(&f->vq, (uint16_t)a, 7);
	assert_false(drv_used(&f->q, &id, &len)); /* not published yet */
	virtq_publish(&f->vq);
	assert_true(drv_used(&f->q, &id, &len));
	assert_int_equal(id, b);
	assert_int_equal(len, 20);
	assert_true(drv_used(&f->q, &id, &len));
	assert_int_equal(id, a);
	assert_int_equal(len, 7);
	assert_false(drv_used(&f->q, &id, &len));
}

/* 200,000 chains through a small queue: all 16-bit indices wrap, several times. */
static void test_indices_wrap(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 200000; i++) {
		uint32_t id, len;
		int head = drv_add(&f->q, (struct drv_buf[]){out(f, 1 + i % 1000)}, 1);

		assert_int_equal(pop(f), 1);
		assert_int_equal(f->chain.out_bytes, 1 + i % 1000);
		virtq_push(&f->vq, f->chain.head, i);
		assert_true(virtq_publish(&f->vq));
		assert_true(drv_used(&f->q, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i);
		drv_used(&f->q, NULL, NULL); /* none; renews used_event */
	}
}

static void test_empty_buffers_are_nothing(void **state)
{
	struct fixture *f = *state;

	drv_add(&f->q, (struct drv_buf[]){out(f, 0), out(f, 5), in(f, 0), in(f, 6)}, 4);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, 1);
	assert_int_equal(f->chain.num_in, 1);
	assert_int_equal(f->iov[1].iov_len, 6);
}

static void test_indirect_chain(void **state)
{
	struct fixture *f = *state;
	struct drv_buf bufs[MAX_IOV];

	for (unsigned i = 0; i < MAX_IOV; i++)
		bufs[i] = (struct drv_buf){GPA(f->buf.v + i), 1 + i, i > 2};
	drv_add_indirect(&f->q, bufs, MAX_IOV); /* longer than the queue */
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, 3);
	assert_int_equal(f->chain.num_in, MAX_IOV - 3);
	assert_ptr_equal(f->iov[15].iov_base, drv_ptr(&f->d, GPA(f->buf.v + 15), 16));

	/* Section 2.7.5.3.2: direct descriptors, then a table; WRITE on its descriptor means
	 * nothing. */
	start(f, QSIZE, BOTH);
	drv_add_indirect(&f->q, (struct drv_buf[]){out(f, 2), in(f, 3)}, 2);
	assert_int_equal(f->q.avail->ring[0], 0);
	desc(f, 1, f->buf.v, 1, VRING_DESC_F_NEXT, 0);
	f->q.desc[0].flags |= VRING_DESC_F_WRITE;
	f->q.avail->ring[0] = 1;
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, 2);
	assert_int_equal(f->chain.num_in, 1);
	assert_int_equal(f->chain.head, 1);
}

/* A table needs no alignment (section 2.7.5.3 asks for none). */
static void test_indirect_table_may_be_unaligned(void **state)
{
	struct fixture *f = *state;
	struct vring_desc d = {f->buf.v, 7, VRING_DESC_F_WRITE, 0};
	uint64_t at = f->buf.v + 4097;

	indirect(f, BOTH, 1);
	memcpy(drv_ptr(&f->d, GPA(at), 16), &d, 16);
	f->q.desc[0].addr = at;
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.in_bytes, 7);
}

static void complete(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1);
		assert_int_equal(pop(f), 1);
		virtq_push(&f->vq, f->chain.head, 8);
	}
}

static void test_event_idx_interrupts(void **state)
{
	struct fixture *f = *state;
	uint16_t *used_event = &f->q.avail->ring[QSIZE];

	assert_false(virtq_publish(&f->vq)); /* nothing new */
	*used_event = 2;
	complete(f, 2);
	assert_false(virtq_publish(&f->vq)); /* entries 0, 1 */
	complete(f, 1);
	f->q.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing here */
	assert_true(virtq_publish(&f->vq));		/* entry 2: asked for */
	while (drv_used(&f->q, NULL, NULL))
		;
	*used_event = 2;
	complete(f, 4);
	assert_false(virtq_publish(&f->vq)); /* 3..6: passed long ago */
	*used_event = 9;
	while (drv_used(&f->q, NULL, NULL))
		;
	*used_event = 9;
	complete(f, 4);
	assert_true(virtq_publish(&f->vq)); /* 7..10: 9 is among them */
}

static void test_interrupts_without_event_idx(void **state)
{
	struct fixture *f = *state;

	start(f, QSIZE, 0);
	f->q.avail->ring[QSIZE] = 2; /* used_event means nothing here */
	complete(f, 1);
	assert_true(virtq_publish(&f->vq));
	f->q.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	complete(f, 1);
	assert_false(virtq_publish(&f->vq));
	assert_int_equal(f->q.used->idx, 2); /* published all the same */
}

static void test_kicks_without_event_idx(void **state)
{
	struct fixture *f = *state;

	start(f, QSIZE, 0);
	virtq_disable_kicks(&f->vq);
	assert_int_equal(f->q.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_enable_kicks(&f->vq));
	assert_int_equal(f->q.used->flags, 0);
	virtq_disable_kicks(&f->vq);
	drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1);
	assert_true(virtq_enable_kicks(&f->vq)); /* came meanwhile */
}

static void test_kicks_with_event_idx(void **state)
{
	struct fixture *f = *state;
	uint16_t *avail_event = (uint16_t *)(void *)&f->q.used->ring[QSIZE];

	virtq_disable_kicks(&f->vq);
	complete(f, 3);
	assert_int_equal(f->q.used->flags, 0); /* section 2.7.10: stays 0 */
	assert_int_equal(*avail_event, 0);     /* stays behind: no kick for these */
	assert_false(virtq_enable_kicks(&f->vq));
	assert_int_equal(*avail_event, 3); /* the next one kicks */
	drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1);
	assert_true(virtq_enable_kicks(&f->vq));
	assert_int_equal(*avail_event, 3);
}

/* Section 2.7.10.2: with EVENT_IDX it is 0, whatever the driver left there. */
static void test_used_flags_begin_as_zero(void **state)
{
	struct fixture *f = *state;

	f->q.used->flags = 0xffff;
	assert_int_equal(virtq_activate(&f->vq, &f->d.mem, BOTH, &f->why), 0);
	assert_int_equal(f->q.used->flags, 0);
	complete(f, 1);
	assert_int_equal(f->q.used->flags, 0);
}

/* CVE-2020-16843 (Firecracker's network): once the receive queue was empty, a refill of it went
 * unseen for ever. A full queue, all of it consumed, refilled: kicks come again, each time. */
static void test_cve_2020_16843_refill_after_empty_is_seen(void **state)
{
	struct fixture *f = *state;

	for (unsigned both = 0; both < 2; both++) {
		start(f, QSIZE, both ? BOTH : 0);
		for (unsigned round = 0; round < 10000; round++) {
			uint32_t id;
			unsigned n = 0;

			for (unsigned i = 0; i < QSIZE; i++)
				assert_true(drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1) >= 0);
			assert_int_equal(drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1), -ENOSPC);
			/* drv_kick_if_needed() without a device: only the decision. */
			if (both)
				assert_true(vring_need_event(
					*(uint16_t *)(void *)&f->q.used->ring[QSIZE],
					f->q.avail_idx, f->q.kicked));
			else
				assert_false(f->q.used->flags & VRING_USED_F_NO_NOTIFY);
			f->q.kicked = f->q.avail_idx;
			virtq_disable_kicks(&f->vq);
			while (pop(f) == 1)
				virtq_push(&f->vq, f->chain.head, 8);
			virtq_publish(&f->vq);
			assert_false(virtq_enable_kicks(&f->vq));
			while (drv_used(&f->q, &id, NULL))
				n++;
			assert_int_equal(n, QSIZE);
		}
	}
}

static void test_iov_copies_at_offsets(void **state)
{
	char a[4] = "abcd", b[3] = "efg", back[16];
	struct iovec iov[] = {{a, 4}, {NULL, 0}, {b, 3}};

	(void)state;
	memset(back, 0, sizeof(back));
	assert_int_equal(iov_read(iov, 3, 0, back, 7), 7);
	assert_string_equal(back, "abcdefg");
	assert_int_equal(iov_read(iov, 3, 3, back, 2), 2);
	assert_memory_equal(back, "de", 2);
	assert_int_equal(iov_read(iov, 3, 5, back, 16), 2); /* what there is */
	assert_memory_equal(back, "fg", 2);
	assert_int_equal(iov_read(iov, 3, 7, back, 1), 0);
	assert_int_equal(iov_read(iov, 3, SIZE_MAX, back, 1), 0);
	assert_int_equal(iov_read(iov, 0, 0, back, 1), 0);
	assert_int_equal(iov_write(iov, 3, 2, "XYZ", 3), 3);
	assert_memory_equal(a, "abXY", 4);
	assert_memory_equal(b, "Zfg", 3);
	assert_int_equal(iov_write(iov, 3, 6, "123", 3), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_chain_as_the_driver_made_it),
		T(test_used_entries_reach_the_driver),
		T(test_indices_wrap),
		T(test_empty_buffers_are_nothing),
		T(test_indirect_chain),
		T(test_indirect_table_may_be_unaligned),
		T(test_event_idx_interrupts),
		T(test_interrupts_without_event_idx),
		T(test_kicks_without_event_idx),
		T(test_kicks_with_event_idx),
		T(test_used_flags_begin_as_zero),
		T(test_cve_2020_16843_refill_after_empty_is_seen),
		cmocka_unit_test(test_iov_copies_at_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
