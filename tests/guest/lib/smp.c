// SPDX-License-Identifier: BSD-2-Clause
/* Further CPUs of a payload guest (Intel SDM volume 3, "Multiple-Processor Initialization"). */
#include "guest.h"

#define LAPIC_ICR_LOW  0x300u
#define LAPIC_ICR_HIGH 0x310u
#define ICR_INIT       0x4500u
#define ICR_STARTUP    0x4600u

#define TRAMPOLINE 0x8000u
#define STACK_SIZE 16384u

extern char ap_trampoline[], ap_trampoline_end[];
uint32_t ap_stack;
uint32_t ap_argument;
__attribute__((noreturn)) void ap_main(void *arg);

static void (*ap_function)(void *);
static void *ap_function_arg;
static volatile bool ap_up;

void ap_main(void *arg)
{
	void (*fn)(void *) = ap_function;

	arg = ap_function_arg;
	lapic_write(0xf0, 0x100 | 63);
	ap_up = true;
	fn(arg);
	for (;;)
		ring0(RING0_STOP, 0, 0);
}

bool smp_start(uint8_t apic_id, void (*fn)(void *), void *arg)
{
	memcpy((void *)TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	ap_stack = (uint32_t)(uintptr_t)alloc(STACK_SIZE, 16) + STACK_SIZE;
	ap_function = fn;
	ap_function_arg = arg;
	ap_up = false;
	full_fence();
	lapic_write(LAPIC_ICR_HIGH, (uint32_t)apic_id << 24);
	lapic_write(LAPIC_ICR_LOW, ICR_INIT);
	delay_us(10000);
	lapic_write(LAPIC_ICR_HIGH, (uint32_t)apic_id << 24);
	lapic_write(LAPIC_ICR_LOW, ICR_STARTUP | TRAMPOLINE >> 12);
	return WAIT_UNTIL(ap_up);
}
