// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unixsocket.h"
#include "base/util.h"

#define LOCK_WAIT_NS (2 * NSEC_PER_SEC)
#define LOCK_POLL_US 5000u

/* Removes what is at this address, if it is a socket on which nobody listens. */
static int replace(const struct sockaddr_un *addr, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return error_set(e, -errno, "cannot create a socket: %m");
	if (lstat(addr->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return error_set(e, -EEXIST, "exists and is not a socket: choose another path");
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return error_set(e, -EADDRINUSE, "is in use by a running VM: choose another path");
	if (errno != ECONNREFUSED && errno != ENOENT)
		return error_set(e, -errno, "exists already: %m");
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return error_set(e, -errno,
				 "was left behind by another VM and cannot be removed: %m");
	return 0;
}

int unix_address(struct sockaddr_un *ret, const char *path, struct error *e)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret->sun_path))
		return error_set(
			e, -ENAMETOOLONG,
			"is longer than the %zu bytes that a socket's path may have: choose a "
			"shorter or a relative path",
			sizeof(ret->sun_path) - 1);
	strcpy(ret->sun_path, path);
	return 0;
}

/*
 * Only one VM at a time may replace a socket that was left behind: otherwise the slower of two
 * would remove the faster one's. So the directory is locked meanwhile, but if that is not possible,
 * or somebody keeps it locked, skep goes on without.
 */
int unix_lock_directory(const char *dir)
{
	uint64_t end = now_ns() + LOCK_WAIT_NS;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK &&
	       now_ns() < end)
		usleep(LOCK_POLL_US);
	return fd;
}

static int make_listener(const char *path, int backlog, struct error *e)
{
	struct sockaddr_un addr;
	const struct sockaddr *a = (const struct sockaddr *)&addr;
	int fd, r;

	r = unix_address(&addr, path, e);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* bind() gives the socket's mode to its name, which never has another. */
	if (fd < 0 || fchmod(fd, 0600) < 0) {
		r = error_set(e, -errno, "cannot create a socket: %m");
		goto fail;
	}
	r = bind(fd, a, sizeof(addr)) < 0 ? -errno : 0;
	if (r == -EADDRINUSE) {
		r = replace(&addr, e);
		if (r < 0)
			goto fail;
		r = bind(fd, a, sizeof(addr)) < 0 ? -errno : 0;
	}
	if (r == 0 && listen(fd, backlog) < 0) {
		r = -errno;
		unlink(path);
	}
	if (r == 0)
		return fd;
	error_set(e, r, "cannot create the socket: %m");
fail:
	if (fd >= 0)
		close(fd);
	return r;
}

int unix_listen(const char *path, int backlog, struct error *e)
{
	_cleanup_free_ char *copy = strdup(path);
	int lock = copy ? unix_lock_directory(dirname(copy)) : -1;
	int fd = make_listener(path, backlog, e);

	if (lock >= 0)
		close(lock);
	return fd;
}

int unix_remove_left(const char *path, struct error *e)
{
	struct sockaddr_un addr;
	int r = unix_address(&addr, path, e);

	return r < 0 ? r : replace(&addr, e);
}
