// SPDX-License-Identifier: BSD-2-Clause
/* A fuzzer's input as a stream of decisions; when it ends, all of them are 0. */
#ifndef SKEP_FUZZ_INPUT_H
#define SKEP_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct input {
	const uint8_t *data;
	size_t size;
};

/* What has to hold whatever the input is. */
#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __func__, __LINE__, #cond);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static inline bool input_left(const struct input *in)
{
	return in->size > 0;
}

static inline uint8_t take8(struct input *in)
{
	if (!in->size)
		return 0;
	in->size--;
	return *in->data++;
}

static inline uint16_t take16(struct input *in)
{
	uint16_t low = take8(in);

	return (uint16_t)(low | take8(in) << 8);
}

static inline uint32_t take32(struct input *in)
{
	uint32_t low = take16(in);

	return low | (uint32_t)take16(in) << 16;
}

static inline uint64_t take64(struct input *in)
{
	uint64_t low = take32(in);

	return low | (uint64_t)take32(in) << 32;
}

#endif
