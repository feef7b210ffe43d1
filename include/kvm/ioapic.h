// SPDX-License-Identifier: BSD-2-Clause
/*
 * The I/O APIC (Intel 82093AA): as many pins as the VM has interrupts, each mirrored into an MSI
 * route (KVM_SET_GSI_ROUTING), so that irqfds are injected at once.
 *
 * All pins are edge-triggered and active high (the DSDT says so), so there are no EOIs. A pin that
 * is unmasked gets one interrupt, because an edge may have been lost while it was masked; a
 * spurious interrupt is harmless to a virtio driver and to the GED.
 */
#ifndef SKEP_IOAPIC_H
#define SKEP_IOAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "kvm/bus.h"

#define IOAPIC_MAX_PINS 240u

/* One route: an MSI message, or nothing when the pin is masked. */
struct ioapic_route {
	bool valid;
	uint32_t address_lo, address_hi, data;
};

struct ioapic {
	pthread_mutex_t lock; /* vCPU threads write registers */
	unsigned pins;
	uint32_t id, select;
	uint64_t redirection[IOAPIC_MAX_PINS];
	bool was_used;	     /* some pin was unmasked once */
	bool level_reported; /* a level-triggered entry was seen, and logged */
	bool stale;	     /* set_routes failed: the next register write tries again */
	struct ioapic_route route[IOAPIC_MAX_PINS]; /* what set_routes was last called with */
	/* Makes route[0..pins) current: KVM_SET_GSI_ROUTING in a VM, a recorder in tests. */
	int (*set_routes)(void *ctx, const struct ioapic_route *route, unsigned pins);
	/* Interrupts pin once (writes its eventfd). */
	void (*kick_pin)(void *ctx, unsigned pin);
	void *ctx;
};

/* All pins are masked. `pins` is at most IOAPIC_MAX_PINS. The caller sets the callbacks, which are
 * called with the lock held, so that routes are published in order. */
void ioapic_init(struct ioapic *ioapic, unsigned pins);
extern const struct bus_ops ioapic_bus_ops; /* ctx is the struct ioapic; LAYOUT_IOAPIC_SIZE bytes */

/*
 * Whether the guest has shut its interrupts down: it used pins, and has masked all of them. An
 * orderly reboot does that (Linux: native_machine_shutdown() clears the I/O APIC), the emergency
 * restart of a panic does not. Any thread.
 */
bool ioapic_is_quiet(struct ioapic *ioapic);

#endif
