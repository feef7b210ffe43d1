// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "kvm/ioapic.h"
#include "kvm/layout.h"

#define PINS	 5u
#define MASKED	 (1u << 16)
#define IOREGSEL 0x00u
#define IOWIN	 0x10u

/* Records what the I/O APIC publishes. */
struct recorder {
	struct ioapic ioapic;
	struct ioapic_route route[IOAPIC_MAX_PINS];
	unsigned set_calls, kicks[IOAPIC_MAX_PINS];
	int set_result;
	bool kicked_before_set;
};

static int record_routes(void *ctx, const struct ioapic_route *route, unsigned pins)
{
	struct recorder *rec = ctx;

	rec->set_calls++;
	if (rec->set_result)
		return rec->set_result;
	memcpy(rec->route, route, pins * sizeof(*route));
	return 0;
}

static void record_kick(void *ctx, unsigned pin)
{
	struct recorder *rec = ctx;

	rec->kicks[pin]++;
	rec->kicked_before_set |= !rec->route[pin].valid;
}

static void start(struct recorder *rec, unsigned pins)
{
	memset(rec, 0, sizeof(*rec));
	ioapic_init(&rec->ioapic, pins);
	rec->ioapic.set_routes = record_routes;
	rec->ioapic.kick_pin = record_kick;
	rec->ioapic.ctx = rec;
}

static uint32_t read_reg(struct recorder *rec, uint32_t index)
{
	uint32_t value = 0;

	ioapic_bus_ops.write(&rec->ioapic, IOREGSEL, &index, 4);
	ioapic_bus_ops.read(&rec->ioapic, IOWIN, &value, 4);
	return value;
}

static void write_reg(struct recorder *rec, uint32_t index, uint32_t value)
{
	ioapic_bus_ops.write(&rec->ioapic, IOREGSEL, &index, 4);
	ioapic_bus_ops.write(&rec->ioapic, IOWIN, &value, 4);
}

static void write_low(struct recorder *rec, unsigned pin, uint32_t value)
{
	write_reg(rec, 0x10 + 2 * pin, value);
}

static void write_high(struct recorder *rec, unsigned pin, uint32_t value)
{
	write_reg(rec, 0x11 + 2 * pin, value);
}

static void test_registers_after_reset(void **state)
{
	struct recorder rec;
	uint32_t value = 0x5a;

	(void)state;
	start(&rec, PINS);
	assert_int_equal(read_reg(&rec, 0), 0);
	assert_int_equal(read_reg(&rec, 1), 0x11 | (PINS - 1) << 16);
	for (unsigned pin = 0; pin < PINS; pin++) {
		assert_int_equal(read_reg(&rec, 0x10 + 2 * pin), MASKED);
		assert_int_equal(read_reg(&rec, 0x11 + 2 * pin), 0);
	}
	/* The ID is four bits; arbitration follows it; the version is read-only. */
	write_reg(&rec, 0, 0xffffffff);
	assert_int_equal(read_reg(&rec, 0), 0x0f000000);
	assert_int_equal(read_reg(&rec, 2), 0x0f000000);
	write_reg(&rec, 1, 0);
	assert_int_equal(read_reg(&rec, 1), 0x11 | (PINS - 1) << 16);
	/* IOREGSEL keeps eight bits. */
	ioapic_bus_ops.write(&rec.ioapic, IOREGSEL, &(uint32_t){0xffffff12}, 4);
	ioapic_bus_ops.read(&rec.ioapic, IOREGSEL, &value, 4);
	assert_int_equal(value, 0x12);
	assert_int_equal(rec.set_calls, 0);
}

static void test_no_pin_beyond_the_last(void **state)
{
	struct recorder rec;

	(void)state;
	start(&rec, PINS);
	for (uint32_t index = 0x10 + 2 * PINS; index < 0x100; index++) {
		write_reg(&rec, index, 0x31);
		assert_int_equal(read_reg(&rec, index), UINT32_MAX);
	}
	for (uint32_t index = 3; index < 0x10; index++) {
		write_reg(&rec, index, 0x31);
		assert_int_equal(read_reg(&rec, index), UINT32_MAX);
	}
	assert_int_equal(rec.set_calls, 0);
	/* All that the index register can reach, and no more than the table holds. */
	start(&rec, 1000);
	assert_int_equal(rec.ioapic.pins, IOAPIC_MAX_PINS);
	for (uint32_t index = 0; index < 0x100; index++)
		write_reg(&rec, index, 0x31);
	assert_int_equal(rec.set_calls, (0x100 - 0x10) / 2);
}

