// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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

int inherited_take(int fd)
{
	for (int i = 0; i < num_inherited; i++)
		if (inherited[i] == fd) {
			int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST);

			return copy < 0 ? -errno : copy;
		}
	return -EBADF;
}

int inherited_stream(unsigned fd, struct error *e)
{
	int copy = inherited_take((int)fd), flags = copy < 0 ? 0 : fcntl(copy, F_GETFL), again;

	if (copy < 0)
		return error_set(e, copy, "skep did not get it from who started it");
	again = open_again(copy, flags & O_ACCMODE);
	if (again >= 0) {
		close(copy);
		return again;
	}
	return fcntl(copy, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : copy;
}

void inherited_close(void)
{
	for (int i = 0; i < num_inherited; i++)
		close(inherited[i]);
	free(inherited);
	inherited = NULL;
	num_inherited = 0;
}
