// SPDX-License-Identifier: BSD-2-Clause
#include "base/util.h"
#include "sandbox/rows.h"

static const struct sandbox_row rows[] = {
	CALL(CONTROL, getrandom), /* what the guest gets */
};

const struct sandbox_rows rng_sandbox = {.rows = rows, .num = ARRAY_SIZE(rows)};
