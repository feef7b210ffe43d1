// SPDX-License-Identifier: BSD-2-Clause
/* What jansson lacks. */
#ifndef SKEP_JSON_H
#define SKEP_JSON_H

#include <jansson.h>

/* A JSON string from any bytes: what is not UTF-8 (a file name need not be) becomes '?'. NULL when
 * out of memory, or when `text` is NULL. */
json_t *json_from_bytes(const char *text);

/* The text of a whole document, indented and ended by a newline; releases `doc`. NULL when out of
 * memory. Freed by the caller. */
char *json_to_text(json_t *doc);

#endif
