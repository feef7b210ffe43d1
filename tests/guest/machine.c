// SPDX-License-Identifier: BSD-2-Clause
/* Tests of the machine itself: what is there, CPUs, addresses where nothing is, interrupts. */
#include "tests.h"

void test_hello(void)
{
	print("# ram_top 0x%lx, %u devices, console %s\n", ram_top, num_vio_devices,
	      console_is_virtio() ? "virtio" : "serial");
	for (unsigned i = 0; i < num_vio_devices; i++)
		print("# device %u: id %u at 0x%lx pin %u features 0x%lx\n", i, vio_devices[i].id,
		      vio_devices[i].base, vio_devices[i].pin,
		      vio_device_features(&vio_devices[i]));
	CHECK(true, "alive");
}

#define MSR_IA32_MISC_ENABLE 0x1a0u

static volatile uint32_t cpus_seen;

static void count_cpu(void *arg)
{
	(void)arg;
	__atomic_fetch_add(&cpus_seen, 1, __ATOMIC_SEQ_CST);
}

void test_cpus(void)
{
	unsigned cpus = (unsigned)cmdline_u64("cpus", 1);

	for (unsigned i = 1; i < cpus; i++)
		CHECK(smp_start((uint8_t)i, count_cpu, NULL), "CPU %u starts", i);
	CHECK(WAIT_UNTIL(cpus_seen == cpus - 1), "%u further CPUs ran", cpus - 1);
}

/* What performance counters would need is said to be missing (Intel SDM, volume 4,
 * IA32_MISC_ENABLE).
 */
void test_msrs(void)
{
	CHECK_EQ(ring0(RING0_RDMSR, MSR_IA32_MISC_ENABLE, 0), 1u | 1u << 11 | 1u << 12,
		 "MISC_ENABLE: fast strings, no BTS, no PEBS");
}

#define VECTOR		  40u
#define LAPIC_ICR_LOW	  0x300u
#define ICR_SELF	  0x40000u
#define IOAPIC_VERSION	  1u
#define IOAPIC_BASE	  0xfec00000u
#define PIN_POWER_BUTTON  1u
#define PORT_EVENT	  0x603u
#define PORT_RESET	  0x602u
#define PORT_SLEEP	  0x600u
#define GAVE_UP		  (1u << 5 | 6u << 2) /* SLP_EN, SLP_TYP */
#define PORT_I8042	  0x64u
#define PORT_CF9	  0xcf9u
#define I8042_OUTPUT_FULL 0x1u
#define I8042_INPUT_FULL  0x2u

/* The local APIC, and the I/O APIC: pins for the GED and each device, and no more. */
void test_apic(void)
{
	unsigned pins = ((ioapic_read(IOAPIC_VERSION) >> 16) & 0xff) + 1;

	for (unsigned i = 1; i <= 100; i++) {
		lapic_write(LAPIC_ICR_LOW, ICR_SELF | VECTOR);
		if (!WAIT_UNTIL(irq_count[VECTOR] == i)) {
			CHECK(false, "interrupt %u to oneself", i);
			return;
		}
	}
	CHECK(true, "100 interrupts to oneself");
	CHECK_EQ(pins, SKEP_FIRST_PIN + num_vio_devices, "pins of the I/O APIC");
	for (unsigned pin = 0; pin < pins; pin++) {
		uint8_t reg = (uint8_t)(0x10 + 2 * pin);

		if (!CHECK_EQ(ioapic_read(reg) & 0x10000, 0x10000, "a pin is masked at first"))
			return;
		ioapic_write((uint8_t)(reg + 1), 0x01000000);
		ioapic_write(reg, 0x10000 | (32 + pin % 16));
		if (!CHECK_EQ(ioapic_read(reg) & 0x1ffff, 0x10000 | (32 + pin % 16), "vector") ||
		    !CHECK_EQ(ioapic_read((uint8_t)(reg + 1)), 0x01000000, "destination"))
			return;
	}
	/* Registers beyond the pins, and windows of other widths: no harm. */
	for (unsigned reg = 0x10 + 2 * pins; reg < 0x100; reg++) {
		ioapic_write((uint8_t)reg, 0);
		(void)ioapic_read((uint8_t)reg);
	}
	ioapic_write(3, 0xffffffff);
	for (uint64_t at = IOAPIC_BASE; at < IOAPIC_BASE + 0x100; at += 8) {
		mmio_write8(at, 0xff);
		mmio_write64(at, ~0ull);
		(void)mmio_read8(at + 1);
		(void)mmio_read64(at);
	}
	CHECK_EQ(((ioapic_read(IOAPIC_VERSION) >> 16) & 0xff) + 1, pins, "pins after that");
}

/* What the runner expects in the counters "unknown_mmio" and "unknown_pio". */
#define HOLES 3u

