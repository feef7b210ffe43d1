// SPDX-License-Identifier: BSD-2-Clause
/* Split virtqueues against a driver that keeps no rule. Tests named point_N are the hardening list
 * item by item; those named cve_* and sa_* are other monitors' scars. */
#include <pthread.h>

#include "virtq_fixture.h"

static void test_point_1_queue_size(void **state)
{
	static const uint16_t bad[] = {0, 3, 6, 255, 512, 32768, 65535};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		f->vq.size = bad[i];
		assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), -EINVAL);
		assert_non_null(strstr(f->why, "size"));
	}
	f->vq.max_size = 4; /* what the device offers counts, not what the code can do */
	f->vq.size = 8;
	assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), -EINVAL);
	for (uint16_t size = 1; size <= 4; size = (uint16_t)(size * 2)) {
		f->vq.size = size;
		assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), 0);
	}
}

static void refuse_ring(struct fixture *f, gpa_t *ring, uint64_t addr, const char *name)
{
	gpa_t good = *ring;

	*ring = GPA(addr);
	assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), -EINVAL);
	assert_non_null(strstr(f->why, name));
	*ring = good;
	assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), 0);
}

static void test_point_2_rings_aligned_and_in_ram(void **state)
{
	struct fixture *f = *state;
	uint64_t end = gmem_size(&f->d.mem);
	struct {
		gpa_t *addr;
		const char *name;
		uint64_t align, bytes;
	} rings[] = {
		{&f->vq.desc_gpa, "descriptor table", 16, 16 * QSIZE},
		{&f->vq.avail_gpa, "available ring", 2, 6 + 2 * QSIZE},
		{&f->vq.used_gpa, "used ring", 4, 6 + 8 * QSIZE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		gpa_t *addr = rings[i].addr;
		uint64_t align = rings[i].align;
		uint64_t last = ALIGN_DOWN(end - rings[i].bytes, align);

		for (uint64_t off = 1; off < align; off++)
			refuse_ring(f, addr, addr->v + off, rings[i].name);
		refuse_ring(f, addr, last + align, rings[i].name); /* its end is out */
		refuse_ring(f, addr, end, rings[i].name);
		refuse_ring(f, addr, GMEM_HOLE_START, rings[i].name);
		refuse_ring(f, addr, UINT64_MAX - align + 1, rings[i].name); /* wraps */
		*addr = GPA(last); /* ends with RAM: allowed */
		assert_int_equal(virtq_activate(&f->vq, &f->d.mem, 0, &f->why), 0);
	}
}

static void test_point_2_ring_across_the_hole(void **state)
{
	struct gmem mem;
	struct virtq vq = {.max_size = MAX_SIZE, .size = 256};
	const char *why;

	(void)state;
	assert_int_equal(gmem_create(&mem, 4 * GIB, NULL), 0);
	vq.desc_gpa = GPA(GMEM_HOLE_START - 2048); /* half of the table is below the hole */
	vq.avail_gpa = GPA(0);
	vq.used_gpa = GPA(GMEM_HOLE_END);
	assert_int_equal(virtq_activate(&vq, &mem, 0, &why), -EINVAL);
	vq.desc_gpa = GPA(GMEM_HOLE_START - 4096);
	assert_int_equal(virtq_activate(&vq, &mem, 0, &why), 0);
	gmem_destroy(&mem);
}

static void test_point_6_available_index_jump(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < QSIZE; i++)
		desc(f, i, f->buf.v, 1, 0, 0);
	f->q.avail->idx = QSIZE; /* a full queue is fine: entries 0 ... */
	for (uint16_t i = 0; i < QSIZE; i++)
		f->q.avail->ring[i] = i;
	assert_int_equal(pop(f), 1);

	start(f, QSIZE, BOTH);
	f->q.avail->idx = QSIZE + 1;
	assert_broken(f, "jumped");
	f->q.avail->idx = 65535; /* backwards */
	assert_broken(f, "jumped");
	f->q.avail->idx = 32768;
	assert_broken(f, "jumped");
}

