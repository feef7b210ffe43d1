// SPDX-License-Identifier: BSD-2-Clause
/* "Did you mean ...?" */
#ifndef SKEP_SUGGEST_H
#define SKEP_SUGGEST_H

#include <stddef.h>

/* The best candidate so far; starts as {.word = what was typed}. */
struct suggest {
	const char *word;
	const char *best; /* NULL: nothing is near enough */
	unsigned distance;
	char hint[80];
};

/*
 * Considers one known name: letters missing, added, changed or swapped count one each, case
 * nothing, and a name that begins with what was typed is nearest of all. More than a third of the
 * letters wrong is not near. `name` is borrowed.
 */
void suggest_try(struct suggest *s, const char *name);

/* What ends "unknown ...: ": "did you mean 'NAME'?", or `otherwise` when nothing is near. Valid as
 * long as `s` and `otherwise`. */
const char *suggest_hint(struct suggest *s, const char *otherwise);

#endif
