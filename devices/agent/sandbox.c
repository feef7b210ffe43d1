// SPDX-License-Identifier: BSD-2-Clause
/* What the thread between the standard streams and the guest's agent calls. The port has its own. */
#include <sys/socket.h>
#include <termios.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define AGENT OWN(0)

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(AGENT),
	/* Streams that are sockets. */
	CALL_IF(AGENT, recvfrom, INT_IS(3, MSG_DONTWAIT)),
	CALL_IF(AGENT, sendto, INT_IS(3, MSG_DONTWAIT | MSG_NOSIGNAL)),
	CALL(AGENT, close),	  /* of the port, when the guest breaks the protocol */
	IOCTL(AGENT, TIOCGWINSZ), /* the terminal's size */
};

const struct sandbox_rows agent_sandbox = {
	.roles = {"agent"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
