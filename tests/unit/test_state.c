// SPDX-License-Identifier: BSD-2-Clause
#include "state_fixture.h"

static const uint64_t plain = ALL & ~(1ull << VIRTIO_RING_F_EVENT_IDX);

/* The rings wrap several times, with and without event indices. */
static void test_it_goes_on_where_it_was(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i / 2], i % 2 ? plain : ALL);
		unsigned n = 0;

		for (unsigned times = 0; times < 3; times++) {
			for (unsigned end = n + 300; n < end; n++)
				request(f, n);
			save(f);
			replace(f);
			restore(f);
		}
		request(f, n);
		end(f);
	}
}

/* What the driver reads and has set is the same. */
static void test_registers_stay(void **state)
{
	static uint8_t before[VIRTIO_MMIO_PAGE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);

		request(f, 1);
		drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, 1);
		drv_write32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
		save(f);
		memcpy(before, f->d.page, sizeof(before));
		replace(f);
		restore(f);
		/* Its terminal was asked anew; its memory came back after the rest. */
		if (kinds[i].open == open_console || kinds[i].open == open_mem)
			memcpy(before + VIRTIO_MMIO_CONFIG_GENERATION,
			       f->d.page + VIRTIO_MMIO_CONFIG_GENERATION, 4);
		assert_memory_equal(before, f->d.page, VIRTIO_MMIO_INTERRUPT_STATUS);
		assert_memory_equal(before + VIRTIO_MMIO_STATUS, f->d.page + VIRTIO_MMIO_STATUS,
				    VIRTIO_MMIO_PAGE - VIRTIO_MMIO_STATUS);
		end(f);
	}
}

/* A kick that came when nobody took requests any more is not lost, nor is an interrupt. */
static void test_a_request_waits_for_the_next_device(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		struct drv_queue *q = &f->d.queue[kinds[i].queue];
		uint32_t len;

		request(f, 1);
		virtio_dev_pause(f->dev);
		f->kind->send(f, 2);
		drv_kick(q);
		save(f);
		assert_false(drv_used(q, NULL, NULL));
		replace(f);
		drv_irqs(&f->d);
		restore(f);
		drv_wait_irq(&f->d);
		drv_wait_used(q, NULL, &len);
		f->kind->check(f, 2, len);
		end(f);
	}
}

static void test_the_same_device_goes_on(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		uint32_t len;

		request(f, 1);
		save(f);
		f->kind->send(f, 2);
		drv_kick(&f->d.queue[kinds[i].queue]);
		virtio_dev_resume(f->dev);
		drv_wait_used(&f->d.queue[kinds[i].queue], NULL, &len);
		f->kind->check(f, 2, len);
		request(f, 3);
		end(f);
	}
}

/* In each state that a driver can bring it to. */
static void test_before_it_runs(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], 0);
		uint64_t offered = drv_device_features(&f->d);

		save(f); /* nothing happened yet */
		replace(f);
		restore(f);
		assert_true(drv_negotiate(&f->d, offered));
		drv_queue_setup(&f->d, 0, 0);
		save(f); /* half of its queues are set up */
		replace(f);
		restore(f);
		for (unsigned q = 1; q < f->dev->num_queues; q++)
			drv_queue_setup(&f->d, q, 0);
		drv_driver_ok(&f->d);
		request(f, 1);
		end(f);
	}
}

static void test_a_broken_device_stays_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		uint64_t until = patience_end();

		drv_make_available(&f->d.queue[kinds[i].queue], 0xffff);
		drv_kick(&f->d.queue[kinds[i].queue]);
		while (!(drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET))
			assert_true(now_ns() < until);
		save(f);
		replace(f);
		restore(f);
		assert_true(drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
		drv_start(&f->d, ALL, 0);
		request(f, 1);
		end(f);
	}
}

static void hold(void *echo)
{
	((struct echo *)echo)->hold = true;
}

static void release(void *echo)
{
	((struct echo *)echo)->hold = false;
	echo_release(echo, 0);
}

