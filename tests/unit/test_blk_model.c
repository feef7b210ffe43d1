// SPDX-License-Identifier: BSD-2-Clause
/* Random requests against a model of the image; O_DIRECT. */
#include "blk_fixture.h"
#include "blk_model.h"

/* O_DIRECT: whatever the buffers are aligned to. */
static void test_direct(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct error e = {""};
	struct drv_buf odd[2];
	uint64_t b;

	disk_fill(f->path, 0, 8 * MIB);
	o.direct = true;
	if (disk_open(&f->disk, f->path, &o, &e) < 0) {
		f->disk.dev = NULL;
		print_message("# no O_DIRECT: %s\n", e.msg);
		skip();
	}
	disk_start(&f->disk);
	b = f->disk.buffer.v;
	assert_int_equal(disk_read(&f->disk, 8, f->data, 65536), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 4096, 65536));
	/* More than a bounce buffer, cut and placed oddly. */
	odd[0] = (struct drv_buf){GPA(b + 3), 4097, true};
	odd[1] = (struct drv_buf){GPA(b + 8192 + 1), MIB - 4097, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 16, odd, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, MIB + 1);
	assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd[0].addr, 4097), 8192, 4097));
	assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd[1].addr, odd[1].len), 8192 + 4097,
				 odd[1].len));
	odd[0].write = odd[1].write = false;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 16384, odd, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 16384, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 8192, MIB));
	/* More at once than there are bounce buffers. */
	for (unsigned i = 0; i < 64; i++)
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, i * 8,
				      &(struct drv_buf){GPA(b + 1 + i * 8192), 4096, true},
				      1) >= 0);
	disk_kick(&f->disk, 0);
	for (unsigned i = 0; i < 64; i++) {
		uint8_t status;

		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
	}
	for (unsigned i = 0; i < 64; i++)
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, GPA(b + 1 + i * 8192), 4096),
					 i * 4096, 4096));
}

static void run_model(struct fixture *f, struct disk_options o, unsigned align, unsigned depth)
{
	struct error e = {""};
	const char *wrong;

	o.engine = f->engine;
	if (disk_open(&f->disk, f->path, &o, &e) < 0) {
		f->disk.dev = NULL;
		print_message("# not opened: %s\n", e.msg);
		skip();
	}
	disk_start(&f->disk);
	wrong = blk_model(&(struct blk_model_run){
		.disk = &f->disk,
		.path = f->path,
		.requests = 8000,
		.depth = depth,
		.seed = 20261123 + o.direct,
		.odd_buffers = true,
		.align = align,
		.zeros = o.detect_zeroes,
		.check_holes = true,
	});
	if (wrong)
		fail_msg("%s", wrong);
}

static void test_model(void **state)
{
	run_model(*state, (struct disk_options){0}, 1, 48);
}

static void test_model_without_indirect_descriptors(void **state)
{
	/* So that the queue's descriptors are enough. */
	run_model(*state,
		  (struct disk_options){.decline = BIT(VIRTIO_RING_F_INDIRECT_DESC) |
						   BIT(VIRTIO_RING_F_EVENT_IDX)},
		  1, 8);
}

static void test_model_direct(void **state)
{
	run_model(*state, (struct disk_options){.direct = true}, 8, 48);
}

static void test_model_with_zeros_detected(void **state)
{
	run_model(*state, (struct disk_options){.detect_zeroes = true}, 1, 48);
}

static void test_model_pinned(void **state)
{
	run_model(*state, (struct disk_options){.pin = true}, 1, 48);
}

static void test_model_pinned_direct(void **state)
{
	run_model(*state, (struct disk_options){.pin = true, .direct = true}, 8, 48);
}

static void test_model_polled(void **state)
{
	run_model(*state, (struct disk_options){.poll_ns = 200000}, 1, 48);
}

static void test_model_polled_without_event_idx(void **state)
{
	run_model(*state,
		  (struct disk_options){.poll_ns = 200000, .decline = BIT(VIRTIO_RING_F_EVENT_IDX)},
		  1, 8);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(direct),
		TEST(model),
		TEST(model_without_indirect_descriptors),
		TEST(model_direct),
		TEST(model_with_zeros_detected),
		TEST(model_pinned),
		TEST(model_pinned_direct),
		TEST(model_polled),
		TEST(model_polled_without_event_idx),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk_model", tests, NULL, NULL);
}
