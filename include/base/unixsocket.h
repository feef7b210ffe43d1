// SPDX-License-Identifier: BSD-2-Clause
/* Unix stream sockets by path. */
#ifndef SKEP_UNIXSOCKET_H
#define SKEP_UNIXSOCKET_H

#include <sys/un.h>

#include "base/error.h"

/* The address of the socket at `path`; -ENAMETOOLONG with a message. */
int unix_address(struct sockaddr_un *ret, const char *path, struct error *e);

/*
 * Makes a socket at `path`, of mode 0600 from the beginning, and listens: a descriptor that does not
 * block. A socket that is left there and on which nobody listens is replaced. A negative errno with
 * a message that does not repeat the path.
 */
int unix_listen(const char *path, int backlog, struct error *e);

/* Removes such a socket, and returns 0 also if nothing is there. */
int unix_remove_left(const char *path, struct error *e);

/* Locks a directory against others that do so, as unix_listen() does, until the descriptor is closed. -1
 * when that is not possible, or the lock is not to be had for two seconds: go on without. */
int unix_lock_directory(const char *dir);

#endif
