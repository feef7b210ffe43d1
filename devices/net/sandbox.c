// SPDX-License-Identifier: BSD-2-Clause
/* What the threads of network devices call. */
#include <linux/if_tun.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define NET OWN(0)

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(NET),	   /* a packet that finds little room is read by read() */
	CALL(NET, readv),	   /* packets to the guest; those from it are written by writev() */
	IOCTL(NET, TUNSETOFFLOAD), /* the driver accepted some */
	IOCTL(NET, TUNSETQUEUE),   /* the driver uses more pairs, or fewer */
};

const struct sandbox_rows net_sandbox = {
	.roles = {"net"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
