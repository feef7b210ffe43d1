// SPDX-License-Identifier: BSD-2-Clause
/* Many requests at once: each is completed, once, whatever comes between. */
#include "blk_fixture.h"
#include "loops.h"

static void test_a_head_in_flight_is_not_taken_twice(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct drv_buf buf;

	up(f, 0);
	buf = (struct drv_buf){d->buffer, DISK_BUFFER, true};
	/* Long enough to be in flight when the same head comes again, in the same batch. */
	assert_int_equal(disk_send(d, 0, VIRTIO_BLK_T_IN, 0, &buf, 1), 0);
	drv_make_available(&d->drv.queue[0], 0);
	drv_kick(&d->drv.queue[0]);
	expect_needs_reset(d);
	disk_restart(d);
	assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
}

static void test_every_request_gets_its_status_once(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;
	unsigned seen[VIRTQ_MAX_SIZE] = {0};
	uint8_t status;
	uint32_t length;

	up(f, MIB);
	for (unsigned round = 0; round < 8; round++) {
		memset(seen, 0, sizeof(seen));
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			buf = (struct drv_buf){GPA(f->disk.buffer.v + i * 4096), 512 * (i % 9),
					       i % 2};
			assert_true(disk_send(&f->disk, 0, i % 17, i, &buf, i % 9 ? 1 : 0) >= 0);
		}
		disk_kick(&f->disk, 0);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			int head = disk_reap(&f->disk, 0, &status, &length);

			assert_int_equal(seen[head]++, 0);
			assert_in_range(status, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP);
		}
	}
	assert_false(drv_used(&f->disk.drv.queue[0], NULL, NULL));
}

/* More than one turn's budget, by a driver that uses every entry again at once. */
static void test_a_flood_is_worked_off(void **state)
{
	struct fixture *f = *state;
	unsigned sent = 0, done = 0;
	uint8_t status;

	up(f, MIB);
	while (done < 5000) {
		while (disk_send(&f->disk, 0, sent % 3 ? VIRTIO_BLK_T_GET_ID : VIRTIO_BLK_T_IN,
				 sent % 100,
				 &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true},
				 1) >= 0)
			sent++;
		disk_kick(&f->disk, 0);
		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
		done++;
	}
}

/* Far more requests in flight than completions fit in the ring: none is lost. */
static void test_completions_overflow(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	bool seen[VIRTQ_MAX_SIZE];

	o.entries = 2;
	disk_fill(f->path, 0, MIB);
	disk_up(&f->disk, f->path, &o);
	for (unsigned round = 0; round < 20; round++) {
		memset(seen, 0, sizeof(seen));
		memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++)
			assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, i * 8,
					      &(struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
								4096, true},
					      1) >= 0);
		disk_kick(&f->disk, 0);
		for (unsigned i = 0; i < VIRTQ_MAX_SIZE; i++) {
			uint8_t status;
			int head = disk_reap(&f->disk, 0, &status, NULL);

			assert_int_equal(status, VIRTIO_BLK_S_OK);
			assert_false(seen[head]);
			seen[head] = true;
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB));
	}
}

