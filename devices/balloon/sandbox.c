// SPDX-License-Identifier: BSD-2-Clause
/* The balloon is on the control loop, and what it does, madvise() with MADV_DONTNEED, may all. */
#include "sandbox/rows.h"

const struct sandbox_rows balloon_sandbox = {.num = 0};
