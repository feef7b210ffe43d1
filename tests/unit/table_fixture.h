// SPDX-License-Identifier: BSD-2-Clause
/* Reading tables as a kernel does. */
#ifndef SKEP_TABLE_FIXTURE_H
#define SKEP_TABLE_FIXTURE_H

#include <stdint.h>
#include <string.h>

static inline uint64_t load(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, p, bytes);
	return v;
}

static inline uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

#endif
