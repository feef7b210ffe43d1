// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whose CID is whose.
 *
 * DOC: Theory of operation. A VM has the abstract Unix address "skep/vsock/CID" for as long as it
 * lives. The kernel forgets the address with the process; no file is left behind, and no privilege
 * is needed. Nobody listens there.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "vsock.h"

static int bind_cid(int fd, uint32_t cid)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "skep/vsock/%u", cid);

	return bind(fd, (const struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0
		       ? -errno
		       : 0;
}

int vsock_take_cid(uint32_t cid, uint32_t *ret, struct error *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return error_set(e, -errno, "cannot create a socket: %m");
	*ret = cid ? cid : VSOCK_FIRST_CID;
	r = bind_cid(fd, *ret);
	while (r == -EADDRINUSE && !cid && *ret < VSOCK_LAST_CID)
		r = bind_cid(fd, ++*ret);
	if (r == 0)
		return fd;
	close(fd);
	if (r == -EADDRINUSE)
		return error_set(
			e, r, "CID %u is another VM's: choose one that is free, or cid=auto", cid);
	return error_set(e, r, "cannot take CID %u: %m", *ret);
}
