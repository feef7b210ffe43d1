// SPDX-License-Identifier: BSD-2-Clause
/*
 * The user's directory for what lives as long as a VM: skep in $XDG_RUNTIME_DIR. For root it is
 * /run/skep; $XDG_RUNTIME_DIR counts only where it is no login session's, which services do not have.
 * Each VM with a name has a directory there, with its control socket.
 */
#ifndef SKEP_RUNTIME_H
#define SKEP_RUNTIME_H

#include <stdbool.h>

#include "base/error.h"

#define RUNTIME_SOCKET "control" /* in a VM's directory */

/* Its path, to be freed; `make` makes it. NULL with a message where there is none, or where others
 * may write to it. Any thread. */
char *runtime_directory(bool make, struct error *e);

/* The control socket of the VM that is called `vm`, which may also be that socket's path: what has no
 * slash is a name first. To be freed; NULL when memory is short. Whether a VM listens there, only
 * connecting tells. Any thread. */
char *runtime_socket(const char *vm);

#endif
