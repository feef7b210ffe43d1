// SPDX-License-Identifier: BSD-2-Clause
/* The registers of virtio-mmio. Tests named point_N are the hardening list item by item; those
 * named cve_* are other monitors' scars. */
#include "base/log.h"
#include "kvm/bus.h"
#include "virtio_fixture.h"

static void test_fixed_registers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(get(f, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(f, VIRTIO_MMIO_DEVICE_ID), ECHO_ID);
	assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0);
	for (uint32_t r = VIRTIO_MMIO_SHM_LEN_LOW; r <= VIRTIO_MMIO_SHM_BASE_HIGH; r += 4) {
		put(f, VIRTIO_MMIO_SHM_SEL, 3);
		assert_int_equal(get(f, r), 0xffffffff);
	}
	assert_page_is_true(f);
}

static void test_write_only_and_reserved_registers_read_zero(void **state)
{
	static const uint32_t readable[] = {
		VIRTIO_MMIO_MAGIC_VALUE,   VIRTIO_MMIO_VERSION,
		VIRTIO_MMIO_DEVICE_ID,	   VIRTIO_MMIO_VENDOR_ID,
		VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_DEVICE_FEATURES,
		VIRTIO_MMIO_QUEUE_READY,   VIRTIO_MMIO_INTERRUPT_STATUS,
		VIRTIO_MMIO_STATUS,	   VIRTIO_MMIO_SHM_LEN_LOW,
		VIRTIO_MMIO_SHM_LEN_HIGH,  VIRTIO_MMIO_SHM_BASE_LOW,
		VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_CONFIG_GENERATION,
	};
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	for (uint32_t r = 0; r < VIRTIO_MMIO_CONFIG; r += 4) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(readable); i++)
			known |= readable[i] == r;
		if (!known)
			assert_int_equal(get(f, r), 0);
	}
	assert_page_is_true(f);
}

static void test_page_follows_selectors(void **state)
{
	struct fixture *f = *state;
	uint64_t offered = VERSION | 1ull << VIRTIO_RING_F_INDIRECT_DESC |
			   1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << ECHO_FEATURE |
			   1ull << ECHO_FEATURE_TOP;

	f->echo->dev.queue[1].vq.max_size = 32;
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX), 32);
	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES), offered >> 32);
	put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)offered);
	for (uint32_t sel = 2; sel; sel <<= 1) {
		put(f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, sel);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	}
	drv_negotiate(&f->d, VERSION);
	drv_queue_setup(&f->d, 1, 16);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY), 1);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY), 0);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY), 1);
	drv_reset(&f->d);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX),
			 64); /* QueueSel is 0 again */
	assert_page_is_true(f);
}

static void test_point_3_registers_take_32_bits_only(void **state)
{
	static const uint32_t widths[] = {1, 2, 3, 8};
	struct fixture *f = *state;
	uint8_t data[8];

	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		for (uint32_t r = 0; r < VIRTIO_MMIO_CONFIG; r++) {
			memset(data, 0x5a, sizeof(data));
			virtio_mmio_read(&f->echo->dev, r, data, widths[i]);
			for (uint32_t b = 0; b < widths[i]; b++)
				assert_int_equal(data[b], 0);
			memcpy(data, (uint8_t[8]){ACK}, sizeof(data));
			virtio_mmio_write(&f->echo->dev, r, data, widths[i]);
		}
	}
	for (uint32_t r = 0; r < VIRTIO_MMIO_CONFIG; r++) { /* and aligned */
		uint32_t v = ACK;

		if (r % 4 == 0)
			continue;
		virtio_mmio_write(&f->echo->dev, r, &v, 4);
		virtio_mmio_read(&f->echo->dev, r, &v, 4);
		assert_int_equal(v, 0);
	}
	assert_int_equal(status(f), 0);
	assert_page_is_true(f);
}

/* Writes each queue register of queue 0; none may change anything, but for QueueReady of a queue
 * that runs, of which 0 is taken. */