/* After a reset no request may touch guest memory any more. */
static void reset_in_flight(struct fixture *f, struct disk_options o)
{
	struct disk *d = &f->disk;
	uint8_t *memory;
	size_t len = 200 * 16 * KIB;

	o.engine = f->engine;
	disk_fill(f->path, 0, SIZE);
	disk_up(d, f->path, &o);
	memory = drv_ptr(&d->drv, d->buffer, len);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 200; i++) {
			struct drv_buf in = {GPA(d->buffer.v + i * 16 * KIB), 16 * KIB, true};

			assert_true(disk_send(d, 0, VIRTIO_BLK_T_IN, 32 * (i * 7 % 1000), &in, 1) >=
				    0);
		}
		for (unsigned i = 0; i < 20; i++) {
			gpa_t at = GPA(d->buffer.v + 4 * MIB + i * 16);
			struct drv_buf out = {at, 16, false};

			*(struct virtio_blk_discard_write_zeroes *)drv_ptr(&d->drv, at, 16) =
				(struct virtio_blk_discard_write_zeroes){.sector = SECTORS - 4096,
									 .num_sectors = 4096};
			assert_true(
				disk_send(d, 0,
					  i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES,
					  0, &out, 1) >= 0);
		}
		disk_kick(d, 0);
		if (round % 3)
			usleep(round * 10);
		drv_reset(&d->drv);
		memset(memory, 0xcc, len);
		if (round % 10 == 0)
			usleep(20000);
		for (size_t i = 0; i < len; i += 64)
			assert_int_equal(memory[i], 0xcc);
		drv_start(&d->drv, d->features, 0);
	}
	assert_int_equal(disk_read(d, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4 * MIB));
}

static void test_reset_with_requests_in_flight(void **state)
{
	reset_in_flight(*state, (struct disk_options){0});
}

static void test_reset_while_polled(void **state)
{
	reset_in_flight(*state, (struct disk_options){.poll_ns = BLK_MAX_POLL_NS});
}

static void test_queues(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct disk_result result;

	disk_fill(f->path, 0, 8 * MIB);
	o.queues = 4;
	disk_up(&f->disk, f->path, &o);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_MQ));
	assert_int_equal(config(&f->disk)->num_queues, 4);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 256; i++) {
			struct drv_buf in = {GPA(f->disk.buffer.v + i * 4096), 4096, true};

			assert_true(disk_send(&f->disk, i % 4, VIRTIO_BLK_T_IN, i * 8, &in, 1) >=
				    0);
		}
		for (unsigned q = 0; q < 4; q++)
			disk_kick(&f->disk, q);
		for (unsigned i = 0; i < 256; i++) {
			uint8_t status;

			disk_reap(&f->disk, i % 4, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB));
		memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB);
		if (round % 5 == 4)
			disk_restart(&f->disk);
	}
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.reads, 20 * 256);
	assert_int_equal(result.read_bytes, 20 * 256 * 4096);
}

/* QueueReady = 0 in the middle of work: what the driver reads back says that the queue's memory is
 * the driver's again. The other queue goes on. */
