// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "kvm/acpi.h"
#include "kvm/layout.h"
#include "kvm/mptable.h"

/* Section numbers are those of the MultiProcessor Specification 1.4. All fields are little-endian.
 */

struct mp_floating { /* 4.1 */
	char signature[4];
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t features[5];
} __attribute__((packed));

struct mp_header { /* 4.2 */
	char signature[4];
	uint16_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem[8];
	char product[12];
	uint32_t oem_table;
	uint16_t oem_size;
	uint16_t entries;
	uint32_t lapic;
	uint16_t extended_length;
	uint8_t extended_checksum;
	uint8_t reserved;
} __attribute__((packed));

struct mp_processor { /* 4.3.1 */
	uint8_t type; /* 0 */
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
} __attribute__((packed));

struct mp_bus {	      /* 4.3.2 */
	uint8_t type; /* 1 */
	uint8_t id;
	char name[6];
} __attribute__((packed));

struct mp_ioapic {    /* 4.3.3 */
	uint8_t type; /* 2 */
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t address;
} __attribute__((packed));

struct mp_interrupt { /* 4.3.4 */
	uint8_t type; /* 3 */
	uint8_t kind; /* 0: INT */
	uint16_t flags;
	uint8_t bus, bus_irq;
	uint8_t apic, pin;
} __attribute__((packed));

#define REVISION_1_4   4u
#define APIC_VERSION   0x14u
#define IOAPIC_VERSION 0x11u
#define CPU_ENABLED    1u
#define CPU_BOOT       2u
#define ACTIVE_HIGH    1u
#define EDGE	       (1u << 2)

static_assert(sizeof(struct mp_floating) + sizeof(struct mp_header) +
			      LAYOUT_MAX_CPUS * sizeof(struct mp_processor) +
			      sizeof(struct mp_bus) + sizeof(struct mp_ioapic) +
			      LAYOUT_MAX_GSIS * sizeof(struct mp_interrupt) <=
		      LAYOUT_MPTABLE_SIZE,
	      "the largest machine fits");
static_assert(LAYOUT_MPTABLE + LAYOUT_MPTABLE_SIZE <= LAYOUT_RESET_VECTOR,
	      "the reset vector is behind the tables");

struct area {
	uint8_t *base;
	size_t len;
	uint16_t entries;
};

static void add(struct area *area, const void *entry, size_t size)
{
	memcpy(area->base + area->len, entry, size);
	area->len += size;
	area->entries++;
}

static void add_entries(struct area *area, unsigned cpus, unsigned pins)
{
	struct mp_bus bus = {.type = 1, .name = {'I', 'S', 'A', ' ', ' ', ' '}};
	struct mp_ioapic ioapic = {
		.type = 2, .version = IOAPIC_VERSION, .flags = 1, .address = LAYOUT_IOAPIC};

	for (unsigned i = 0; i < cpus; i++) {
		struct mp_processor cpu = {.apic_id = (uint8_t)i,
					   .apic_version = APIC_VERSION,
					   .flags = i ? CPU_ENABLED : CPU_ENABLED | CPU_BOOT};

		add(area, &cpu, sizeof(cpu));
	}
	add(area, &bus, sizeof(bus));
	add(area, &ioapic, sizeof(ioapic));
	for (unsigned i = 0; i < pins; i++) {
		struct mp_interrupt irq = {.type = 3,
					   .flags = ACTIVE_HIGH | EDGE,
					   .bus_irq = (uint8_t)i,
					   .pin = (uint8_t)i};

		add(area, &irq, sizeof(irq));
	}
}

int mptable_build(const struct gmem *mem, unsigned cpus, unsigned pins, struct error *e)
{
	struct mp_floating floating = {
		.signature = {'_', 'M', 'P', '_'},
		.table = LAYOUT_MPTABLE + sizeof(floating),
		.length = 1,
		.revision = REVISION_1_4,
	};
	struct mp_header header = {
		.signature = {'P', 'C', 'M', 'P'},
		.revision = REVISION_1_4,
		.oem = {'S', 'K', 'E', 'P', ' ', ' ', ' ', ' '},
		.product = {'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ', ' ', ' ', ' ', ' '},
		.lapic = LAYOUT_LAPIC,
	};
	struct area area = {.len = sizeof(floating) + sizeof(header)};
	void *base;
	int r;

	if (cpus > LAYOUT_MAX_CPUS || pins > LAYOUT_MAX_GSIS)
		return error_set(e, -ENOSPC,
				 "the MP tables of %u CPUs and %u interrupts do not fit", cpus,
				 pins);
	r = gmem_slice(mem, GPA(LAYOUT_MPTABLE), LAYOUT_MPTABLE_SIZE, &base);
	if (r)
		return error_set(e, r, "guest memory is too small for the MP tables");
	area.base = base;
	add_entries(&area, cpus, pins);
	floating.checksum = acpi_checksum(&floating, sizeof(floating));
	header.length = (uint16_t)(area.len - sizeof(floating));
	header.entries = area.entries;
	memcpy(area.base, &floating, sizeof(floating));
	memcpy(area.base + sizeof(floating), &header, sizeof(header));
	header.checksum = acpi_checksum(area.base + sizeof(floating), header.length);
	memcpy(area.base + sizeof(floating), &header, sizeof(header));
	return 0;
}