/* Addresses and ports where nothing is: all ones, and writes that go nowhere. */
void test_unknown(void)
{
	static const uint16_t ports[] = {0x20,	0x21,  0x40,  0x43,  0x60,  0x61,  0x72,   0x73,
					 0xa0,	0x2f8, 0x3f8, 0x3fd, 0x4d0, 0xcf8, 0xcfc,  0x5ff,
					 0x604, 0x510, 0x80,  0xb2,  0x92,  0x1ce, 0x8000, 0xfff8};
	const uint64_t beyond = vio_devices[num_vio_devices - 1].base + 0x1000;
	const uint64_t holes[HOLES] = {beyond, 0xf0000000, 0xfed00000};
	uint64_t mmio = 0, pio = 0, wrong = 0;

	for (unsigned i = 0; i < HOLES; i++) {
		wrong += mmio_read8(holes[i] + 1) != 0xff;
		wrong += mmio_read16(holes[i] + 2) != 0xffff;
		wrong += mmio_read32(holes[i] + 4) != 0xffffffff;
		wrong += mmio_read64(holes[i] + 8) != ~0ull;
		mmio_write8(holes[i], 0);
		mmio_write16(holes[i], 0);
		mmio_write32(holes[i], 0);
		mmio_write64(holes[i], 0);
		mmio += 8;
	}
	CHECK_EQ(wrong, 0, "addresses where nothing is read as all ones");
	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		wrong += inb(ports[i]) != 0xff;
		wrong += inw(ports[i]) != 0xffff;
		wrong += inl(ports[i]) != 0xffffffff;
		outb(ports[i], 0);
		outw(ports[i], 0);
		outl(ports[i], 0);
		pio += 6;
	}
	CHECK_EQ(wrong, 0, "ports where nothing is read as all ones");
	print("# unknown_mmio=%lu unknown_pio=%lu\n", mmio, pio);
}

/* As Linux does with reboot=k: it polls "input buffer full" first, for 0.1 s and 65,536 exits where
 * it is never clear. */
static void i8042_reset(void)
{
	if (inb(PORT_I8042) & I8042_INPUT_FULL)
		panic("the keyboard controller that is not there is busy");
	if (!(inb(PORT_I8042) & I8042_OUTPUT_FULL))
		panic("a driver that looks for a keyboard controller finds one");
	outb(PORT_I8042, 0xfe);
}

/* As Linux does with reboot=p. */
static void cf9_reset(void)
{
	uint8_t rest = inb(PORT_CF9) & 0xf1;

	outb(PORT_CF9, rest | 0x02);
	outb(PORT_CF9, rest | 0x0e);
}

static void halt_cpu(void *arg)
{
	(void)arg;
	ring0(RING0_STOP, 0, 0);
}

/* The ways out: how=off|reset|i8042|cf9|triple|hang|halt|button|exception; halt=N CPUs beside. */
void test_end(void)
{
	const char *how = cmdline_get("how");

	if (cmdline_get("pins")) {
		/* An orderly driver masks what it unmasked before a reset; a panicking one does
		 * not. */
		irq_route(SKEP_FIRST_PIN, VECTOR, 0);
		if (!strcmp(cmdline_get("pins"), "masked"))
			irq_mask(SKEP_FIRST_PIN);
	}
	if (!strcmp(how, "button")) {
		/* An interrupt alone says nothing: unmasking gives one, for an edge that was lost.
		 */
		irq_route(PIN_POWER_BUTTON, VECTOR, 0);
		CHECK(WAIT_UNTIL(irq_count[VECTOR] > 0), "an interrupt after unmasking");
		CHECK_EQ(inb(PORT_EVENT), 0, "no event with it");
		irq_count[VECTOR] = 0;
		print("ready\n");
		CHECK(WAIT_UNTIL(irq_count[VECTOR] > 0), "the power button's interrupt");
		CHECK_EQ(inb(PORT_EVENT), 1, "its event");
		CHECK_EQ(inb(PORT_EVENT), 0, "is cleared by reading");
		return;
	}
	for (unsigned i = 1; i <= cmdline_u64("halt", 0); i++)
		CHECK(smp_start((uint8_t)i, halt_cpu, NULL), "CPU %u starts, and halts", i);
	while (!strcmp(how, "silent"))
		cpu_relax();
	CHECK(true, "leaving");
	if (!strcmp(how, "reset"))
		outb(PORT_RESET, 1);
	else if (!strcmp(how, "give-up"))
		outb(PORT_SLEEP, GAVE_UP);
	else if (!strcmp(how, "i8042"))
		i8042_reset();
	else if (!strcmp(how, "cf9"))
		cf9_reset();
	else if (!strcmp(how, "halt"))
		halt_cpu(NULL);
	else if (!strcmp(how, "triple"))
		triple_fault();
	else if (!strcmp(how, "hang"))
		for (;;)
			cpu_relax();
	else if (!strcmp(how, "exception"))
		__asm__ volatile("ud2");
	else if (strcmp(how, "off") != 0)
		panic("end: how?");
}
