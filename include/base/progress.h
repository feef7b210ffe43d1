// SPDX-License-Identifier: BSD-2-Clause
/* A progress bar on a terminal, for what takes longer than two seconds. */
#ifndef SKEP_PROGRESS_H
#define SKEP_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PROGRESS_DELAY_NS  2000000000u
#define PROGRESS_PERIOD_NS 200000000u

struct progress {
	FILE *out; /* NULL: nothing is drawn */
	uint64_t total, start_ns, next_ns;
	bool drawn;
};

/* `out` counts only when it is a terminal; `total` is bytes, `now` what now_ns() says. */
void progress_begin(struct progress *p, FILE *out, uint64_t total, uint64_t now);
/* `done` bytes of the total are; draws when it is time to. */
void progress_show(struct progress *p, uint64_t done, uint64_t now);
/* Takes the bar off the terminal, before anything else is written there. */
void progress_end(struct progress *p);

/* The line as it is drawn, at most `columns` - 1 wide. */
void progress_line(char *ret, size_t len, unsigned columns, uint64_t done, uint64_t total,
		   uint64_t elapsed_ns);

#endif
