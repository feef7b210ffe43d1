// SPDX-License-Identifier: BSD-2-Clause
/* Interrupts and exceptions of a payload guest: descriptor table, local APIC, I/O APIC. */
#include "guest.h"

#define LAPIC_BASE   0xfee00000u
#define LAPIC_TPR    0x80u
#define LAPIC_EOI    0xb0u
#define LAPIC_SVR    0xf0u
#define SVR_ENABLE   0x100u
#define SPURIOUS     63u
#define IOAPIC_BASE  0xfec00000u
#define IOAPIC_WIN   0x10u
#define REDIR(pin)   (uint8_t)(0x10u + 2u * (pin))
#define REDIR_MASKED 0x10000u

#define SEL_USER_CODE64 0x28u
/* Trap gates: an interrupt gate clears IF, and a software KVM does not see level 3's IRETQ set it.
 * So interrupts may nest. */
#define GATE_LEVEL3_TRAP 0xef00u

struct gate {
	uint16_t offset_low, selector, type, offset_mid;
	uint32_t offset_high, reserved;
};
extern struct gate idt[256];
extern char vector_stubs[];

volatile uint32_t irq_count[64];

void vector_handler(uint64_t vector, uint64_t error, uint64_t address);
__attribute__((noreturn)) void exception_report(uint64_t vector, uint64_t error, uint64_t address);

uint32_t lapic_read(uint32_t reg)
{
	return mmio_read32(LAPIC_BASE + reg);
}

void lapic_write(uint32_t reg, uint32_t v)
{
	mmio_write32(LAPIC_BASE + reg, v);
}

uint32_t ioapic_read(uint8_t reg)
{
	mmio_write32(IOAPIC_BASE, reg);
	return mmio_read32(IOAPIC_BASE + IOAPIC_WIN);
}

void ioapic_write(uint8_t reg, uint32_t v)
{
	mmio_write32(IOAPIC_BASE, reg);
	mmio_write32(IOAPIC_BASE + IOAPIC_WIN, v);
}

void irq_route(unsigned pin, uint8_t vector, uint8_t cpu)
{
	ioapic_write(REDIR(pin), REDIR_MASKED);
	ioapic_write((uint8_t)(REDIR(pin) + 1), (uint32_t)cpu << 24);
	ioapic_write(REDIR(pin), vector); /* fixed, physical, edge, active high */
}

void irq_mask(unsigned pin)
{
	ioapic_write(REDIR(pin), REDIR_MASKED);
}

static void set_gate(unsigned vector)
{
	uint64_t target = (uint64_t)vector_stubs + 16u * vector;

	idt[vector] = (struct gate){
		.offset_low = (uint16_t)target,
		.selector = SEL_USER_CODE64 | 3,
		.type = GATE_LEVEL3_TRAP,
		.offset_mid = (uint16_t)(target >> 16),
	};
}

void irq_init(void)
{
	for (unsigned v = 0; v < 64; v++)
		if (v != 6) /* start.S has it */
			set_gate(v);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_SVR, SVR_ENABLE | SPURIOUS);
}

void exception_report(uint64_t vector, uint64_t error, uint64_t address)
{
	panic("exception %lu, error 0x%lx, at 0x%lx", vector, error, address);
}

void vector_handler(uint64_t vector, uint64_t error, uint64_t address)
{
	if (vector < 32)
		exception_report(vector, error, address);
	__atomic_fetch_add(&irq_count[vector], 1, __ATOMIC_SEQ_CST);
	if (vector != SPURIOUS)
		lapic_write(LAPIC_EOI, 0);
}

void triple_fault(void)
{
	/* No gate left: the breakpoint, then the fault about it, have nowhere to go. */
	memset(idt, 0, sizeof(idt[0]) * 256);
	for (;;)
		__asm__ volatile("int3");
}