/* The driver takes back what it had made available: a step backwards is a jump forwards. */
static void test_point_6_available_index_backwards(void **state)
{
	struct fixture *f = *state;

	drv_add(&f->q, (struct drv_buf[]){out(f, 1)}, 1);
	drv_add(&f->q, (struct drv_buf[]){out(f, 1)}, 1);
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 1);
	f->q.avail->idx = 1;
	assert_broken(f, "jumped");
}

static void test_point_7_head_and_next_in_range(void **state)
{
	static const uint16_t bad[] = {QSIZE, QSIZE + 1, 32768, 65535};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		start(f, QSIZE, BOTH);
		drv_make_available(&f->q, bad[i]);
		assert_broken(f, "head");

		start(f, QSIZE, BOTH);
		desc(f, 0, f->buf.v, 1, VRING_DESC_F_NEXT, bad[i]);
		drv_make_available(&f->q, 0);
		assert_broken(f, "next");
	}
}

static void test_point_8_loops_are_errors(void **state)
{
	struct fixture *f = *state;

	desc(f, 0, f->buf.v, 1, VRING_DESC_F_NEXT, 0); /* itself */
	drv_make_available(&f->q, 0);
	assert_broken(f, "loops");

	start(f, QSIZE, BOTH);
	for (uint16_t i = 0; i < QSIZE; i++) /* all of them, in a circle */
		desc(f, i, f->buf.v, 1, VRING_DESC_F_NEXT, (uint16_t)((i + 1) % QSIZE));
	drv_make_available(&f->q, 3);
	assert_broken(f, "loops");

	start(f, QSIZE, BOTH);
	for (uint16_t i = 0; i < QSIZE; i++) /* as long as the queue: allowed, and not cut */
		desc(f, i, f->buf.v, 1, i == QSIZE - 1 ? 0 : VRING_DESC_F_NEXT, (uint16_t)(i + 1));
	drv_make_available(&f->q, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, QSIZE);
}

/* Empty buffers cost no entry in the array, so only the hop count ends this one. */
static void test_point_8_loop_of_empty_buffers(void **state)
{
	struct fixture *f = *state;

	desc(f, 0, f->buf.v, 0, VRING_DESC_F_NEXT, 1);
	desc(f, 1, f->buf.v, 0, VRING_DESC_F_NEXT, 0);
	drv_make_available(&f->q, 0);
	assert_broken(f, "loops");
}

static void test_point_8_more_buffers_than_the_device_takes(void **state)
{
	struct fixture *f = *state;
	struct drv_buf bufs[MAX_IOV + 1];

	for (unsigned i = 0; i <= MAX_IOV; i++)
		bufs[i] = out(f, 1);
	start(f, 64, BOTH);
	drv_add(&f->q, bufs, MAX_IOV);
	assert_int_equal(pop(f), 1);
	drv_add(&f->q, bufs, MAX_IOV + 1);
	assert_broken(f, "more buffers");
	start(f, QSIZE, BOTH);
	drv_add_indirect(&f->q, bufs, MAX_IOV + 1);
	assert_broken(f, "more buffers");
}

static void test_point_9_unknown_flags(void **state)
{
	struct fixture *f = *state;

	for (unsigned bit = 3; bit < 16; bit++) {
		start(f, QSIZE, BOTH);
		desc(f, 0, f->buf.v, 1, 1u << bit, 0);
		drv_make_available(&f->q, 0);
		assert_broken(f, "flags");
	}
}

static void test_point_9_readable_before_writable(void **state)
{
	struct fixture *f = *state;

	drv_add(&f->q, (struct drv_buf[]){out(f, 1), in(f, 1), out(f, 1)}, 3);
	assert_broken(f, "after a writable");
	start(f, QSIZE, BOTH);
	drv_add_indirect(&f->q, (struct drv_buf[]){in(f, 1), out(f, 1)}, 2);
	assert_broken(f, "after a writable");
}

static void refuse_buffer(struct fixture *f, uint64_t addr, uint32_t len, const char *what)
{
	start(f, QSIZE, BOTH);
	desc(f, 0, addr, len, 0, 0);
	drv_make_available(&f->q, 0);
	assert_broken(f, what);
}

