// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine.h"
#include "util.h"

/* What a KVM on an AMD and on an Intel host would report, cut down to what is fitted. */
static const struct kvm_cpuid_entry2 host[] = {
	{.function = 0, .eax = 0x16},
	{.function = 1, .ebx = 0x07100800, .ecx = 0, .edx = 0},
	{.function = 4, .index = 0, .eax = 0xfc01c121},
	{.function = 4, .index = 3, .eax = 0xfc0fc163},
	{.function = 4, .index = 4, .eax = 0},
	{.function = 6, .ecx = 0x9},
	{.function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 7},
	{.function = 0x40000000, .eax = 0x40000001},
	{.function = 0x80000001, .ecx = 0},
	{.function = 0x80000008, .eax = 0x3030, .ecx = 0x700f},
	{.function = 0x8000001d, .index = 0, .eax = 0x00004121},
	{.function = 0x8000001d, .index = 3, .eax = 0x0001c163},
	{.function = 0x8000001e, .eax = 9, .ebx = 0x0103, .ecx = 0x0101},
};

static struct kvm_cpuid2 *fitted(unsigned index, unsigned cpus, uint32_t tsc_khz)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + (ARRAY_SIZE(host) + CPUID_EXTRA) * sizeof(host[0]));

	assert_non_null(cpuid);
	cpuid->nent = ARRAY_SIZE(host);
	memcpy(cpuid->entries, host, sizeof(host));
	cpuid_fit(cpuid, index, cpus, tsc_khz);
	assert_true(cpuid->nent <= ARRAY_SIZE(host) + CPUID_EXTRA);
	return cpuid;
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *cpuid, uint32_t function,
					   uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
			assert_null(found); /* each leaf once */
			found = &cpuid->entries[i];
		}
	assert_non_null(found);
	return found;
}

static void test_one_cpu(void **state)
{
	_cleanup_free_ struct kvm_cpuid2 *c = fitted(0, 1, 0);

	(void)state;
	assert_int_equal(leaf(c, 1, 0)->ebx, 0x00010800);
	assert_true(leaf(c, 1, 0)->ecx & 1u << 24);
	assert_true(leaf(c, 1, 0)->ecx & 1u << 31);
	assert_false(leaf(c, 1, 0)->edx & 1u << 28);
	assert_int_equal(leaf(c, 0xb, 0)->ebx, 1);
	assert_int_equal(leaf(c, 0xb, 1)->ebx, 1);
	assert_int_equal(leaf(c, 0xb, 1)->eax, 0);
	assert_int_equal(leaf(c, 0x80000008, 0)->ecx & 0xff, 0);
	assert_int_equal(leaf(c, 0x40000000, 0)->eax, 0x40000001);
}

/* Six is no power of two: APIC ID fields are rounded up, counts are not. */
static void test_six_cpus(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		_cleanup_free_ struct kvm_cpuid2 *c = fitted(i, 6, 0);

		assert_int_equal(leaf(c, 1, 0)->ebx >> 24, i);
		assert_int_equal(leaf(c, 1, 0)->ebx >> 16 & 0xff, 8);
		assert_true(leaf(c, 1, 0)->edx & 1u << 28);
		assert_int_equal(leaf(c, 0xb, 0)->edx, i);
		assert_int_equal(leaf(c, 0xb, 0)->ebx, 1);
		assert_int_equal(leaf(c, 0xb, 0)->ecx, 0x100);
		assert_int_equal(leaf(c, 0xb, 1)->edx, i);
		assert_int_equal(leaf(c, 0xb, 1)->eax, 3);
		assert_int_equal(leaf(c, 0xb, 1)->ebx, 6);
		assert_int_equal(leaf(c, 0xb, 1)->ecx, 0x201);
		assert_int_equal(leaf(c, 4, 0)->eax >> 26, 7);
		assert_int_equal(leaf(c, 4, 0)->eax >> 14 & 0xfff, 0);
		assert_int_equal(leaf(c, 4, 3)->eax >> 14 & 0xfff, 7);
		assert_int_equal(leaf(c, 4, 4)->eax, 0);
		assert_int_equal(leaf(c, 0x80000008, 0)->ecx, 0x3005);
		assert_true(leaf(c, 0x80000001, 0)->ecx & 2);
		assert_int_equal(leaf(c, 0x8000001d, 0)->eax >> 14 & 0xfff, 0);
		assert_int_equal(leaf(c, 0x8000001d, 3)->eax >> 14 & 0xfff, 7);
		assert_int_equal(leaf(c, 0x8000001e, 0)->eax, i);
		assert_int_equal(leaf(c, 0x8000001e, 0)->ebx, i);
	}
}

static void test_timing_leaf(void **state)
{
	_cleanup_free_ struct kvm_cpuid2 *c = fitted(0, 1, 2600000);

	(void)state;
	assert_int_equal(leaf(c, 0x40000000, 0)->eax, 0x40000010);
	assert_int_equal(leaf(c, 0x40000010, 0)->eax, 2600000);
	assert_int_equal(leaf(c, 0x40000010, 0)->ebx, 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_cpu),
		cmocka_unit_test(test_six_cpus),
		cmocka_unit_test(test_timing_leaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
