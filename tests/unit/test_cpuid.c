// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "kvm/inside.h"

/* What a KVM on an AMD and on an Intel host would report, cut down to what is fitted. */
static const struct kvm_cpuid_entry2 host[] = {
	{.function = 0, .eax = 0x20},
	{.function = 1, .ebx = 0x07100800, .ecx = 0x7efaf27f, .edx = 0x0fabfbff},
	{.function = 4, .index = 0, .eax = 0xfc01c121},
	{.function = 4, .index = 3, .eax = 0xfc0fc163},
	{.function = 4, .index = 4, .eax = 0},
	{.function = 6, .ecx = 0x9},
	{.function = 7, .index = 0, .edx = 0xbc080610},
	{.function = 0xa, .eax = 0x07300805, .ebx = 0, .ecx = 0, .edx = 0x603},
	{.function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 7},
	/* Linux 6.2 and newer, where the processor's largest basic leaf is 0x1f or more. */
	{.function = 0x1f, .index = 0},
	{.function = 0x40000000, .eax = 0x40000001},
	{.function = 0x80000001, .ecx = 0x75c237ff & ~2u},
	{.function = 0x80000008, .eax = 0x3030, .ecx = 0x700f},
	{.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = 0x0119b9ff},
	{.function = 0x8000001d, .index = 0, .eax = 0x00004121},
	{.function = 0x8000001d, .index = 3, .eax = 0x0001c163},
	{.function = 0x8000001e, .eax = 9, .ebx = 0x0103, .ecx = 0x0101},
	{.function = 0x80000022, .eax = 1, .ebx = 6},
	{.function = 0x80000026, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 9},
	{.function = 0x80000026, .index = 1, .eax = 4, .ebx = 16, .ecx = 0x201, .edx = 9},
	{.function = 0x80000026, .index = 2, .eax = 7, .ebx = 64, .ecx = 0x402, .edx = 9},
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

/* An Intel guest takes 0x1f where it is, an AMD guest 0x80000026: each tells what 0xb does. */
static void test_leaf_1f_made_each_vcpu_a_package(void **state)
{
	static const uint32_t leaves[] = {0xb, 0x1f, 0x80000026};

	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		_cleanup_free_ struct kvm_cpuid2 *c = fitted(i, 6, 0);

		for (size_t n = 0; n < ARRAY_SIZE(leaves); n++) {
			const struct kvm_cpuid_entry2 *thread = leaf(c, leaves[n], 0);
			const struct kvm_cpuid_entry2 *core = leaf(c, leaves[n], 1);

			assert_int_equal(thread->edx, i);
			assert_int_equal(thread->eax, 0);
			assert_int_equal(thread->ebx, 1);
			assert_int_equal(thread->ecx, 0x100);
			assert_int_equal(core->edx, i);
			assert_int_equal(core->eax, 3);
			assert_int_equal(core->ebx, 6);
			assert_int_equal(core->ecx, 0x201);
			assert_true(thread->flags & core->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
		}
		/* No third level: its type is 0. */
		assert_int_equal(leaf(c, 0x80000026, 2)->eax, 0);
		assert_int_equal(leaf(c, 0x80000026, 2)->ecx, 2);
	}
}

/* docs/threat-model.md: neither nested virtualisation nor performance counters. */
static void test_what_the_guest_is_not_given(void **state)
{
	static const uint32_t empty[] = {0xa, 0x8000000a, 0x80000022};
	_cleanup_free_ struct kvm_cpuid2 *c = fitted(0, 1, 0);

	(void)state;
	/* VMX, SMX; DTES64, DS-CPL, PDCM. */
	assert_int_equal(leaf(c, 1, 0)->ecx & (1u << 5 | 1u << 6 | 1u << 2 | 1u << 4 | 1u << 15),
			 0);
	assert_int_equal(leaf(c, 1, 0)->edx & 1u << 21, 0); /* DS */
	assert_int_equal(leaf(c, 7, 0)->edx, 0xbc000610);   /* architectural LBR */
	/* SVM, SKINIT; IBS, three kinds of counters. */
	assert_int_equal(leaf(c, 0x80000001, 0)->ecx &
				 (1u << 2 | 1u << 12 | 1u << 10 | 1u << 23 | 1u << 24 | 1u << 28),
			 0);
	assert_true(leaf(c, 0x80000001, 0)->ecx & 1u << 22); /* topology extensions stay */
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
		const struct kvm_cpuid_entry2 *e = leaf(c, empty[i], 0);

		assert_int_equal(e->eax | e->ebx | e->ecx | e->edx, 0);
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

/* With nested paging of four levels a processor of 52 bits translates 48. */
static void test_address_bits(void **state)
{
	struct kvm_cpuid2 *c = fitted(0, 1, 0);
	uint32_t *eax = (uint32_t *)(uintptr_t)&leaf(c, 0x80000008, 0)->eax;

	(void)state;
	assert_int_equal(cpuid_address_bits(c), 48);
	*eax = 0x303934;
	assert_int_equal(cpuid_address_bits(c), 48);
	*eax = 39;
	assert_int_equal(cpuid_address_bits(c), 39);
	c->nent = 0;
	assert_int_equal(cpuid_address_bits(c), 36);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_cpu),
		cmocka_unit_test(test_six_cpus),
		cmocka_unit_test(test_leaf_1f_made_each_vcpu_a_package),
		cmocka_unit_test(test_what_the_guest_is_not_given),
		cmocka_unit_test(test_timing_leaf),
		cmocka_unit_test(test_address_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
