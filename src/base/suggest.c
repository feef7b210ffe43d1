// SPDX-License-Identifier: BSD-2-Clause
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/suggest.h"
#include "base/util.h"

#define MAX_LEN 32u

static int lower(char c)
{
	return tolower((unsigned char)c);
}

/* Optimal string alignment: Levenshtein's distance with swaps of neighbours. */
static unsigned edit_distance(const char *a, size_t alen, const char *b, size_t blen)
{
	unsigned row[3][MAX_LEN + 1];
	unsigned *before = row[0], *last = row[1], *now = row[2];

	for (unsigned j = 0; j <= blen; j++)
		last[j] = j;
	for (unsigned i = 1; i <= alen; i++) {
		unsigned *free_row = before;

		now[0] = i;
		for (unsigned j = 1; j <= blen; j++) {
			unsigned change = lower(a[i - 1]) != lower(b[j - 1]);

			now[j] = MIN(MIN(last[j] + 1, now[j - 1] + 1), last[j - 1] + change);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]))
				now[j] = MIN(now[j], before[j - 2] + 1);
		}
		before = last;
		last = now;
		now = free_row;
	}
	return last[blen];
}

void suggest_try(struct suggest *s, const char *name)
{
	size_t len = strlen(s->word), name_len = strlen(name);
	unsigned distance;

	if (len == 0 || len > MAX_LEN || name_len > MAX_LEN)
		return;
	if (len >= 2 && strncasecmp(s->word, name, len) == 0)
		distance = 0;
	else
		distance = edit_distance(s->word, len, name, name_len);
	if (distance > MAX(1u, (unsigned)MAX(len, name_len) / 3))
		return;
	if (!s->best || distance < s->distance) {
		s->best = name;
		s->distance = distance;
	}
}

const char *suggest_hint(struct suggest *s, const char *otherwise)
{
	if (!s->best)
		return otherwise;
	snprintf(s->hint, sizeof(s->hint), "did you mean '%s'?", s->best);
	return s->hint;
}
