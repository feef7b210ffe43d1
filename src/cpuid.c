// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: CPUID is what the host supports, with the topology of the guest put in: N single-thread
 * cores in one package, on Intel (leaves 4, 0xb, 0x1f) and AMD (0x80000008, 0x8000001d, 0x8000001e)
 * alike. A wrong or contradictory topology costs the guest's scheduler its domains, or whole CPUs.
 */
#include <string.h>

#include "machine.h"
#include "util.h"

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

/* Leaves 0xb and 0x1f: level 0 is the thread, level 1 the core. */
static void fit_topology(struct kvm_cpuid_entry2 *c, uint32_t index, uint32_t cpus)
{
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

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

void cpuid_fit(struct kvm_cpuid2 *cpuid, unsigned index, unsigned cpus, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *kvm = find(cpuid, 0x40000000, 0);
	struct kvm_cpuid_entry2 *topology = find(cpuid, 0xb, 0);

	/* KVM gives the first level of 0xb only; a copy of it becomes the core level. */
	if (topology && !find(cpuid, 0xb, 1)) {
		struct kvm_cpuid_entry2 *core = &cpuid->entries[cpuid->nent++];

		*core = *topology;
		core->index = 1;
	}
	for (uint32_t i = 0; i < cpuid->nent; i++)
		fit_entry(&cpuid->entries[i], index, cpus);

	/* The timing leaf, as other hypervisors have it: TSC and local APIC bus, kHz. */
	if (kvm && tsc_khz && !find(cpuid, 0x40000010, 0)) {
		kvm->eax = MAX(kvm->eax, 0x40000010u);
		cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
			.function = 0x40000010, .eax = tsc_khz, .ebx = 1000000};
	}
}
