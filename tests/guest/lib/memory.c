// SPDX-License-Identifier: BSD-2-Clause
/* Memory of a payload guest: the monitor's map, a bump allocator, and the usual functions. */
#include "guest.h"

struct hvm_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};
#define HVM_MEMMAP_RAM 1u

#define BELOW_4G 0x100000000ull

struct ram_range ram[16];
unsigned num_ram;
uint64_t ram_top;

extern char payload_end[];
extern uint64_t pdpt[512]; /* start.S */
static uint64_t heap_next, heap_end;

void memory_init(uint64_t memmap, uint32_t entries)
{
	const struct hvm_memmap_entry *e = (const void *)memmap;
	uint64_t first = (uint64_t)payload_end;

	for (uint32_t i = 0; i < entries; i++) {
		if (e[i].type != HVM_MEMMAP_RAM)
			continue;
		if (e[i].addr + e[i].size > ram_top)
			ram_top = e[i].addr + e[i].size;
		if (num_ram < sizeof(ram) / sizeof(ram[0]))
			ram[num_ram++] = (struct ram_range){e[i].addr, e[i].size};
		if (e[i].addr <= first && first < e[i].addr + e[i].size) {
			heap_next = (first + 4095) & ~4095ull;
			heap_end = e[i].addr + e[i].size;
		}
	}
	if (!num_ram) {
		/* A version 0 start info has no map. */
		ram[num_ram++] = (struct ram_range){0x100000, 63 << 20};
		ram_top = heap_end = 64 << 20;
		heap_next = (first + 4095) & ~4095ull;
	}
	if (heap_end > BELOW_4G)
		heap_end = BELOW_4G;
}

bool is_ram(uint64_t address)
{
	for (unsigned i = 0; i < num_ram; i++)
		if (address >= ram[i].base && address - ram[i].base < ram[i].size)
			return true;
	return false;
}

#define GIB	  (1ull << 30)
#define HUGE	  (2ull << 20)
#define PTE_FLAGS 0x67ull /* present, writable, of level 3, accessed, dirty */
#define PTE_HUGE  0x80ull

void map_high(uint64_t base, uint64_t size)
{
	for (uint64_t at = base; at < base + size; at += GIB) {
		uint64_t *table = alloc(4096, 4096);

		for (uint64_t i = 0; i < 512; i++)
			table[i] = (at + i * HUGE) | PTE_FLAGS | PTE_HUGE;
		pdpt[at / GIB] = (uint64_t)table | PTE_FLAGS;
	}
}

void *alloc(size_t size, size_t align)
{
	uint64_t at = (heap_next + align - 1) & ~(uint64_t)(align - 1);

	if (at + size < at || at + size > heap_end)
		panic("out of memory: %lu bytes", size);
	heap_next = at + size;
	return memset((void *)at, 0, size);
}

size_t heap_mark(void)
{
	return heap_next;
}

void heap_release(size_t mark)
{
	heap_next = mark;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n)::"memory");
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (uint8_t)*a - (uint8_t)*b;
}

uint64_t random64(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}
