// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Unknown ports read as all ones, which tells most drivers that there is no device. But two
 * drivers wait for a bit to become clear. And guests reset the machine as they would a PC, whether
 * the device exists or not: the intention is clear, so it is a reset here.
 */
#include <assert.h>
#include <string.h>

#include "base/util.h"
#include "kvm/layout.h"
#include "kvm/legacy.h"

static const struct legacy_rule {
	uint16_t port;
	uint8_t reads;	     /* each read gives this */
	uint8_t mask, value; /* a write of a byte b with (b & mask) == value resets */
} ports[] = {
	/* The keyboard controller. Linux resets by it once "input buffer full" (bit 1) is clear;
	 * its driver finds no controller where there is always another byte to fetch (bit 0). */
	{0x64, 0xfd, 0xff, 0xfe},
	/* The real-time clock's data: never "update in progress" (register A, bit 7), nor "time
	 * valid" (register D, bit 7). No byte resets. */
	{0x71, 0x7f, 0, 1},
	/* The chipset's reset control: RST_CPU (bit 2). */
	{0xcf9, 0, 0x04, 0x04},
};

static_assert(ARRAY_SIZE(ports) == LEGACY_PORTS, "struct legacy has them all");

/* mov $0xfe, %al; out %al, $0x64; 1: hlt; jmp 1b */
static const uint8_t reset_code[] = {0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd};

static void legacy_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	const struct legacy_port *port = ctx;

	(void)offset;
	memset(data, port->rule->reads, len);
}

static void legacy_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	const struct legacy_port *port = ctx;
	uint8_t byte;

	(void)offset, (void)len;
	memcpy(&byte, data, sizeof(byte));
	if ((byte & port->rule->mask) == port->rule->value)
		port->all->reset(port->all->ctx);
}

static const struct bus_ops legacy_bus_ops = {.read = legacy_read, .write = legacy_write};

int legacy_add(struct legacy *legacy, struct bus *pio)
{
	int r = 0;

	for (unsigned i = 0; !r && i < LEGACY_PORTS; i++) {
		legacy->port[i] = (struct legacy_port){legacy, &ports[i]};
		r = bus_add(pio, ports[i].port, 1, &legacy_bus_ops, &legacy->port[i]);
	}
	return r;
}

int legacy_write_reset_vector(const struct gmem *mem)
{
	return gmem_write(mem, GPA(LAYOUT_RESET_VECTOR), reset_code, sizeof(reset_code));
}
