// SPDX-License-Identifier: BSD-2-Clause
/* Numbers with a unit: sizes and times, as text. */
#ifndef SKEP_UNITS_H
#define SKEP_UNITS_H

#include <stdint.h>

#include "base/error.h"

/* Parses "512", "512M", "4G", "1.5G" (B, K, M, G, T, also as KiB: powers of 1024; a bare number counts `unit`
 * bytes). -EINVAL, or -ERANGE on overflow, with a message. */
int config_parse_size(const char *text, uint64_t unit, uint64_t *ret, struct error *e);
/* Parses "90", "90s", "5m", "1.5h", "250ms" (ns, us, ms, s, m or min, h) into nanoseconds, at most
 * INT64_MAX. -EINVAL, or -ERANGE on overflow, with a message. */
int config_parse_duration(const char *text, uint64_t *ret, struct error *e);

/* Write the shortest exact text that the parsers read back. */
void setting_format_size(uint64_t bytes, char ret[32]);
void setting_format_duration(uint64_t ns, char ret[32]);

#endif