static void test_a_queue_stopped_with_requests_in_flight(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	const struct vring_used *used;
	struct vring_used before;
	uint8_t status;

	memset(f->data, 0x5a, 65536);
	o.queues = 2;
	disk_fill(f->path, 0, 8 * MIB);
	disk_up(&f->disk, f->path, &o);
	for (unsigned round = 0; round < 20; round++) {
		uint8_t *data = drv_ptr(&f->disk.drv, f->disk.buffer, 8 * MIB);

		for (unsigned i = 0; i < 128; i++)
			assert_true(disk_send(&f->disk, i % 2, VIRTIO_BLK_T_IN, i * 128,
					      &(struct drv_buf){GPA(f->disk.buffer.v + i * 65536),
								65536, true},
					      1) >= 0);
		disk_kick(&f->disk, 0);
		disk_kick(&f->disk, 1);
		drv_write32(&f->disk.drv, VIRTIO_MMIO_QUEUE_SEL, 0);
		drv_write32(&f->disk.drv, VIRTIO_MMIO_QUEUE_READY, 0);
		assert_int_equal(drv_page32(&f->disk.drv, VIRTIO_MMIO_QUEUE_READY), 0);
		used = f->disk.drv.queue[0].used;
		memcpy(&before, used, sizeof(before));
		for (unsigned i = 0; i < 128; i += 2)
			memcpy(data + i * 65536, f->data, 65536);
		for (unsigned i = 0; i < 64; i++) {
			disk_reap(&f->disk, 1, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_memory_equal(used, &before, sizeof(before));
		for (unsigned i = 0; i < 128; i += 2)
			assert_memory_equal(data + i * 65536, f->data, 65536);
		disk_restart(&f->disk);
	}
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
}

/* Limits so tight that a request or two are all that a test will see, until they change. */
static void limits(struct fixture *f, uint64_t poll_ns)
{
	static const struct rate_limits limits[] = {
		{2, 0, NSEC_PER_SEC}, {1, 0, 0}, {0, 1, 0}, {1, 1, 0}};
	struct disk_options o = options(f);
	struct disk_result result;
	uint8_t status;
	uint64_t before = 0;

	disk_fill(f->path, 0, MIB);
	o.queues = 2;
	o.limits = limits[0];
	o.poll_ns = poll_ns;
	disk_up(&f->disk, f->path, &o);
	for (size_t round = 0; round < 2 * ARRAY_SIZE(limits); round++) {
		blk_device_set_limits(f->disk.dev, &limits[round / 2]);
		for (unsigned i = 0; i < 64; i++)
			assert_true(disk_send(&f->disk, i % 2, VIRTIO_BLK_T_IN, i * 8,
					      &(struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
								4096, true},
					      1) >= 0);
		disk_kick(&f->disk, 0);
		disk_kick(&f->disk, 1);
		for (unsigned i = 0; i < 8; i++)
			loop_call(f->disk.loop[i % 2], nothing, NULL);
		blk_device_result(f->disk.dev, &result);
		/* Both queues may have looked before either was charged. */
		assert_in_range(result.reads, before, before + 2);
		if (round % 2) { /* what waits is gone with a reset, and not done after it */
			disk_restart(&f->disk);
			blk_device_result(f->disk.dev, &result);
			assert_in_range(result.reads, before, before + 2);
			before = result.reads;
			continue;
		}
		blk_device_set_limits(f->disk.dev, &(struct rate_limits){0});
		for (unsigned i = 0; i < 64; i++) {
			disk_reap(&f->disk, i % 2, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, 64 * 4096), 0,
					 64 * 4096));
		before += 64;
	}
	blk_device_set_limits(f->disk.dev, &(struct rate_limits){0});
	assert_int_equal(disk_read(&f->disk, 0, f->data, MIB), VIRTIO_BLK_S_OK);
}

static void test_limits(void **state)
{
	limits(*state, 0);
}

static void test_limits_while_polled(void **state)
{
	limits(*state, BLK_MAX_POLL_NS);
}

/* One request after the other: those that come while the queue is looked at need no kick. And
 * whoever lets the queue fall asleep is asked for one again. */
static void test_polled_queues_need_few_kicks(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	uint64_t kicks;

	o.poll_ns = BLK_MAX_POLL_NS;
	disk_fill(f->path, 0, MIB);
	disk_up(&f->disk, f->path, &o);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(disk_read(&f->disk, i % 2048, f->data, 512), VIRTIO_BLK_S_OK);
	kicks = f->disk.drv.queue[0].kicks;
	if (kicks >= 1000)
		fail_msg("%llu kicks", (unsigned long long)kicks);
	for (unsigned i = 0; i < 1000 && f->disk.drv.queue[0].kicks == kicks; i++) {
		usleep(BLK_MAX_POLL_NS / 1000);
		assert_int_equal(disk_read(&f->disk, i, f->data, 512), VIRTIO_BLK_S_OK);
	}
	assert_true(f->disk.drv.queue[0].kicks > kicks);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(a_head_in_flight_is_not_taken_twice),
		TEST(every_request_gets_its_status_once),
		TEST(a_flood_is_worked_off),
		TEST(completions_overflow),
		TEST(reset_with_requests_in_flight),
		TEST(queues),
		TEST(a_queue_stopped_with_requests_in_flight),
		TEST(limits),
		TEST(reset_while_polled),
		TEST(limits_while_polled),
		TEST(polled_queues_need_few_kicks),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk_load", tests, NULL, NULL);
}
