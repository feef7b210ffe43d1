// SPDX-License-Identifier: BSD-2-Clause
/* Programs of the host that skep runs while a VM starts. */
#ifndef SKEP_CHILD_H
#define SKEP_CHILD_H

#include "base/error.h"

/*
 * Runs a program of the PATH with /dev/null as its input, `out` as its output and `extra` as its
 * descriptor 3 (-1: /dev/null, none), and waits until it ends. However skep ends meanwhile, so does the
 * program; what it has started by then, as one that goes into the background, stays. 0; -ENOENT: there is
 * no such program; -EIO: it failed, with the last line that it said, or what it ended by, as the message.
 */
int child_run(char *const argv[], int out, int extra, struct error *e);

#endif