static void test_requests_at_work_are_waited_for(void **state)
{
	struct fixture *f = start(&kinds[0], ALL);
	struct error e = {""};

	(void)state;
	loop_call(f->loop[0], hold, f->echo);
	send_echo(f, 1);
	drv_kick(&f->d.queue[0]);
	while (!f->echo->chains)
		usleep(1000);
	virtio_dev_pause(f->dev);
	assert_int_equal(virtio_dev_save(f->dev, &f->state, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "queue 0 are still at work"));
	loop_call(f->loop[0], release, f->echo);
	assert_int_equal(virtio_dev_save(f->dev, &f->state, &e), 0);
	end(f);
}

/* What a type has of its own */

static void test_what_the_driver_wrote_stays(void **state)
{
	static const uint8_t written[8] = {9, 8, 7, 6, 5, 4, 3, 2};
	struct fixture *f = start(&kinds[0], ALL);

	(void)state;
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + ECHO_WRITABLE, written, sizeof(written));
	save(f);
	replace(f);
	restore(f);
	assert_memory_equal(f->d.page + VIRTIO_MMIO_CONFIG + ECHO_WRITABLE, written,
			    sizeof(written));
	end(f);
}

static bool writes_through(const struct fixture *f)
{
	return container_of(f->dev, struct blk_device, dev)->writethrough;
}

static void test_a_disk_stays_write_through(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	uint8_t off = 0;

	(void)state;
	assert_false(writes_through(f));
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &off, 1);
	save(f);
	replace(f);
	assert_false(writes_through(f));
	restore(f);
	assert_true(writes_through(f));
	/* A driver without FLUSH has it so, whatever a state says. */
	drv_start(&f->d, ALL & ~(1ull << VIRTIO_BLK_F_FLUSH), 0);
	save(f);
	memset(f->state.own + 12, 0, 1);
	replace(f);
	restore(f);
	assert_true(writes_through(f));
	end(f);
}

/* Data that a sync lost is lost for the next device, too. */
static void test_a_sync_that_failed_stays_failed(void **state)
{
	struct virtio_blk_outhdr flush = {.type = VIRTIO_BLK_T_FLUSH};
	struct fixture *f = start(&kinds[3], ALL);

	(void)state;
	container_of(f->dev, struct blk_device, dev)->flush.error = -EIO;
	save(f);
	replace(f);
	restore(f);
	memcpy(f->data, &flush, sizeof(flush));
	drv_add(&f->d.queue[0],
		(struct drv_buf[]){{f->buffer, 16, false}, {GPA(f->buffer.v + 64), 1, true}}, 2);
	drv_kick(&f->d.queue[0]);
	drv_wait_used(&f->d.queue[0], NULL, NULL);
	assert_int_equal(f->data[64], VIRTIO_BLK_S_IOERR);
	end(f);
}

/* The driver is told, as of any disk that grew; but none shrinks. */
static void test_a_disk_of_another_size(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	const struct virtio_blk_config *config = (const void *)(f->d.page + VIRTIO_MMIO_CONFIG);
	uint32_t generation;

	(void)state;
	save(f);
	generation = f->state.config_generation;
	assert_int_equal(truncate(f->image, 2 * SIZE), 0);
	replace(f);
	restore(f);
	assert_int_equal(config->capacity, 2 * SIZE / 512);
	assert_true(drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION) != generation);
	assert_true(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	request(f, SIZE / 512 + 1);
	save(f);
	assert_int_equal(truncate(f->image, SIZE), 0);
	replace(f);
	expect_refused(f, "where its driver knows of");
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_goes_on_where_it_was),
		cmocka_unit_test(test_registers_stay),
		cmocka_unit_test(test_a_request_waits_for_the_next_device),
		cmocka_unit_test(test_the_same_device_goes_on),
		cmocka_unit_test(test_before_it_runs),
		cmocka_unit_test(test_a_broken_device_stays_broken),
		cmocka_unit_test(test_requests_at_work_are_waited_for),
		cmocka_unit_test(test_what_the_driver_wrote_stays),
		cmocka_unit_test(test_a_disk_stays_write_through),
		cmocka_unit_test(test_a_sync_that_failed_stays_failed),
		cmocka_unit_test(test_a_disk_of_another_size),
	};

	log_set_level(LOG_ERROR); /* the driver here breaks what it can */
	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
