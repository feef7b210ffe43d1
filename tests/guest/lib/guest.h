// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a payload guest has: ports, MMIO, memory, text, checks, interrupts, CPUs.
 *
 * DOC: Theory of operation. A payload is one freestanding ELF, entered by PVH (start.S), that runs
 * the test which the words of its command line choose: "test=NAME key=value ...". It reports on the
 * first console found (console.c), one line a check, then powers off. It trusts nothing of the
 * monitor's code: constants come from the kernel's uapi headers and the specification.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ports and registers. */
static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

/* One access of exactly the width named, at any address below 4 GiB. */
#define MMIO_ACCESSORS(name, type, suffix, constraint)                                             \
	static inline type mmio_read##name(uint64_t address)                                       \
	{                                                                                          \
		type v;                                                                            \
		__asm__ volatile("mov" suffix " (%1), %0"                                          \
				 : "=" constraint(v)                                               \
				 : "r"(address)                                                    \
				 : "memory");                                                      \
		return v;                                                                          \
	}                                                                                          \
	static inline void mmio_write##name(uint64_t address, type v)                              \
	{                                                                                          \
		__asm__ volatile("mov" suffix " %0, (%1)" ::constraint(v), "r"(address)            \
				 : "memory");                                                      \
	}
MMIO_ACCESSORS(8, uint8_t, "b", "q")
MMIO_ACCESSORS(16, uint16_t, "w", "r")
MMIO_ACCESSORS(32, uint32_t, "l", "r")
MMIO_ACCESSORS(64, uint64_t, "q", "r")

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}
static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}
#define barrier()    __asm__ volatile("" ::: "memory")
#define full_fence() __asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc")

/* start.S */
uint64_t ring0(uint64_t op, uint64_t a, uint64_t b);
#define RING0_RDMSR 0u
#define RING0_WRMSR 1u
#define RING0_CPUID 2u /* EAX, EBX in the upper half */
#define RING0_STOP  3u
/* Leaves the CPU by a triple fault. */
__attribute__((noreturn)) void triple_fault(void);

/* memory.c: RAM as the monitor's memory map has it (below 4 GiB; what lies above is only counted).
 */
struct ram_range {
	uint64_t base, size;
};
extern struct ram_range ram[16];
extern unsigned num_ram;
extern uint64_t ram_top; /* end of the highest range, above 4 GiB too */
void memory_init(uint64_t memmap, uint32_t entries);
bool is_ram(uint64_t address);
/* Identity-maps whole GiB, at 4 GiB or above, up to 512 GiB. */
void map_high(uint64_t base, uint64_t size);
void *alloc(size_t size, size_t align); /* zeroed; panics when there is no more */
size_t heap_mark(void);
void heap_release(size_t mark); /* forgets everything allocated since */

void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

/* A pseudo-random sequence (xorshift64*). */
uint64_t random64(uint64_t *state);

/* The value of the first word with this key after the one whose value is `after` (NULL: of all). */
const char *cmdline_next(const char *key, const char *after);
/* The last of several words with the same key counts. */
const char *cmdline_get(const char *key); /* up to the next blank: NUL-terminated; NULL: absent */
uint64_t cmdline_u64(const char *key, uint64_t otherwise);

/* Text: %s %c %d %u %x, l, and %0N. */
__attribute__((format(printf, 1, 2))) void print(const char *fmt, ...);
void vprint(const char *fmt, va_list ap);
/* Console: the backends try themselves in turn; until one is found text is kept. */
void console_init(void);
void console_write(const char *text, size_t len);
bool console_is_virtio(void);
void console_lost(void); /* the test has taken the virtio console; console_init() gets it back */

/* Checks: one line each. A failed one says where, with its values. */
void check_report(bool ok, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define CHECK(cond, ...)     check_report((cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_EQ(a, b, what) check_equal((uint64_t)(a), (uint64_t)(b), __FILE__, __LINE__, what)
bool check_equal(uint64_t got, uint64_t want, const char *file, int line, const char *what);
/* The test cannot be made here, for this reason. */
void check_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Ends the test at once, as failed. */
__attribute__((noreturn, format(printf, 1, 2))) void panic(const char *fmt, ...);
__attribute__((noreturn)) void power_off(void);

/* Waiting: true when cond(ctx) came true within PATIENCE_S seconds (tests/patience.sh). */
uint64_t deadline_in(unsigned seconds);
bool past(uint64_t deadline);
#define WAIT_UNTIL(cond)                                                                           \
	({                                                                                         \
		uint64_t deadline_ = deadline_in(PATIENCE_S);                                      \
		bool ok_;                                                                          \
		while (!(ok_ = (cond)) && !past(deadline_))                                        \
			cpu_relax();                                                               \
		ok_;                                                                               \
	})
void delay_us(unsigned us);

/* clock.c: nanoseconds from kvmclock. */
bool clock_init(void); /* false: no kvmclock here */
uint64_t clock_ns(uint64_t tsc);

/* irq.c: interrupts. Vectors 32 to 63 are free for use. */
void irq_init(void);
/* Routes an I/O APIC pin, edge-triggered, to `vector` on APIC ID `cpu`. */
void irq_route(unsigned pin, uint8_t vector, uint8_t cpu);
void irq_mask(unsigned pin);
uint32_t ioapic_read(uint8_t reg);
void ioapic_write(uint8_t reg, uint32_t v);
uint32_t lapic_read(uint32_t reg);
void lapic_write(uint32_t reg, uint32_t v);
extern volatile uint32_t irq_count[64]; /* by vector, all CPUs */

/* smp.c: starts the CPU by INIT and SIPI; it runs fn(arg), then stops. False: it did not come up.
 */
bool smp_start(uint8_t apic_id, void (*fn)(void *), void *arg);

/* The tests, by the name that the command line chooses; ends with an empty entry. */
struct guest_test {
	const char *name;
	void (*run)(void);
};
extern const struct guest_test guest_tests[];

#endif
