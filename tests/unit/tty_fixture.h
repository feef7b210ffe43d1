// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The terminal is the process's, so each test runs in a child: with a new
 * session, the far end of a pseudo-terminal as standard input, output and error, and the parent at
 * the near end as the user.
 */
#ifndef SKEP_TTY_FIXTURE_H
#define SKEP_TTY_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "console/tty.h"
#include "patience.h"

#define DIE_IF(condition)                                                                          \
	do {                                                                                       \
		if (condition)                                                                     \
			_exit(100 + __LINE__ % 100);                                               \
	} while (0)

static const struct console_config stdio_config = {.mode = CONSOLE_STDIO};
static const struct device_host host = {.config = NULL};

static int pty;	    /* the user's end */
static int far_end; /* kept open by the parent, to look at */
static struct termios before;
static const struct winsize window = {.ws_col = 132, .ws_row = 43};

static inline int setup(void **state)
{
	(void)state;
	if (openpty(&pty, &far_end, NULL, NULL, &window) < 0 || tcgetattr(far_end, &before) < 0)
		return -1;
	return fcntl(pty, F_SETFL, O_NONBLOCK);
}

static inline int teardown(void **state)
{
	(void)state;
	close(pty);
	close(far_end);
	return 0;
}

static inline int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Writes to the console and ends its output: bytes that went out. */
static inline uint64_t put(struct tty *tty, const void *data, size_t len)
{
	uint64_t old = tty_stop(tty).written;

	DIE_IF(tty_start(tty, NULL, NULL, NULL));
	tty_write(tty, data, len);
	return tty_stop(tty).written - old;
}

#endif
