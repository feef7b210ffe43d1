// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: CPUID shows what the host supports, but with the guest's own topology: N single-threaded
 * cores in one package, on Intel (leaves 4, 0xb, 0x1f) and AMD (0x80000008, 0x8000001d, 0x8000001e,
 * 0x80000026) alike. With a wrong or contradictory topology the guest's scheduler would lose its
 * domains, or whole CPUs.
 *
 * Nested virtualisation and performance counters are hidden: docs/threat-model.md says why.
 */
#include <string.h>

#include "base/util.h"
#include "inside.h"

/* Bits that APIC IDs 0 to n - 1 need. */
static uint32_t id_bits(uint32_t n)
{
	return n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
}

static void set_bits(uint32_t *reg, unsigned low, unsigned width, uint32_t value)
{
	uint32_t mask = (width == 32 ? UINT32_MAX : ((1u << width) - 1)) << low;

	*reg = (*reg & ~mask) | (value << low & mask);
}

/* Intel SDM, CPUID leaf 4; AMD APM, Fn8000_001D: caches of level 3 and up are the package's. */
static void fit_cache(struct kvm_cpuid_entry2 *c, uint32_t cpus)
{
	uint32_t level = c->eax >> 5 & 7;

	if (!(c->eax & 0x1f))
		return; /* no more caches */
	set_bits(&c->eax, 14, 12, level >= 3 ? (1u << id_bits(cpus)) - 1 : 0);
	if (c->function == 4)
		set_bits(&c->eax, 26, 6, MIN((1u << id_bits(cpus)) - 1, 63u));
}

/* One leaf in three versions; a guest uses the newest. Level 0 are the threads
 * of a core (AMD: "core"), level 1 the cores of the package (AMD: "complex", which share a cache).
 */
static const uint32_t topology_leaves[] = {0xb, 0x1f, 0x80000026};

static void fit_topology(struct kvm_cpuid_entry2 *c, uint32_t index, uint32_t cpus)
{
	c->flags |= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	c->edx = index;
	switch (c->index) {
	case 0:
		c->eax = 0;
		c->ebx = 1;
		c->ecx = 1 << 8;
		break;
	case 1:
		c->eax = id_bits(cpus);
		c->ebx = cpus;
		c->ecx = 2 << 8 | 1;
		break;
	default:
		c->eax = 0;
		c->ebx = 0;
		c->ecx = c->index & 0xff;
	}
}

static void fit_entry(struct kvm_cpuid_entry2 *c, uint32_t index, uint32_t cpus)
{
	switch (c->function) {
	case 1:
		set_bits(&c->ebx, 24, 8, index);
		set_bits(&c->ebx, 16, 8, 1u << id_bits(cpus));
		set_bits(&c->ecx, 31, 1, 1);	    /* hypervisor */
		set_bits(&c->ecx, 24, 1, 1);	    /* TSC deadline timer: in-kernel LAPIC */
		set_bits(&c->edx, 28, 1, cpus > 1); /* HTT: more than one logical CPU */
		break;
	case 4:
	case 0x8000001d:
		fit_cache(c, cpus);
		break;
	case 6:
		c->ecx &= ~(1u << 3); /* no energy performance bias MSR */
		break;
	case 0xb:
	case 0x1f:
	case 0x80000026:
		fit_topology(c, index, cpus);
		break;
	case 0x80000001:
		set_bits(&c->ecx, 1, 1, cpus > 1); /* CmpLegacy */
		break;
	case 0x80000008:
		set_bits(&c->ecx, 0, 8, cpus - 1);
		set_bits(&c->ecx, 12, 4, id_bits(cpus));
		break;
	case 0x8000001e:
		c->eax = index;
		c->ebx = index & 0xff; /* one thread a core */
		c->ecx = 0;	       /* one node */
		break;
	}
}

enum cpuid_register { ECX, EDX };

/* Bits and leaves of features that the guest does not get. */
static const struct {
	uint32_t function;
	enum cpuid_register in;
	uint32_t bits;
} hidden_bits[] = {
	{1, ECX, 1u << 5 | 1u << 6},		/* VMX, SMX */
	{1, ECX, 1u << 2 | 1u << 4 | 1u << 15}, /* DTES64, DS-CPL, PDCM */
	{1, EDX, 1u << 21},			/* DS: debug store */
	{7, EDX, 1u << 19},			/* architectural last branch records */
	{0x80000001, ECX, 1u << 2 | 1u << 12},	/* SVM, SKINIT */
	{0x80000001, ECX,
	 1u << 10 | 1u << 23 | 1u << 24 | 1u << 28}, /* IBS, three sets of counters */
};
static const uint32_t hidden_leaves[] = {
	0xa,	    /* performance counters */
	0x1c,	    /* last branch records */
	0x23,	    /* performance counters, continued */
	0x8000000a, /* SVM */
	0x8000001b, /* instruction-based sampling */
	0x80000022, /* AMD's performance counters */
};

static void hide(struct kvm_cpuid_entry2 *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden_bits); i++)
		if (c->function == hidden_bits[i].function && c->index == 0)
			*(hidden_bits[i].in == ECX ? &c->ecx : &c->edx) &= ~hidden_bits[i].bits;
	for (size_t i = 0; i < ARRAY_SIZE(hidden_leaves); i++)
		if (c->function == hidden_leaves[i])
			c->eax = c->ebx = c->ecx = c->edx = 0;
}

static struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t function,
				     uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return (struct kvm_cpuid_entry2 *)(uintptr_t)&cpuid->entries[i];
	return NULL;
}

/* Bits 16 to 23 are from Linux 6.10 on, where nested paging translates fewer than the processor. */
unsigned cpuid_address_bits(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *c = find(cpuid, 0x80000008, 0);

	if (!c)
		return 36;
	return c->eax >> 16 & 0xff ? c->eax >> 16 & 0xff : c->eax & 0xff;
}

void cpuid_fit(struct kvm_cpuid2 *cpuid, unsigned index, unsigned cpus, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *kvm = find(cpuid, 0x40000000, 0);

	/* KVM gives the first level only; a copy of it becomes the second. */
	for (size_t i = 0; i < ARRAY_SIZE(topology_leaves); i++) {
		const struct kvm_cpuid_entry2 *first = find(cpuid, topology_leaves[i], 0);

		if (!first || find(cpuid, topology_leaves[i], 1))
			continue;
		cpuid->entries[cpuid->nent] = *first;
		cpuid->entries[cpuid->nent++].index = 1;
	}
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		fit_entry(&cpuid->entries[i], index, cpus);
		hide(&cpuid->entries[i]);
	}

	/* The timing leaf, as other hypervisors have it: TSC and local APIC bus, kHz. */
	if (kvm && tsc_khz && !find(cpuid, 0x40000010, 0)) {
		kvm->eax = MAX(kvm->eax, 0x40000010u);
		cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
			.function = 0x40000010, .eax = tsc_khz, .ebx = 1000000};
	}
}
