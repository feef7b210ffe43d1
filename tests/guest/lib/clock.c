// SPDX-License-Identifier: BSD-2-Clause
/* Time in a payload guest: the time stamp counter, in nanoseconds by kvmclock's factors. */
#include "guest.h"

#define MSR_KVM_SYSTEM_TIME_NEW	 0x4b564d01u
#define CPUID_KVM_SIGNATURE	 0x40000000u
#define CPUID_KVM_FEATURES	 0x40000001u
#define KVM_SIGNATURE_EBX	 0x4b4d564bu /* "KVMK" */
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)

struct pvclock_vcpu_time_info {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
} __attribute__((packed));

static struct pvclock_vcpu_time_info info __attribute__((aligned(64)));
static uint32_t mul;
static int shift;

bool clock_init(void)
{
	if (ring0(RING0_CPUID, CPUID_KVM_SIGNATURE, 0) >> 32 != KVM_SIGNATURE_EBX ||
	    !(ring0(RING0_CPUID, CPUID_KVM_FEATURES, 0) & KVM_FEATURE_CLOCKSOURCE2))
		return false;
	ring0(RING0_WRMSR, MSR_KVM_SYSTEM_TIME_NEW, (uint64_t)&info | 1);
	/* KVM fills it before the next guest instruction. */
	for (int tries = 0; tries < 1000; tries++) {
		barrier();
		mul = info.tsc_to_system_mul;
		shift = info.tsc_shift;
		if (mul && !(info.version & 1))
			return true;
		cpu_relax();
	}
	return false;
}

uint64_t clock_ns(uint64_t tsc)
{
	if (!mul) /* a guess that makes waits long rather than short */
		return tsc / 4;
	tsc = shift >= 0 ? tsc << shift : tsc >> -shift;
	return (uint64_t)(((unsigned __int128)tsc * mul) >> 32);
}

uint64_t deadline_in(unsigned seconds)
{
	return clock_ns(rdtsc()) + seconds * 1000000000ull;
}

bool past(uint64_t deadline)
{
	return clock_ns(rdtsc()) > deadline;
}

void delay_us(unsigned us)
{
	uint64_t end = clock_ns(rdtsc()) + us * 1000ull;

	while (!past(end))
		cpu_relax();
}