static void test_point_10_buffers_whole_in_ram(void **state)
{
	struct fixture *f = *state;
	uint64_t end = gmem_size(&f->d.mem);

	refuse_buffer(f, end - 1, 2, "outside RAM");
	refuse_buffer(f, end, 1, "outside RAM");
	refuse_buffer(f, 0, (uint32_t)end + 1, "outside RAM");
	refuse_buffer(f, UINT64_MAX, 2, "outside RAM");
	refuse_buffer(f, UINT64_MAX - 0xfff, 0x2000, "outside RAM");
	refuse_buffer(f, 1ull << 63, 1, "outside RAM");
	refuse_buffer(f, 0, UINT32_MAX, "outside RAM");

	start(f, QSIZE, BOTH);
	desc(f, 0, end - 1, 1, 0, 0);
	drv_make_available(&f->q, 0);
	assert_int_equal(pop(f), 1);
}

/* Firecracker's vsock: the range of a descriptor was checked at its start only. */
static void test_cve_2019_18960_descriptor_bounds(void **state)
{
	struct fixture *f = *state;
	uint64_t end = gmem_size(&f->d.mem);

	drv_add(&f->q, (struct drv_buf[]){out(f, 44), {GPA(end - 4096), 4097, true}}, 2);
	assert_broken(f, "outside RAM");
	start(f, QSIZE, BOTH);
	drv_add(&f->q, (struct drv_buf[]){out(f, 44), {GPA(end - 4096), 4096, true}}, 2);
	assert_int_equal(pop(f), 1);
}

static void test_point_10_sum_within_32_bits(void **state)
{
	struct fixture f = {.vq = {.max_size = MAX_SIZE}};
	struct drv_buf half = {GPA(GMEM_HOLE_END), 0x80000000, false};

	(void)state;
	/* Address space only: nothing of these 7 GiB is touched. */
	drv_init(&f.d, 7 * GIB);
	f.d.next = 4096;
	start(&f, QSIZE, BOTH);
	drv_add(&f.q, (struct drv_buf[]){half, half}, 2);
	assert_broken(&f, "2^32-1");
	start(&f, QSIZE, BOTH);
	drv_add(&f.q, (struct drv_buf[]){half, {half.addr, 0x7fffffff, true}}, 2);
	assert_int_equal(pop(&f), 1);
	assert_int_equal(f.chain.out_bytes, 0x80000000);
	assert_int_equal(f.chain.in_bytes, 0x7fffffff);
	start(&f, QSIZE, BOTH); /* the sum over both directions counts */
	drv_add(&f.q, (struct drv_buf[]){half, {half.addr, 0x80000000, true}}, 2);
	assert_broken(&f, "2^32-1");
	drv_free(&f.d);
}

static void test_point_11_indirect_only_if_negotiated(void **state)
{
	struct fixture *f = *state;

	indirect(f, 0, 1);
	assert_broken(f, "without");
	indirect(f, 1ull << VIRTIO_RING_F_INDIRECT_DESC, 1);
	assert_int_equal(pop(f), 1);
}

static void test_point_11_indirect_not_nested(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *table = indirect(f, BOTH, 2);

	table[0] = (struct vring_desc){f->buf.v, 16, VRING_DESC_F_INDIRECT, 0};
	assert_broken(f, "in an indirect table");
	indirect(f, BOTH, 1);
	f->q.desc[0].flags |= VRING_DESC_F_NEXT;
	assert_broken(f, "with a next");
}

static void test_point_11_indirect_length(void **state)
{
	static const uint32_t bad[] = {0, 1, 15, 17, 16 * 1025, 16 * 65536, UINT32_MAX, 0xfffffff0};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		indirect(f, BOTH, 1);
		f->q.desc[0].len = bad[i];
		assert_broken(f, "length");
	}
	indirect(f, BOTH, 1024);
	assert_int_equal(pop(f), 1);
}

static unsigned hook_calls;

static void count_reads(const struct gmem *mem, gpa_t addr, size_t len)
{
	(void)mem;
	(void)addr;
	(void)len;
	hook_calls++;
}

