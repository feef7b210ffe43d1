// SPDX-License-Identifier: BSD-2-Clause
#include "base/util.h"
#include "kvm/machine.h"

/*
 * KVM moves `last`, and machine_drain() `first`. An entry is applied before `first` passes it, so an
 * empty ring means that all earlier ACKs are in.
 */
void machine_drain(void *machine)
{
	struct machine *m = machine;
	struct kvm_coalesced_mmio_ring *ring = m->coalesced;
	uint32_t first, last;

	if (!ring)
		return;
	/* In this order: `first` read before a `last` of much later could equal it by a whole turn.
	 */
	last = __atomic_load_n(&ring->last, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ring->first, __ATOMIC_SEQ_CST) == last)
		return;
	pthread_mutex_lock(&m->drain_lock);
	first = ring->first;
	/* Those that come meanwhile are not waited for: vCPUs could go on without end. */
	last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	while (first != last) {
		const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[first];

		bus_write(&m->mmio, entry->phys_addr, entry->data, MIN(entry->len, 8u));
		first = (first + 1) % m->coalesced_max;
		__atomic_store_n(&ring->first, first, __ATOMIC_SEQ_CST);
		m->drained++;
	}
	pthread_mutex_unlock(&m->drain_lock);
}