static void test_entry_becomes_msi_message(void **state)
{
	static const struct {
		uint32_t high, low, address, data;
	} row[] = {
		{0x00000000, 0x00000031, 0xfee00000, 0x0031}, /* physical, fixed */
		{0x03000000, 0x000000ef, 0xfee03000, 0x00ef},
		{0xff000000, 0x00000931, 0xfeeff004, 0x0131}, /* logical, lowest priority */
		{0x3f000000, 0x00000431, 0xfee3f000, 0x0431}, /* NMI */
		{0x01ffffff, 0x00000031, 0xfee01000, 0x0031}, /* reserved bits are dropped */
		{0x01000000, 0x0000f031, 0xfee01000, 0x0031}, /* level, low: still an edge */
		{0x01000000, 0xfffe0031, 0xfee01000, 0x0031}, /* reserved bits again */
	};
	struct recorder rec;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		start(&rec, PINS);
		write_high(&rec, 2, row[i].high);
		write_low(&rec, 2, row[i].low);
		assert_int_equal(rec.set_calls, 1);
		assert_true(rec.route[2].valid);
		assert_int_equal(rec.route[2].address_lo, row[i].address);
		assert_int_equal(rec.route[2].address_hi, 0);
		assert_int_equal(rec.route[2].data, row[i].data);
		for (unsigned pin = 0; pin < PINS; pin++)
			assert_int_equal(rec.route[pin].valid, pin == 2);
		/* Read-only bits stay clear, the rest reads back. */
		assert_int_equal(read_reg(&rec, 0x14), row[i].low & 0x1afff);
		assert_int_equal(read_reg(&rec, 0x15), row[i].high & 0xff000000);
	}
}

static void test_routes_are_set_only_when_they_change(void **state)
{
	struct recorder rec;

	(void)state;
	start(&rec, PINS);
	/* As Linux does: clear all pins, then write an entry high half first. */
	for (unsigned pin = 0; pin < PINS; pin++) {
		write_low(&rec, pin, MASKED);
		write_high(&rec, pin, 0);
	}
	assert_int_equal(rec.set_calls, 0);
	write_low(&rec, 1, MASKED | 0x22);
	write_high(&rec, 1, 1u << 24);
	assert_int_equal(rec.set_calls, 0);
	write_low(&rec, 1, 0x22);
	assert_int_equal(rec.set_calls, 1);

	/* The same again, and what is not part of the message (polarity, trigger): nothing new. */
	write_low(&rec, 1, 0x22);
	write_high(&rec, 1, 1u << 24);
	write_low(&rec, 1, 0x22 | 1u << 13 | 1u << 15);
	assert_int_equal(rec.set_calls, 1);

	write_high(&rec, 1, 2u << 24);
	assert_int_equal(rec.set_calls, 2);
	write_low(&rec, 1, 0x23);
	assert_int_equal(rec.set_calls, 3);
	write_low(&rec, 1, MASKED | 0x23);
	assert_int_equal(rec.set_calls, 4);
	assert_false(rec.route[1].valid);
	write_low(&rec, 1, MASKED | 0x24);
	write_high(&rec, 1, 3u << 24);
	assert_int_equal(rec.set_calls, 4);
}

static void test_unmasking_kicks_the_pin_once(void **state)
{
	struct recorder rec;

	(void)state;
	start(&rec, PINS);
	write_low(&rec, 3, 0x31);
	assert_int_equal(rec.kicks[3], 1);
	write_low(&rec, 3, 0x32);
	write_high(&rec, 3, 1u << 24);
	assert_int_equal(rec.kicks[3], 1);
	write_low(&rec, 3, MASKED | 0x32);
	assert_int_equal(rec.kicks[3], 1);
	write_low(&rec, 3, 0x32);
	assert_int_equal(rec.kicks[3], 2);
	assert_false(rec.kicked_before_set);
	for (unsigned pin = 0; pin < PINS; pin++)
		assert_int_equal(rec.kicks[pin], pin == 3 ? 2 : 0);
}

