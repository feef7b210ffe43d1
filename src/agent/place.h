// SPDX-License-Identifier: BSD-2-Clause
/* Where commands run, and as whom. */
#ifndef SKEP_PLACE_H
#define SKEP_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#define AGENT_FAILED 125 /* exit statuses, as of a shell: the agent could not do its part; */
#define CANNOT_RUN   126
#define NOT_FOUND    127

/* AGENT_SETUP, whole: `len` bytes of records, of which the last one ends in NUL. */
struct setup {
	const char *text;
	size_t len;
};

/* The texts of all records of a kind, one after the other: NULL to begin with, and at the end. */
const char *setup_next(const struct setup *setup, char kind, const char *last);

/* Mounts the command's root and what else belongs there. Prints why not. */
bool place_make(const struct setup *setup);
/* The terminal's end that is the agent's, or -1: prints why not. */
int place_open_terminal(void);
/* Goes there with the calling process, which is the command's. Prints why not. */
bool place_enter(const struct setup *setup);
/* Becomes the command's user, who gets its streams, with its limits, environment, umask and directory.
 * Prints why not. */
bool place_become(const struct setup *setup);

#endif
