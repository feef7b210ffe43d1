// SPDX-License-Identifier: BSD-2-Clause
/* States that are not to be trusted. */
#include "state_fixture.h"

static void test_states_that_are_refused(void **state)
{
	struct fixture *f = start(&kinds[3], ALL);
	struct virtio_state good;

	(void)state;
	save(f);
	good = f->state;
	replace(f);
#define REFUSE(change, why)                                                                        \
	do {                                                                                       \
		f->state = good;                                                                   \
		f->state.change;                                                                   \
		expect_refused(f, why);                                                            \
	} while (0)
	REFUSE(version++, "another version");
	REFUSE(size--, "another version");
	REFUSE(device_id = 4, "another device");
	REFUSE(num_queues = 64, "another device");
	REFUSE(config_len = UINT32_MAX, "another device");
	REFUSE(own_len = UINT32_MAX, "another device");
	REFUSE(status = VIRTIO_CONFIG_S_DRIVER_OK, "no driver can set");
	REFUSE(status |= 1u << 31, "no driver can set");
	REFUSE(driver_features |= 1ull << 63, "this device lacks");
	REFUSE(driver_features &= ~(1ull << VIRTIO_F_VERSION_1), "no device takes");
	REFUSE(unknown_features = 1, "no device takes");
	REFUSE(unknown_features = 2, "no driver can set");
	REFUSE(queue[0].size = 512, "no driver can set up");
	REFUSE(queue[1].ready = 2, "no driver can set up");
	REFUSE(queue[0].size = 3, "queue 0: queue size is not a power of two");
	REFUSE(queue[0].desc = 1, "queue 0: descriptor table is misaligned or outside RAM");
	REFUSE(queue[1].avail = UINT64_MAX - 1, "queue 1: available ring");
	REFUSE(queue[1].used = 16 * MIB, "queue 1: used ring");
	REFUSE(driver_features &= ~(1ull << VIRTIO_BLK_F_MQ), "without the feature");
	REFUSE(own[7] = 1, "where its driver knows of");
	REFUSE(own[12] = 2, "a state that no disk has");
	REFUSE(own[8] = 1, "a state that no disk has");
	REFUSE(interrupt_status = 4, "an interrupt that no device has");
	REFUSE(status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER,
	       "no driver can set up");
	/* Nothing is left of them. */
	f->state = good;
	restore(f);
	request(f, 1);
	end(f);
}

/* Nor may the driver get there by setting DRIVER_OK itself. */
static void test_a_ready_queue_without_its_feature(void **state)
{
	struct fixture *f = start(&kinds[3], 0);

	(void)state;
	assert_true(drv_negotiate(&f->d, 1ull << VIRTIO_F_VERSION_1));
	save(f);
	replace(f);
	f->state.queue[1].ready = 1;
	expect_refused(f, "without the feature");
	end(f);
}

/* Whatever is wrong in it: it is refused, or the device is one that a driver broke. */
static void test_states_with_bytes_at_random(void **state)
{
	(void)state;
	srand(1);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct fixture *f = start(&kinds[i], ALL);
		struct virtio_state good;
		unsigned taken = 0;

		request(f, 1);
		save(f);
		good = f->state;
		replace(f);
		for (unsigned round = 0; round < 3000; round++) {
			unsigned words = 1 + (unsigned)rand() % 3;
			struct error e;

			f->state = good;
			while (words--)
				((uint8_t *)&f->state)[(unsigned)rand() %
						       (round % 2 ? sizeof(good) : 600)] =
					(uint8_t)rand();
			if (virtio_dev_restore(f->dev, &f->state, &e) < 0)
				continue;
			taken++;
			for (unsigned q = 0; q < f->dev->num_queues; q++)
				drv_write32(&f->d, VIRTIO_MMIO_QUEUE_NOTIFY, q);
			drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
		}
		assert_true(taken > 10);
		drv_start(&f->d, ALL, 0);
		request(f, 1);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states_that_are_refused),
		cmocka_unit_test(test_a_ready_queue_without_its_feature),
		cmocka_unit_test(test_states_with_bytes_at_random),
	};

	log_set_level(LOG_ERROR); /* the driver here breaks what it can */
	return cmocka_run_group_tests_name("state_hostile", tests, NULL, NULL);
}