static void assert_queue_is_locked(struct fixture *f)
{
	static const uint32_t regs[] = {
		VIRTIO_MMIO_QUEUE_NUM,	      VIRTIO_MMIO_QUEUE_DESC_LOW,
		VIRTIO_MMIO_QUEUE_DESC_HIGH,  VIRTIO_MMIO_QUEUE_AVAIL_LOW,
		VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
		VIRTIO_MMIO_QUEUE_USED_HIGH,  VIRTIO_MMIO_QUEUE_READY,
	};
	struct virtq before = f->echo->dev.queue[0].vq;

	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		put(f, regs[i], 9);
		if (regs[i] != VIRTIO_MMIO_QUEUE_READY || !before.ready)
			put(f, regs[i], !before.ready);
		assert_memory_equal(&f->echo->dev.queue[0].vq, &before, sizeof(before));
	}
	assert_page_is_true(f);
}

static void test_point_3_queue_registers_have_their_time(void **state)
{
	struct fixture *f = *state;

	assert_queue_is_locked(f);
	put(f, VIRTIO_MMIO_STATUS, ACK);
	assert_queue_is_locked(f);
	put(f, VIRTIO_MMIO_STATUS, ACK | DRIVER);
	assert_queue_is_locked(f);
	assert_true(drv_negotiate(&f->d, VERSION));
	drv_queue_setup(&f->d, 0, 16);
	put(f, VIRTIO_MMIO_QUEUE_NUM, 8); /* QueueReady is set */
	assert_int_equal(f->echo->dev.queue[0].vq.size, 16);
	put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	put(f, VIRTIO_MMIO_QUEUE_NUM, 8);
	assert_int_equal(f->echo->dev.queue[0].vq.size, 8);
	drv_queue_setup(&f->d, 0, 16);
	drv_driver_ok(&f->d);
	assert_queue_is_locked(f);
	assert_works(f, 0);
}

/* Firecracker: the rings of a running device were moved after they had been validated. */
static void test_cve_2026_5747_queue_registers_after_activation(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 16);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	for (unsigned stopped = 0; stopped < 2; stopped++) {
		put(f, VIRTIO_MMIO_QUEUE_USED_HIGH, 0xffffffff);
		put(f, VIRTIO_MMIO_QUEUE_USED_LOW, 0xfffffff0);
		put(f, VIRTIO_MMIO_QUEUE_NUM, 64);
		put(f, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), !stopped);
		assert_int_equal(f->echo->dev.queue[0].vq.size, stopped ? 0 : 16);
		for (unsigned i = 0; i < 40; i++)
			assert_works(f, stopped);
		put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	}
	provoke(f, 1); /* nor does a broken device open them */
	assert_queue_is_locked(f);
}

static void test_queue_size_above_maximum_fails_at_driver_ok(void **state)
{
	static const uint32_t bad[] = {0, 65, 128, 0x10040, 0xffffffff, 0x80000000, 3};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(drv_negotiate(&f->d, VERSION));
		drv_queue_setup(&f->d, 0, 16);
		put(f, VIRTIO_MMIO_QUEUE_READY, 0);
		put(f, VIRTIO_MMIO_QUEUE_NUM, bad[i]);
		put(f, VIRTIO_MMIO_QUEUE_READY, 1);
		drv_driver_ok(&f->d);
		assert_int_equal(status(f), ALIVE | BROKEN);
		assert_false(virtio_queue_active(&f->echo->dev, 0));
	}
}

/* What the specification says a write of `value` makes of `now`, from the initialisation steps. */
static uint32_t expected_status(uint32_t now, uint32_t value)
{
	static const uint32_t steps[] = {ACK, DRIVER, FEATURES, RUNNING};
	uint32_t next = now;

	if (value == 0)
		return 0;
	value &= ~(uint32_t)BROKEN; /* the device's own */
	if (value & ~(uint32_t)(ALIVE | FAILED) || now & ~value)
		return now;
	next |= value & FAILED;
	for (unsigned i = 0; i < 4 && !(next & FAILED); i++) {
		if (next & steps[i])
			continue;
		if (!(value & steps[i]))
			break;
		next |= steps[i];
	}
	return next;
}

