// SPDX-License-Identifier: BSD-2-Clause
/* What the threads of network devices call. */
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <sys/socket.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define TAP	OWN(0)
#define STREAM	(OWN(1) | LISTEN | CONNECT)
#define LISTEN	OWN(2) /* on a socket that listens */
#define CONNECT OWN(3) /* on one that connects again */
#define VHOST	OWN(4) /* on a tap whose packets the kernel moves */

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(TAP | STREAM | VHOST), /* frames of a stream are read by read() */
	CALL(TAP, readv), /* packets to the guest; those from it are written by writev() */
	IOCTL(TAP | VHOST, TUNSETOFFLOAD), /* the driver accepted some */
	IOCTL(TAP | VHOST, TUNSETQUEUE),   /* the driver uses more pairs, or fewer */
	CALL(STREAM, close),		   /* a connection has ended, or was refused */
	CALL_IF(LISTEN, accept4, INT_IS(3, SOCK_NONBLOCK | SOCK_CLOEXEC)),
	CALL(CONNECT, connect), /* a filter cannot see to where */
	CALL_IF2(CONNECT, socket, INT_IS(0, AF_UNIX),
		 INT_IS(1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)),
	/* A queue becomes the kernel's ... */
	IOCTL(VHOST, VHOST_SET_FEATURES), IOCTL(VHOST, VHOST_SET_VRING_NUM),
	IOCTL(VHOST, VHOST_SET_VRING_BASE), IOCTL(VHOST, VHOST_SET_VRING_ADDR),
	IOCTL(VHOST, VHOST_SET_VRING_KICK), IOCTL(VHOST, VHOST_SET_VRING_CALL),
	IOCTL(VHOST, VHOST_SET_VRING_ERR), IOCTL(VHOST, VHOST_NET_SET_BACKEND),
	IOCTL(VHOST, VHOST_GET_VRING_BASE), /* ... and ours again */
};

const struct sandbox_rows net_sandbox = {
	.roles = {"net-tap", "net-stream", "net-listen", "net-connect", "net-vhost"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
