// SPDX-License-Identifier: BSD-2-Clause
/*
 * Hardware-reduced ACPI (ACPI 6.5, section 4.1): RSDP, XSDT, FADT, MADT, DSDT.
 *
 * The DSDT has one LNRO0005 device a virtio-mmio window, the generic event device (ACPI0013) on
 * LAYOUT_GSI_GED and the power button (PNP0C0C).
 */
#ifndef SKEP_ACPI_H
#define SKEP_ACPI_H

#include "base/error.h"
#include "kvm/bus.h"
#include "kvm/gmem.h"

struct acpi_machine {
	unsigned cpus;	  /* APIC IDs 0 to cpus - 1 */
	unsigned devices; /* virtio-mmio devices; n is at LAYOUT_VIRTIO_MMIO + n * stride, GSI
			     LAYOUT_GSI_DEVICE + n */
};

/* Writes all tables at LAYOUT_ACPI and returns the RSDP's address. -ENOSPC when they do not fit. */
int acpi_build(const struct gmem *mem, const struct acpi_machine *machine, gpa_t *ret_rsdp,
	       struct error *e);

/* The byte that makes the sum of all `len` bytes 0, where there is a 0 yet. */
uint8_t acpi_checksum(const void *data, size_t len);

/*
 * The control ports at LAYOUT_ACPI_PORT, the only ports there are:
 *   +0 sleep control (write SLP_EN | SLP_TYP 5 << 2: power-off)   +1 sleep status
 *      (SLP_TYP 6, which is in no table: the default guest found nothing to boot)
 *   +2 reset (write ACPI_RESET_VALUE)   +3 events for the GED (read clears; bit 0: power button)
 */
#define ACPI_PORT_SLEEP_CONTROL 0u
#define ACPI_PORT_SLEEP_STATUS	1u
#define ACPI_PORT_RESET		2u
#define ACPI_PORT_EVENT		3u
#define ACPI_PORTS		4u
#define ACPI_RESET_VALUE	1u
#define ACPI_SLP_TYP_S5		5u
#define ACPI_SLP_TYP_GAVE_UP	6u
#define ACPI_EVENT_POWER_BUTTON 1u

struct acpi_pm {
	_Atomic uint8_t events;
	int irq_fd;		      /* eventfd of LAYOUT_GSI_GED */
	void (*power_off)(void *ctx); /* vCPU thread */
	void (*give_up)(void *ctx);   /* vCPU thread */
	void (*reset)(void *ctx);     /* vCPU thread */
	void *ctx;
};
extern const struct bus_ops acpi_pm_bus_ops; /* ctx is the struct acpi_pm */

/* Presses the power button. Any thread. */
void acpi_pm_power_button(struct acpi_pm *pm);

#endif