/* Every value is written in every state that can be reached. */
static void test_point_4_status_machine(void **state)
{
	static const uint32_t reachable[] = {0, ACK, ACK | DRIVER, ACK | DRIVER | FEATURES, ALIVE};
	struct fixture *f = *state;

	for (unsigned s = 0; s < 2 * ARRAY_SIZE(reachable); s++) {
		uint32_t now = reachable[s / 2] | (s % 2 ? FAILED : 0);

		for (uint32_t value = 0; value < 512; value++) {
			put(f, VIRTIO_MMIO_STATUS, 0);
			for (unsigned i = 0; i <= s / 2; i++) {
				put(f, VIRTIO_MMIO_STATUS, reachable[i]);
				if (reachable[i] == (ACK | DRIVER)) {
					put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
					put(f, VIRTIO_MMIO_DRIVER_FEATURES, VERSION >> 32);
				}
			}
			if (s % 2)
				put(f, VIRTIO_MMIO_STATUS, now);
			assert_int_equal(status(f), now);
			put(f, VIRTIO_MMIO_STATUS, value);
			/* ACK | DRIVER | FEATURES in one go has not accepted VERSION_1. */
			if (!(reachable[s / 2] & DRIVER) && value & FEATURES)
				assert_int_equal(status(f),
						 expected_status(now, value) &
							 ~(uint32_t)(FEATURES | RUNNING));
			else
				assert_int_equal(status(f), expected_status(now, value));
			assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_STATUS), status(f));
		}
	}
}

static void test_point_4_broken_device_takes_only_reset(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	provoke(f, 0);
	for (uint32_t value = 1; value < 256; value++) {
		uint32_t before = status(f);

		put(f, VIRTIO_MMIO_STATUS, value);
		assert_true(status(f) == before || status(f) == (before | FAILED));
	}
	drv_start(&f->d, ALL, 0);
	assert_works(f, 0);
	assert_works(f, 1);
}

static void test_point_5_features_are_a_subset(void **state)
{
	struct fixture *f = *state;
	uint64_t offered = drv_device_features(&f->d);

	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t one = 1ull << bit;

		assert_int_equal(drv_negotiate(&f->d, VERSION | one), !!(offered & one));
		assert_int_equal(status(f) & FEATURES, offered & one ? FEATURES : 0);
	}
	assert_true(drv_negotiate(&f->d, offered));
	assert_int_equal(f->echo->dev.driver_features, offered);
	assert_false(drv_negotiate(&f->d, offered & ~VERSION));
	/* DRIVER_OK does not go through where FEATURES_OK did not. */
	put(f, VIRTIO_MMIO_STATUS, ALIVE);
	assert_int_equal(status(f), ACK | DRIVER);
	/* The driver may think better of it. */
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, VERSION >> 32);
	put(f, VIRTIO_MMIO_STATUS, ACK | DRIVER | FEATURES);
	assert_int_equal(status(f), ACK | DRIVER | FEATURES);
}

static void test_point_5_features_beyond_64_bits(void **state)
{
	struct fixture *f = *state;

	for (uint32_t sel = 2; sel; sel <<= 1) {
		drv_reset(&f->d);
		put(f, VIRTIO_MMIO_STATUS, ACK);
		put(f, VIRTIO_MMIO_STATUS, ACK | DRIVER);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, VERSION >> 32);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, sel);
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, 0); /* nothing there: fine */
		put(f, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		put(f, VIRTIO_MMIO_STATUS, ACK | DRIVER | FEATURES);
		assert_int_equal(status(f), ACK | DRIVER);
	}
	assert_true(drv_negotiate(&f->d, VERSION)); /* forgotten by reset */
}

static void test_point_5_features_are_final(void **state)
{
	struct fixture *f = *state;

	put(f, VIRTIO_MMIO_DRIVER_FEATURES, ~0u); /* before DRIVER */
	assert_int_equal(f->echo->dev.driver_features, 0);
	assert_true(drv_negotiate(&f->d, VERSION));
	put(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, ~0u);
	assert_int_equal(f->echo->dev.driver_features, VERSION);
	drv_driver_ok(&f->d);
	put(f, VIRTIO_MMIO_DRIVER_FEATURES, ~0u);
	assert_int_equal(f->echo->dev.driver_features, VERSION);
	drv_reset(&f->d);
	assert_int_equal(f->echo->dev.driver_features, 0);
}

