// SPDX-License-Identifier: BSD-2-Clause
/* What the payload writes to disks and the host looks for there: every byte depends on a seed and
 * on its sector and its place in it. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_SECTOR 512u

static inline uint64_t pattern_word(uint64_t seed, uint64_t sector, uint64_t word)
{
	uint64_t x = (seed << 48) + (sector << 6) + word + 1;

	/* The finalizer of splitmix64: neighbours differ in about half their bits. */
	x *= 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* `n` bytes from the start of `sector` on. */
static inline void pattern_fill(void *buf, size_t n, uint64_t seed, uint64_t sector)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(pattern_word(seed, sector + i / PATTERN_SECTOR,
					      i % PATTERN_SECTOR / 8) >>
				 i % 8 * 8);
}

/* The offset of the first byte that is not the pattern's; `n` when all are. */
static inline size_t pattern_check(const void *buf, size_t n, uint64_t seed, uint64_t sector)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < n; i++)
		if (p[i] != (uint8_t)(pattern_word(seed, sector + i / PATTERN_SECTOR,
						   i % PATTERN_SECTOR / 8) >>
				      i % 8 * 8))
			return i;
	return n;
}

#endif
