// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/pty.h"

static int set_up(int fd)
{
	static const struct winsize size = {.ws_col = 80, .ws_row = 24};
	struct termios raw;

	if (tcgetattr(fd, &raw) < 0)
		return -errno;
	cfmakeraw(&raw);
	return tcsetattr(fd, TCSANOW, &raw) < 0 || ioctl(fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

int pty_open(int *ret_other, char ret_name[PTY_NAME_LEN], struct error *e)
{
	int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), other = -1, r;

	if (fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 &&
	    ptsname_r(fd, ret_name, PTY_NAME_LEN) == 0)
		other = open(ret_name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	r = other < 0 ? -errno : set_up(other);
	if (r == 0) {
		*ret_other = other;
		return fd;
	}
	if (other >= 0)
		close(other);
	if (fd >= 0)
		close(fd);
	return error_set(e, r, "cannot make a pseudo-terminal: %m");
}
