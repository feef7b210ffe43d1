// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The guest sees two 32-bit registers: IOREGSEL chooses, IOWIN reads or
 * writes. Behind them are the identification, version and arbitration registers and, from 0x10 on,
 * the two halves of each pin's redirection entry. Each entry is turned into the MSI message that it
 * would send. set_routes() publishes the messages, but only when one of them has changed, since
 * that costs a grace period in the kernel. A guest writes an entry in halves and keeps it masked
 * meanwhile, so setting up a pin publishes once.
 */
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "kvm/ioapic.h"
#include "kvm/layout.h"

/* Intel 82093AA datasheet, section 3: the memory-mapped and the indirect registers. */
#define IOREGSEL 0x00u
#define IOWIN	 0x10u

#define REG_ID		0x00u
#define REG_VERSION	0x01u
#define REG_ARBITRATION 0x02u
#define REG_REDIRECTION 0x10u

#define VERSION_82093AA 0x11u /* below 0x20: there is no EOI register */
#define ID_MASK		0x0f000000u

#define ENTRY_VECTOR	    0x000000ffull
#define ENTRY_DELIVERY_MODE 0x00000700ull
#define ENTRY_LOGICAL	    (1ull << 11)
#define ENTRY_READ_ONLY	    (1ull << 12 | 1ull << 14) /* delivery status, remote IRR */
#define ENTRY_LEVEL	    (1ull << 15)
#define ENTRY_MASKED	    (1ull << 16)
#define ENTRY_LOW_WRITABLE  (0x0001ffffull & ~ENTRY_READ_ONLY)
#define ENTRY_HIGH_WRITABLE (0xff000000ull << 32)
#define ENTRY_DESTINATION   56

/* The MSI address that the local APICs answer at; the delivery mode has the same place in MSI data
 * as in an entry. */
#define MSI_ADDRESS	0xfee00000u
#define MSI_LOGICAL	(1u << 2)
#define MSI_DESTINATION 12

void ioapic_init(struct ioapic *ioapic, unsigned pins)
{
	*ioapic = (struct ioapic){.pins = MIN(pins, IOAPIC_MAX_PINS)};
	pthread_mutex_init(&ioapic->lock, NULL);
	for (unsigned i = 0; i < ioapic->pins; i++)
		ioapic->redirection[i] = ENTRY_MASKED;
}

static struct ioapic_route entry_to_route(uint64_t entry)
{
	if (entry & ENTRY_MASKED)
		return (struct ioapic_route){.valid = false};
	return (struct ioapic_route){
		.valid = true,
		.address_lo = MSI_ADDRESS |
			      (uint32_t)(entry >> ENTRY_DESTINATION) << MSI_DESTINATION |
			      (entry & ENTRY_LOGICAL ? MSI_LOGICAL : 0),
		.data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_DELIVERY_MODE)),
	};
}

static bool same_route(const struct ioapic_route *a, const struct ioapic_route *b)
{
	return a->valid == b->valid && a->address_lo == b->address_lo &&
	       a->address_hi == b->address_hi && a->data == b->data;
}

static void write_entry(struct ioapic *ioapic, unsigned pin, uint64_t entry)
{
	struct ioapic_route route = entry_to_route(entry);
	bool unmasked = route.valid && !ioapic->route[pin].valid;
	int r;

	ioapic->redirection[pin] = entry;
	if (route.valid && (entry & ENTRY_LEVEL) && !ioapic->level_reported) {
		ioapic->level_reported = true;
		log_warn("ioapic: the guest made pin %u level-triggered: only edge-triggered pins "
			 "exist",
			 pin);
	}
	if (same_route(&route, &ioapic->route[pin]) && !ioapic->stale)
		return;

	ioapic->route[pin] = route;
	r = ioapic->set_routes(ioapic->ctx, ioapic->route, ioapic->pins);
	ioapic->stale = r < 0;
	if (r < 0)
		log_guest("ioapic: cannot set the interrupt route of pin %u: %s", pin,
			  strerror(-r));
	if (unmasked) {
		ioapic->was_used = true;
		ioapic->kick_pin(ioapic->ctx, pin);
	}
}

/* The pin and the half of its entry that the selected register is; false when it is no entry. */
static bool selected_entry(const struct ioapic *ioapic, unsigned *ret_pin, bool *ret_high)
{
	if (ioapic->select < REG_REDIRECTION)
		return false;
	*ret_pin = (ioapic->select - REG_REDIRECTION) / 2;
	*ret_high = ioapic->select & 1;
	return *ret_pin < ioapic->pins;
}

static uint32_t read_register(const struct ioapic *ioapic)
{
	unsigned pin;
	bool high;

	if (selected_entry(ioapic, &pin, &high))
		return (uint32_t)(ioapic->redirection[pin] >> (high ? 32 : 0));
	switch (ioapic->select) {
	case REG_ID:
	case REG_ARBITRATION:
		return ioapic->id;
	case REG_VERSION:
		return VERSION_82093AA | (ioapic->pins - 1) << 16;
	default:
		return UINT32_MAX;
	}
}

static void write_register(struct ioapic *ioapic, uint32_t value)
{
	unsigned pin;
	bool high;

	if (selected_entry(ioapic, &pin, &high)) {
		uint64_t writable = high ? ENTRY_HIGH_WRITABLE : ENTRY_LOW_WRITABLE;
		uint64_t bits = (uint64_t)value << (high ? 32 : 0) & writable;

		write_entry(ioapic, pin, (ioapic->redirection[pin] & ~writable) | bits);
	} else if (ioapic->select == REG_ID) {
		ioapic->id = value & ID_MASK;
	}
}

/* Only aligned 32-bit accesses exist (section 3.1); others read as ones and write nothing. */
static void ioapic_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct ioapic *ioapic = ctx;
	uint32_t value = UINT32_MAX;

	memset(data, 0xff, len);
	if (len != sizeof(value))
		return;
	pthread_mutex_lock(&ioapic->lock);
	if (offset == IOREGSEL)
		value = ioapic->select;
	else if (offset == IOWIN)
		value = read_register(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	memcpy(data, &value, sizeof(value));
}

static void ioapic_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct ioapic *ioapic = ctx;
	uint32_t value;

	if (len != sizeof(value))
		return;
	memcpy(&value, data, sizeof(value));
	pthread_mutex_lock(&ioapic->lock);
	if (offset == IOREGSEL)
		ioapic->select = value & 0xff;
	else if (offset == IOWIN)
		write_register(ioapic, value);
	pthread_mutex_unlock(&ioapic->lock);
}

const struct bus_ops ioapic_bus_ops = {.read = ioapic_read, .write = ioapic_write};

bool ioapic_is_quiet(struct ioapic *ioapic)
{
	bool quiet;

	pthread_mutex_lock(&ioapic->lock);
	quiet = ioapic->was_used;
	for (unsigned i = 0; i < ioapic->pins; i++)
		quiet = quiet && (ioapic->redirection[i] & ENTRY_MASKED);
	pthread_mutex_unlock(&ioapic->lock);
	return quiet;
}
