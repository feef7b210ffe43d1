// SPDX-License-Identifier: BSD-2-Clause
/* What the thread of the socket device calls. */
#include <sys/socket.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define VSOCK OWN(0)

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(VSOCK),    /* a client's first line is read by read() */
	CALL(VSOCK, readv),   /* data to the guest; that from it is written by writev() */
	CALL(VSOCK, connect), /* the guest connects to PATH_PORT; a filter cannot see to where */
	CALL(VSOCK, shutdown),
	CALL(VSOCK, close),
	/* Of the one socket that listens. */
	CALL_IF(VSOCK, accept4, INT_IS(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	/* No network, and nothing but streams. */
	CALL_IF2(VSOCK, socket, INT_IS(0, AF_UNIX),
		 INT_IS(1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)),
};

const struct sandbox_rows vsock_sandbox = {
	.roles = {"vsock"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
