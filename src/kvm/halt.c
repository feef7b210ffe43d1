// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Guests that are halted for good. KVM handles HLT itself, and a CPU that halts with
 * interrupts off never continues. Linux halts that way (`halt -f`, a power-off without ACPI), and
 * so do other guests when they panic. When all CPUs have halted, nothing ever happens in the VM
 * again.
 *
 * KVM does not report this, so machine_check_halted() is called from time to time. While a vCPU
 * thread uses CPU time, there is nothing to do. Otherwise each vCPU is made to leave KVM_RUN, and
 * checks its own state, which no other thread can do. Only another CPU could still wake such a CPU,
 * by an INIT, a SIPI or an NMI.
 */
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/util.h"
#include "inside.h"

uint64_t machine_cpu_time(const struct machine *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->num_vcpus; i++) {
		clockid_t clock;

		if (!pthread_getcpuclockid(m->vcpu[i].thread, &clock))
			sum += clock_ns(clock);
	}
	return sum;
}

void machine_check_halted(struct machine *m)
{
	uint64_t now = machine_cpu_time(m);
	bool idle = now == m->halt.cpu_time;

	m->halt.cpu_time = now;
	if (!idle)
		return;
	atomic_store(&m->halt.tally, ((atomic_load(&m->halt.tally) >> 32) + 1) << 32);
	for (unsigned i = 0; i < m->num_vcpus; i++)
		vcpu_kick(&m->vcpu[i]);
}

/* Halted with interrupts off, or not started yet. */
static bool is_halted(const struct vcpu *v)
{
	struct kvm_mp_state state;

	if (ioctl(v->fd, KVM_GET_MP_STATE, &state) < 0)
		return false;
	if (state.mp_state == KVM_MP_STATE_HALTED)
		return !v->run->if_flag;
	return state.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	       state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

void vcpu_answer_halted(struct vcpu *v)
{
	struct machine *m = v->machine;
	uint64_t tally = atomic_load(&m->halt.tally);
	uint32_t round = (uint32_t)(tally >> 32);

	if (v->halt_round == round)
		return;
	v->halt_round = round;
	if (!is_halted(v))
		return;
	while (!atomic_compare_exchange_weak(&m->halt.tally, &tally, tally + 1))
		if (tally >> 32 != round)
			return; /* too late: it will be asked again */
	if ((uint32_t)tally + 1 == m->num_vcpus)
		m->ended(m->ctx, VCPU_HALTED, NULL);
}
