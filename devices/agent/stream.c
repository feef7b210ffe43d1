// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "stream.h"

#define LITTLE 512u /* what a terminal that is ready takes at once */

void std_open(struct std_stream *ret, int fd, int flags)
{
	int again = open_again(fd, flags);
	struct stat st = {0};

	fstat(fd, &st);
	*ret = (struct std_stream){
		.fd = again >= 0 ? again : fd, .owned = again >= 0, .socket = S_ISSOCK(st.st_mode)};
	/* Files and the like are always ready. */
	ret->blocks = !ret->owned && (S_ISFIFO(st.st_mode) || isatty(fd));
}

void std_close(struct std_stream *s)
{
	if (s->owned)
		close(s->fd);
	s->owned = false;
}

static bool is_ready(const struct std_stream *s, short events)
{
	struct pollfd p = {.fd = s->fd, .events = events};

	return !s->blocks || poll(&p, 1, 0) > 0;
}

ssize_t std_read(const struct std_stream *s, void *buf, size_t len)
{
	ssize_t n;

	if (!is_ready(s, POLLIN))
		return -EAGAIN;
	n = s->socket ? recv(s->fd, buf, len, MSG_DONTWAIT) : read(s->fd, buf, len);
	return n < 0 ? -errno : n;
}

ssize_t std_write(const struct std_stream *s, const void *buf, size_t len)
{
	ssize_t n;

	if (!is_ready(s, POLLOUT))
		return -EAGAIN;
	n = s->socket ? send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
		      : write(s->fd, buf, s->blocks ? MIN(len, LITTLE) : len);
	return n < 0 ? -errno : n;
}
