// SPDX-License-Identifier: BSD-2-Clause
/*
 * The bus: which device answers at an address. One for MMIO, one for ports.
 *
 * Filled while the VM is built, then constant; look-ups take no lock, and are made by vCPU threads
 * (and by those that drain coalesced MMIO). Unknown addresses read as all ones, and are counted.
 */
#ifndef SKEP_BUS_H
#define SKEP_BUS_H

#include <stdatomic.h>
#include <stdint.h>

/* `offset` is relative to the range; `len` is 1, 2, 4 or 8, and the access lies inside the range.
 */
struct bus_ops {
	void (*read)(void *ctx, uint64_t offset, void *data, uint32_t len);
	void (*write)(void *ctx, uint64_t offset, const void *data, uint32_t len);
};

struct bus_range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *ctx;
};

#define BUS_MAX_RANGES 160u

struct bus {
	struct bus_range range[BUS_MAX_RANGES]; /* sorted by base */
	unsigned num_ranges;
	_Atomic uint64_t unknown; /* accesses to unknown addresses */
};

/* -EEXIST when the range overlaps another, -ENOSPC when the table is full. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *ctx);
void bus_read(struct bus *bus, uint64_t addr, void *data, uint32_t len);
void bus_write(struct bus *bus, uint64_t addr, const void *data, uint32_t len);

#endif
