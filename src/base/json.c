// SPDX-License-Identifier: BSD-2-Clause
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"

json_t *json_from_bytes(const char *text)
{
	_cleanup_free_ char *clean = NULL;
	json_t *whole;

	if (!text)
		return NULL;
	whole = json_string(text); /* refuses what is not UTF-8 */
	if (whole)
		return whole;
	clean = strdup(text);
	if (!clean)
		return NULL;
	for (char *p = clean; *p; p++)
		if (*p & 0x80)
			*p = '?';
	return json_string(clean);
}

char *json_to_text(json_t *doc)
{
	_cleanup_free_ char *text =
		doc ? json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(9) | JSON_ENSURE_ASCII)
		    : NULL;
	char *line = NULL;

	json_decref(doc);
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return NULL;
	return line;
}
