// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: While the VM is paused, each vCPU's thread waits outside of KVM_RUN. Pauses and what is between
 * them have numbers, odd ones and even ones; so a vCPU that is late for one does not count for the
 * next. Who pauses does not wait for the vCPUs, which may wait for its loop.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "inside.h"

/* The number, and in the lower half how many vCPUs wait. */
static uint32_t number(uint64_t tally)
{
	return (uint32_t)(tally >> 32);
}

void machine_pause(struct machine *m, bool paused)
{
	uint32_t now = number(atomic_load(&m->pause));

	if (now % 2 == paused)
		return;
	atomic_store(&m->pause, (uint64_t)(now + 1) << 32);
	for (unsigned i = 0; i < m->num_vcpus; i++) {
		if (paused)
			vcpu_kick(&m->vcpu[i]);
		else
			sem_post(&m->vcpu[i].go);
	}
}

bool machine_is_paused(const struct machine *m)
{
	uint64_t tally = atomic_load(&m->pause);

	return number(tally) % 2 && (uint32_t)tally == m->num_vcpus;
}

void vcpu_wait_paused(struct vcpu *v)
{
	struct machine *m = v->machine;
	uint64_t tally = atomic_load(&m->pause);
	uint32_t mine = number(tally);

	do {
		if (mine % 2 == 0 || number(tally) != mine)
			return;
	} while (!atomic_compare_exchange_weak(&m->pause, &tally, tally + 1));
	if ((uint32_t)tally + 1 == m->num_vcpus)
		m->paused(m->ctx);
	while (number(atomic_load(&m->pause)) == mine && !atomic_load(&m->stop))
		sem_wait(&v->go);
	/* So that the guest's watchdog does not take the time for a hang; without kvmclock it is refused. */
	ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
}