static void test_point_17_config_reads_are_bounded(void **state)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	struct fixture *f = *state;
	uint8_t data[8], want[VIRTIO_MMIO_PAGE + 8] = {0};

	memcpy(want + VIRTIO_MMIO_CONFIG, f->echo->dev.config, ECHO_CONFIG_LEN);
	memset(f->echo->dev.config + ECHO_CONFIG_LEN, 0xee, VIRTIO_CONFIG_MAX - ECHO_CONFIG_LEN);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		for (uint32_t r = VIRTIO_MMIO_CONFIG; r < VIRTIO_MMIO_PAGE; r++) {
			virtio_mmio_read(&f->echo->dev, r, data, widths[i]);
			if (r + widths[i] <= VIRTIO_MMIO_PAGE)
				assert_memory_equal(data, want + r, widths[i]);
			else
				assert_memory_equal(data, want, widths[i]);
		}
	}
}

static void test_point_17_config_writes_are_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8] = {0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4};
	uint8_t before[VIRTIO_CONFIG_MAX];

	memcpy(before, f->echo->dev.config, sizeof(before));
	for (uint32_t off = ECHO_CONFIG_LEN - 3; off < VIRTIO_MMIO_PAGE; off++)
		virtio_mmio_write(&f->echo->dev, VIRTIO_MMIO_CONFIG + off, data, 4);
	virtio_mmio_write(&f->echo->dev, VIRTIO_MMIO_CONFIG + ECHO_CONFIG_LEN - 7, data, 8);
	assert_int_equal(f->echo->config_writes, 0);
	assert_memory_equal(f->echo->dev.config, before, sizeof(before));

	virtio_mmio_write(&f->echo->dev, VIRTIO_MMIO_CONFIG + ECHO_CONFIG_LEN - 8, data, 8);
	virtio_mmio_write(&f->echo->dev, VIRTIO_MMIO_CONFIG + ECHO_WRITABLE + 1, data, 1);
	virtio_mmio_write(&f->echo->dev, VIRTIO_MMIO_CONFIG, data, 4); /* not the driver's */
	assert_int_equal(f->echo->config_writes, 3);
	assert_memory_equal(f->d.page + VIRTIO_MMIO_CONFIG + ECHO_CONFIG_LEN - 8, data, 8);
	assert_int_equal(f->d.page[VIRTIO_MMIO_CONFIG + ECHO_WRITABLE + 1], 0xaa);
	assert_memory_equal(f->d.page + VIRTIO_MMIO_CONFIG, before, 8);
	assert_page_is_true(f);
	drv_reset(&f->d); /* the device forgets what the driver wrote */
	assert_memory_equal(f->d.page + VIRTIO_MMIO_CONFIG, before, ECHO_CONFIG_LEN);
}

