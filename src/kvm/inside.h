// SPDX-License-Identifier: BSD-2-Clause
/* A machine from the inside, for the files of this room. */
#ifndef SKEP_KVM_INSIDE_H
#define SKEP_KVM_INSIDE_H

#include <signal.h>

#include "kvm/machine.h"

#define VCPU_SIGNAL (SIGRTMIN + 1)

/* vcpu.c */
int vcpu_create(struct machine *m, struct vcpu *v, unsigned index, struct error *e);
void vcpu_destroy(struct vcpu *v);
/* See machine_start(). */
int vcpu_start(struct vcpu *v, int (*setup)(void *arg), void *arg, struct error *e);

/* Makes KVM_RUN return. Any thread. */
static inline void vcpu_kick(const struct vcpu *v)
{
	if (v->started)
		pthread_kill(v->thread, VCPU_SIGNAL);
}

/* pause.c: returns when the machine is not paused, or ends. */
void vcpu_wait_paused(struct vcpu *v);

/* halt.c: on the vCPU's thread, after a kick. */
void vcpu_answer_halted(struct vcpu *v);

/*
 * cpuid.c: fits the CPUID leaves that KVM supports to vCPU `index` of `cpus`: one package of
 * single-thread cores, APIC ID = index, TSC deadline timer, hypervisor bit, and the timing leaf
 * 0x40000010 when tsc_khz is known; neither nested virtualisation nor performance counters. `cpuid`
 * has room for CPUID_EXTRA more entries. Pure.
 */
#define CPUID_EXTRA 4u
void cpuid_fit(struct kvm_cpuid2 *cpuid, unsigned index, unsigned cpus, uint32_t tsc_khz);

/* The bits of a guest physical address that this host's processors translate; pure, too. */
unsigned cpuid_address_bits(const struct kvm_cpuid2 *cpuid);

#endif
