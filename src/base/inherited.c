// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/util.h"

#define FIRST (STDERR_FILENO + 1)

static int *inherited;
static int num_inherited;

void inherited_note(void)
{
	num_inherited = open_descriptors(&inherited);
	if (num_inherited < 0 && close_range(FIRST, ~0u, 0))
		for (int fd = FIRST; fd < 1024; fd++)
			close(fd);
}

int inherited_take(int fd, struct error *e)
{
	int copy;

	for (int i = 0; i < num_inherited; i++)
		if (inherited[i] == fd) {
			copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST);
			return copy < 0 ? error_set(e, -errno, "%m") : copy;
		}
	return error_set(e, -EBADF, "skep did not get it from who started it");
}

bool is_connected_stream(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int), peer_len = sizeof(peer);
	int type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
	       getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0;
}

static bool is_stream(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ||
				       S_ISCHR(st.st_mode) || is_connected_stream(fd));
}

int inherited_stream(unsigned fd, struct error *e)
{
	int copy = inherited_take((int)fd, e), flags = copy < 0 ? 0 : fcntl(copy, F_GETFL), again;

	if (copy < 0)
		return copy;
	again = open_again(copy, flags & O_ACCMODE);
	if (again < 0 && is_stream(copy) && fcntl(copy, F_SETFL, flags | O_NONBLOCK) == 0)
		return copy;
	close(copy);
	return again >= 0 ? again
			  : error_set(e, -EINVAL,
				      "is no stream of bytes: pass a connected stream socket, a "
				      "pipe, a terminal or a file");
}

void inherited_close(void)
{
	for (int i = 0; i < num_inherited; i++)
		close(inherited[i]);
	free(inherited);
	inherited = NULL;
	num_inherited = 0;
}