/* kvmtool: configuration space and queue indices were used unchecked. */
static void test_cve_2021_45464_offsets_and_indices(void **state)
{
	static const uint64_t far[] = {0x1000,	   0x1100,     0xffffffff,     0x100000000,
				       1ull << 63, UINT64_MAX, UINT64_MAX - 7, 0xff8};
	static const uint32_t indices[] = {QUEUES,     QUEUES + 1, 64,	       65535,  65536,
					   0x7fffffff, 0x80000000, 0xffffffff, 0x10000};
	struct fixture *f = *state;
	uint64_t v;

	drv_start(&f->d, ALL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(far); i++) {
		v = UINT64_MAX;
		virtio_mmio_write(&f->echo->dev, far[i], &v, 8);
		virtio_mmio_read(&f->echo->dev, far[i], &v, 8);
		assert_int_equal(v, 0);
	}
	assert_int_equal(f->echo->config_writes, 0);
	for (size_t i = 0; i < ARRAY_SIZE(indices); i++) {
		put(f, VIRTIO_MMIO_QUEUE_SEL, indices[i]);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
		put(f, VIRTIO_MMIO_QUEUE_NUM, 16);
		put(f, VIRTIO_MMIO_QUEUE_READY, 1);
		put(f, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
		assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	assert_works(f, 0);
}

/* QEMU: a queue index that was negative passed a signed comparison. */
static void test_cve_2011_2512_signed_queue_index(void **state)
{
	static const uint32_t bad[] = {QUEUES,	   VIRTIO_MAX_QUEUES, 0x80000000,
				       0xffffffff, 0xfffffffe,	      0x10000};
	struct fixture *f = *state;
	unsigned kicks;

	drv_start(&f->d, ALL, 0);
	drv_pump(&f->d);
	kicks = f->echo->kicks;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		put(f, VIRTIO_MMIO_QUEUE_NOTIFY, bad[i]);
	drv_pump(&f->d);
	assert_int_equal(f->echo->kicks, kicks);
	assert_works(f, QUEUES - 1);
}

static void test_generation_moves_with_the_configuration(void **state)
{
	struct fixture *f = *state;
	uint32_t before = get(f, VIRTIO_MMIO_CONFIG_GENERATION), after;
	uint32_t v = 0x12345678;

	virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
	after = get(f, VIRTIO_MMIO_CONFIG_GENERATION);
	assert_int_not_equal(before, after);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), v);
	assert_int_equal(drv_irqs(&f->d), 0); /* not at DRIVER_OK */

	drv_start(&f->d, ALL, 0);
	after = get(f, VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v)); /* no change */
	assert_int_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), after);
	assert_int_equal(drv_irqs(&f->d), 0);
	v++;
	virtio_dev_set_config(&f->echo->dev, 0, &v, sizeof(v));
	assert_int_not_equal(get(f, VIRTIO_MMIO_CONFIG_GENERATION), after);
	assert_int_equal(get(f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(drv_irqs(&f->d), 1);

	v++; /* the device's own caller may not run over the end either */
	virtio_dev_set_config(&f->echo->dev, VIRTIO_CONFIG_MAX - 3, &v, 4);
	virtio_dev_set_config(&f->echo->dev, UINT32_MAX, &v, 4);
	assert_int_equal(drv_irqs(&f->d), 0);
	assert_page_is_true(f);
}

/* What a driver that clears QueueReady after reset (Linux, on unbind) gets is what it wrote. */
static void test_queue_ready_cleared_after_reset(void **state)
{
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	drv_reset(&f->d);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 1);
	put(f, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
}

/* GuestPageSize, QueueAlign and QueuePFN of the legacy interface; QueueReset, without RING_RESET. */
static void test_registers_of_what_is_not_offered(void **state)
{
	static const uint32_t regs[] = {0x028, 0x03c, 0x040, 0x0c0};
	struct fixture *f = *state;

	drv_start(&f->d, ALL, 0);
	put(f, VIRTIO_MMIO_QUEUE_SEL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		for (unsigned bit = 0; bit < 32; bit++)
			put(f, regs[i], 1u << bit);
		assert_int_equal(get(f, regs[i]), 0);
	}
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
	assert_int_equal(status(f), ALIVE);
	assert_works(f, 0);
	assert_page_is_true(f);
}

static void test_bus_ops_reach_the_device(void **state)
{
	struct fixture *f = *state;
	struct bus bus = {.num_ranges = 0};
	uint32_t v = ACK;

	assert_int_equal(
		bus_add(&bus, 0xd0000000, VIRTIO_MMIO_PAGE, &virtio_mmio_bus_ops, &f->echo->dev),
		0);
	bus_write(&bus, 0xd0000000 + VIRTIO_MMIO_STATUS, &v, 4);
	assert_int_equal(status(f), ACK);
	bus_read(&bus, 0xd0000000, &v, 4);
	assert_int_equal(v, 0x74726976);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_fixed_registers),
		T(test_write_only_and_reserved_registers_read_zero),
		T(test_page_follows_selectors),
		T(test_point_3_registers_take_32_bits_only),
		T(test_point_3_queue_registers_have_their_time),
		T(test_cve_2026_5747_queue_registers_after_activation),
		T(test_queue_size_above_maximum_fails_at_driver_ok),
		T(test_point_4_status_machine),
		T(test_point_4_broken_device_takes_only_reset),
		T(test_point_5_features_are_a_subset),
		T(test_point_5_features_beyond_64_bits),
		T(test_point_5_features_are_final),
		T(test_point_17_config_reads_are_bounded),
		T(test_point_17_config_writes_are_bounded),
		T(test_cve_2021_45464_offsets_and_indices),
		T(test_cve_2011_2512_signed_queue_index),
		T(test_generation_moves_with_the_configuration),
		T(test_queue_ready_cleared_after_reset),
		T(test_registers_of_what_is_not_offered),
		T(test_bus_ops_reach_the_device),
	};

	log_set_level(LOG_ERROR); /* the driver here misbehaves a lot */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
