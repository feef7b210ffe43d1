// SPDX-License-Identifier: BSD-2-Clause
/* What the thread of a port calls. */
#include <sys/socket.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define PORT OWN(0)

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(PORT),
	CALL(PORT, readv), /* data to the guest; that from it is written by write() */
	CALL(PORT, close), /* of a client that has gone */
	/* Of the one socket that listens. */
	CALL_IF(PORT, accept4, INT_IS(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
};

const struct sandbox_rows vport_sandbox = {
	.roles = {"port"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
