// SPDX-License-Identifier: BSD-2-Clause
/* How long tests wait for what must come: tests/patience.sh. */
#ifndef SKEP_TEST_PATIENCE_H
#define SKEP_TEST_PATIENCE_H

#include <stdint.h>

int patience_ms(void);

/* For a loop: now_ns() at the end of its patience. */
uint64_t patience_end(void);

#endif
