// SPDX-License-Identifier: BSD-2-Clause
/*
 * MultiProcessor tables (Intel MultiProcessor Specification 1.4): CPUs, I/O APIC and its pins, for
 * kernels that do not read ACPI. Only with --mmio-cmdline; who reads ACPI never looks at them.
 */
#ifndef SKEP_MPTABLE_H
#define SKEP_MPTABLE_H

#include "base/error.h"
#include "kvm/gmem.h"

/*
 * Writes the tables at LAYOUT_MPTABLE: `cpus` processors with APIC IDs from 0, one I/O APIC whose
 * `pins` are edge-triggered ISA interrupts of the same number. -ENOSPC when they do not fit,
 * -EFAULT when there is no RAM.
 */
int mptable_build(const struct gmem *mem, unsigned cpus, unsigned pins, struct error *e);

#endif
