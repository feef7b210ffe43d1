// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <string.h>

#include "kvm/bus.h"

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *ctx)
{
	unsigned i;

	if (bus->num_ranges == BUS_MAX_RANGES)
		return -ENOSPC;
	for (i = bus->num_ranges; i > 0 && bus->range[i - 1].base > base; i--)
		;
	if (i > 0 && base - bus->range[i - 1].base < bus->range[i - 1].size)
		return -EEXIST;
	if (i < bus->num_ranges && bus->range[i].base - base < size)
		return -EEXIST;
	memmove(&bus->range[i + 1], &bus->range[i], (bus->num_ranges - i) * sizeof(bus->range[0]));
	bus->range[i] = (struct bus_range){.base = base, .size = size, .ops = ops, .ctx = ctx};
	bus->num_ranges++;
	return 0;
}

/* The range that holds all `len` bytes at `addr`, or NULL. */
static const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, uint32_t len)
{
	unsigned lo = 0, hi = bus->num_ranges;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;
		const struct bus_range *r = &bus->range[mid];

		if (addr < r->base)
			hi = mid;
		else if (addr - r->base >= r->size)
			lo = mid + 1;
		else
			return len <= r->size - (addr - r->base) ? r : NULL;
	}
	return NULL;
}

void bus_read(struct bus *bus, uint64_t addr, void *data, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, addr, len);

	if (r) {
		r->ops->read(r->ctx, addr - r->base, data, len);
		return;
	}
	memset(data, 0xff, len);
	atomic_fetch_add_explicit(&bus->unknown, 1, memory_order_relaxed);
}

void bus_write(struct bus *bus, uint64_t addr, const void *data, uint32_t len)
{
	const struct bus_range *r = bus_find(bus, addr, len);

	if (r)
		r->ops->write(r->ctx, addr - r->base, data, len);
	else
		atomic_fetch_add_explicit(&bus->unknown, 1, memory_order_relaxed);
}
