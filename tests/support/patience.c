// SPDX-License-Identifier: BSD-2-Clause
#include <stdlib.h>

#include "base/util.h"
#include "patience.h"

int patience_ms(void)
{
	const char *factor = getenv("SKEP_PATIENCE");

	return PATIENCE_S * 1000 * (factor ? atoi(factor) : 1);
}

uint64_t patience_end(void)
{
	return now_ns() + (uint64_t)patience_ms() * 1000000;
}
