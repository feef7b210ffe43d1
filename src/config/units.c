// SPDX-License-Identifier: BSD-2-Clause
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "config/units.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first; of several names the first is written. */
static const struct unit size_units[] = {
	{"T", GIB << 10}, {"TiB", GIB << 10}, {"G", GIB},   {"GiB", GIB}, {"M", MIB},
	{"MiB", MIB},	  {"K", KIB},	      {"KiB", KIB}, {"B", 1},	  {NULL, 0},
};

static const struct unit duration_units[] = {
	{"h", 3600 * NSEC_PER_SEC},
	{"m", 60 * NSEC_PER_SEC},
	{"min", 60 * NSEC_PER_SEC},
	{"s", NSEC_PER_SEC},
	{"ms", 1000000},
	{"us", 1000},
	{"ns", 1},
	{NULL, 0},
};

/* DIGITS[.DIGITS][UNIT] times the unit's factor, cut to a whole number. -EINVAL, -ERANGE. */
static int parse_with_unit(const char *text, const struct unit *units, uint64_t bare_factor,
			   uint64_t max, uint64_t *ret)
{
	unsigned __int128 value, fraction = 0, scale = 1;
	uint64_t whole, factor = bare_factor;
	bool overflow;
	char *p;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	whole = strtoull(text, &p, 10);
	overflow = errno == ERANGE;
	if (*p == '.') {
		p++;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++)
			if (scale < NSEC_PER_SEC * 1000000) { /* later digits cannot matter */
				fraction = fraction * 10 + (unsigned)(*p - '0');
				scale *= 10;
			}
	}
	if (*p) {
		while (units->name && strcasecmp(units->name, p) != 0)
			units++;
		if (!units->name)
			return -EINVAL;
		factor = units->factor;
	}
	if (factor == 1 && scale != 1)
		return -EINVAL;
	value = (unsigned __int128)whole * factor + fraction * factor / scale;
	if (overflow || value > max)
		return -ERANGE;
	*ret = (uint64_t)value;
	return 0;
}

/* Nothing is that of the unit `zero`. */
static void format_with_unit(uint64_t value, const struct unit *units, uint64_t zero, char ret[32])
{
	while (value ? value % units->factor != 0 : units->factor != zero)
		units++;
	snprintf(ret, 32, "%llu%s", (unsigned long long)(value / units->factor), units->name);
}

int config_parse_size(const char *text, uint64_t unit, uint64_t *ret, struct error *e)
{
	int r = parse_with_unit(text, size_units, unit, UINT64_MAX, ret);

	if (r == -ERANGE)
		return error_set(e, r, "'%.40s' is too large a size", text);
	if (r < 0)
		return error_set(e, r, "'%.40s' is not a size: write it like 512M or 4G", text);
	return 0;
}

int config_parse_duration(const char *text, uint64_t *ret, struct error *e)
{
	int r = parse_with_unit(text, duration_units, NSEC_PER_SEC, INT64_MAX, ret);

	if (r == -ERANGE)
		return error_set(e, r, "'%.40s' is too long a time", text);
	if (r < 0)
		return error_set(e, r, "'%.40s' is not a time: write it like 90s, 5m or 250ms",
				 text);
	return 0;
}

void setting_format_size(uint64_t bytes, char ret[32])
{
	format_with_unit(bytes, size_units, 1, ret);
}

void setting_format_duration(uint64_t ns, char ret[32])
{
	format_with_unit(ns, duration_units, NSEC_PER_SEC, ret);
}