static void test_point_11_indirect_walk_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct vring_desc *table = indirect(f, BOTH, 2);

	table[0].flags = VRING_DESC_F_NEXT;
	table[0].next = 2; /* one behind */
	assert_broken(f, "next");
	table = indirect(f, BOTH, 2);
	table[0] = (struct vring_desc){f->buf.v, 0, VRING_DESC_F_NEXT, 1};
	table[1] = (struct vring_desc){f->buf.v, 0, VRING_DESC_F_NEXT, 0};
	hook_calls = 0;
	gmem_read_hook = count_reads;
	assert_broken(f, "loops");
	assert_int_equal(hook_calls, 1 + 1 + 2); /* the index, its descriptor, the table's two */
	indirect(f, BOTH, 256);
	f->q.desc[0].addr = gmem_size(&f->d.mem) - 4096 + 16;
	assert_broken(f, "table outside RAM");
}

static struct fixture *hooked;

/* When the second descriptor is read, the first has been: whatever changes in it now is too late.
 */
static void change_first(const struct gmem *mem, gpa_t addr, size_t len)
{
	count_reads(mem, addr, len);
	if (addr.v == hooked->q.desc_gpa.v + 16)
		desc(hooked, 0, UINT64_MAX, UINT32_MAX, 0xffff, 0xffff);
}

static void test_point_12_descriptors_copied_once(void **state)
{
	struct fixture *f = *state;

	drv_add(&f->q, (struct drv_buf[]){out(f, 11), out(f, 22)}, 2);
	hooked = f;
	hook_calls = 0;
	gmem_read_hook = change_first;
	assert_int_equal(pop(f), 1);
	assert_int_equal(hook_calls, 3); /* the index, and each descriptor once */
	assert_int_equal(f->chain.num_out, 2);
	assert_int_equal(f->iov[0].iov_len, 11);
	assert_ptr_equal(f->iov[0].iov_base, drv_ptr(&f->d, f->buf, 1));
}

#if defined(__SANITIZE_THREAD__)
#define RACES_ARE_REPORTED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ARE_REPORTED 1
#endif
#endif

#ifndef RACES_ARE_REPORTED
struct flipper {
	struct vring_desc *desc;
	uint64_t good, bad;
	_Atomic bool stop;
};

static void *flip(void *arg)
{
	struct flipper *fl = arg;
	volatile struct vring_desc *d = fl->desc;

	while (!fl->stop) {
		d->len = UINT32_MAX;
		d->addr = fl->bad;
		d->addr = fl->good;
		d->len = 1;
	}
	return NULL;
}

/* FreeBSD-SA-24:17 (bhyve): a length that was checked was fetched again to be used. Here another
 * vCPU rewrites the descriptor all the time; whatever is popped is one of the valid values. */
static void test_sa_24_17_length_fetched_once(void **state)
{
	struct fixture *f = *state;
	struct flipper fl = {.desc = f->q.desc, .good = f->buf.v, .bad = UINT64_MAX - 8};
	uint8_t *host = drv_ptr(&f->d, f->buf, 1);
	unsigned good = 0, refused = 0;
	pthread_t thread;

	desc(f, 0, f->buf.v, 1, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, flip, &fl), 0);
	for (unsigned i = 0; i < 300000 || (i < 30000000 && (!good || !refused)); i++) {
		drv_make_available(&f->q, 0);
		if (pop(f) == 1) {
			assert_int_equal(f->iov[0].iov_len, 1);
			assert_ptr_equal(f->iov[0].iov_base, host);
			virtq_push(&f->vq, 0, 0);
			good++;
		} else {
			refused++;
			f->q.avail_idx--; /* it was not consumed */
			f->vq.avail_seen = f->vq.next_avail;
		}
	}
	fl.stop = true;
	pthread_join(thread, NULL);
	assert_true(good > 0 && refused > 0); /* the race took place */
}
#endif

static void test_point_13_duplicate_heads(void **state)
{
	struct fixture *f = *state;

	desc(f, 5, f->buf.v, 1, 0, 0);
	drv_make_available(&f->q, 5);
	drv_make_available(&f->q, 5);
	assert_int_equal(pop(f), 1);
	assert_broken(f, "in flight");
	assert_broken(f, "in flight"); /* and stays so */
	virtq_push(&f->vq, 5, 0);
	assert_int_equal(pop(f), 1); /* done: may come again */
}