static void test_refused_routes_are_tried_again(void **state)
{
	struct recorder rec;

	(void)state;
	start(&rec, PINS);
	rec.set_result = -ENOMEM;
	write_low(&rec, 0, 0x31);
	assert_int_equal(rec.set_calls, 1);
	rec.set_result = 0;
	write_low(&rec, 0, 0x31);
	assert_int_equal(rec.set_calls, 2);
	assert_true(rec.route[0].valid);
	write_low(&rec, 0, 0x31);
	assert_int_equal(rec.set_calls, 2);
}

static void test_quiet_after_all_pins_are_masked_again(void **state)
{
	struct recorder rec;

	(void)state;
	start(&rec, PINS);
	assert_false(ioapic_is_quiet(&rec.ioapic)); /* never used */
	write_low(&rec, 0, 0x31);
	write_low(&rec, 4, 0x32);
	assert_false(ioapic_is_quiet(&rec.ioapic));
	write_low(&rec, 0, MASKED);
	assert_false(ioapic_is_quiet(&rec.ioapic));
	write_low(&rec, 4, MASKED);
	assert_true(ioapic_is_quiet(&rec.ioapic));
	write_low(&rec, 1, 0x33);
	assert_false(ioapic_is_quiet(&rec.ioapic));
}

/* Any access of any width anywhere in the page: only aligned 32-bit ones at the two registers do
 * something; the rest reads as ones, within its buffer. */
static void test_any_access(void **state)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	struct recorder rec;
	uint64_t seed = 1;

	(void)state;
	start(&rec, PINS);
	write_low(&rec, 0, 0x31);
	write_reg(&rec, 0x10, 0x31);
	for (uint64_t offset = 0; offset < LAYOUT_IOAPIC_SIZE; offset++) {
		for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
			uint32_t len = widths[i];
			uint8_t buf[16], ones[8];

			if (len > LAYOUT_IOAPIC_SIZE - offset)
				continue;
			if (len == 4 && (offset == IOREGSEL || offset == IOWIN))
				continue;
			memset(buf, 0xa5, sizeof(buf));
			memset(ones, 0xff, sizeof(ones));
			ioapic_bus_ops.write(&rec.ioapic, offset, buf, len);
			ioapic_bus_ops.read(&rec.ioapic, offset, buf + 4, len);
			assert_memory_equal(buf + 4, ones, len);
			assert_int_equal(buf[3], 0xa5);
			assert_int_equal(buf[4 + len], 0xa5);
		}
	}
	assert_int_equal(rec.ioapic.select, 0x10);
	assert_int_equal(read_reg(&rec, 0x10), 0x31);
	assert_int_equal(rec.set_calls, 1);

	/* Random values in the two registers: what is published is what the table says. */
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t value;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		value = (uint32_t)(seed >> 32);
		ioapic_bus_ops.write(&rec.ioapic, value & 1 ? IOREGSEL : IOWIN, &value, 4);
	}
	for (unsigned pin = 0; pin < PINS; pin++) {
		uint64_t entry = rec.ioapic.redirection[pin];

		assert_int_equal(rec.route[pin].valid, !(entry & MASKED));
		if (rec.route[pin].valid) {
			assert_int_equal(rec.route[pin].data, entry & 0x7ff);
			assert_int_equal(rec.route[pin].address_lo >> 12 & 0xff, entry >> 56);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers_after_reset),
		cmocka_unit_test(test_no_pin_beyond_the_last),
		cmocka_unit_test(test_entry_becomes_msi_message),
		cmocka_unit_test(test_routes_are_set_only_when_they_change),
		cmocka_unit_test(test_unmasking_kicks_the_pin_once),
		cmocka_unit_test(test_refused_routes_are_tried_again),
		cmocka_unit_test(test_quiet_after_all_pins_are_masked_again),
		cmocka_unit_test(test_any_access),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
