// SPDX-License-Identifier: BSD-2-Clause
/*
 * Descriptors that the process inherited, other than the standard streams. A compromised thread
 * could use them, so they are closed, but only when skep has opened its files: a path may name one
 * of them (/dev/fd/63, from a shell's <(...)).
 */
#ifndef SKEP_INHERITED_H
#define SKEP_INHERITED_H

#include <stdbool.h>

#include "base/error.h"

/* Remembers them; called first in main(). Without /proc no path can name them: they are closed. */
void inherited_note(void);
/* A copy of one of them, that an exec closes; -EBADF: it was not inherited. Before inherited_close().
 * With a message. */
int inherited_take(int fd, struct error *e);
/* The same of a stream of bytes (else -EINVAL), which does not block then; a terminal or pipe, of which
 * others may have the description, is opened anew. */
int inherited_stream(unsigned fd, struct error *e);
bool is_connected_stream(int fd); /* a socket */
/* Closes them, once skep has opened everything. */
void inherited_close(void);

#endif