/* QEMU: requests without bound, as one head could be made available again and again. */
static void test_cve_2016_5403_in_flight_is_bounded(void **state)
{
	struct fixture *f = *state;
	unsigned popped = 0;

	start(f, 256, BOTH);
	for (unsigned i = 0; i < 256; i++)
		desc(f, i, f->buf.v, 1, 0, 0);
	for (unsigned i = 0; i < 1000; i++) {
		drv_make_available(&f->q, (uint16_t)(i % 256));
		if (pop(f) == 1)
			popped++;
	}
	assert_int_equal(popped, 256);
}

/* QEMU's virtio-net: an element whose mapping had failed was unmapped and used. Here a chain that
 * fails leaves nothing behind that could be completed. */
static void test_cve_2021_3748_failed_chain_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	drv_add(&f->q, (struct drv_buf[]){in(f, 64), {GPA(UINT64_MAX), 64, true}}, 2);
	assert_broken(f, "outside RAM");
	virtq_push(&f->vq, f->chain.head, 64);
	assert_false(virtq_publish(&f->vq));
	assert_false(drv_used(&f->q, &id, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(f->vq.in_flight); i++)
		assert_int_equal(f->vq.in_flight[i], 0);
}

static void test_point_14_and_18_one_used_entry_a_chain(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;
	int head = drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1);

	virtq_push(&f->vq, (uint16_t)head, 8); /* not popped */
	assert_false(virtq_publish(&f->vq));
	assert_int_equal(pop(f), 1);
	virtq_push(&f->vq, (uint16_t)head, 8);
	virtq_push(&f->vq, (uint16_t)head, 9); /* a second time */
	virtq_push(&f->vq, 65535, 9);	       /* no such head */
	virtq_publish(&f->vq);
	assert_true(drv_used(&f->q, &id, &len));
	assert_int_equal(len, 8);
	assert_false(drv_used(&f->q, &id, &len));
}

/* A completion that comes after the queue was torn down touches nothing. */
static void test_cve_2026_45782_completion_after_teardown(void **state)
{
	struct fixture *f = *state;

	drv_add(&f->q, (struct drv_buf[]){in(f, 8)}, 1);
	assert_int_equal(pop(f), 1);
	virtq_reset(&f->vq);
	virtq_push(&f->vq, f->chain.head, 8); /* the rings are unmapped: would crash */
	assert_false(virtq_publish(&f->vq));
	assert_int_equal(f->q.used->ring[0].len, 0);
	assert_int_equal(f->vq.max_size, MAX_SIZE);
	assert_int_equal(f->vq.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_point_1_queue_size),
		T(test_point_2_rings_aligned_and_in_ram),
		cmocka_unit_test(test_point_2_ring_across_the_hole),
		T(test_point_6_available_index_jump),
		T(test_point_6_available_index_backwards),
		T(test_point_7_head_and_next_in_range),
		T(test_point_8_loops_are_errors),
		T(test_point_8_loop_of_empty_buffers),
		T(test_point_8_more_buffers_than_the_device_takes),
		T(test_point_9_unknown_flags),
		T(test_point_9_readable_before_writable),
		T(test_point_10_buffers_whole_in_ram),
		T(test_cve_2019_18960_descriptor_bounds),
		cmocka_unit_test(test_point_10_sum_within_32_bits),
		T(test_point_11_indirect_only_if_negotiated),
		T(test_point_11_indirect_not_nested),
		T(test_point_11_indirect_length),
		T(test_point_11_indirect_walk_is_bounded),
		T(test_point_12_descriptors_copied_once),
#ifndef RACES_ARE_REPORTED
		T(test_sa_24_17_length_fetched_once),
#endif
		T(test_point_13_duplicate_heads),
		T(test_cve_2016_5403_in_flight_is_bounded),
		T(test_cve_2021_3748_failed_chain_leaves_nothing),
		T(test_point_14_and_18_one_used_entry_a_chain),
		T(test_cve_2026_45782_completion_after_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
