// SPDX-License-Identifier: BSD-2-Clause
/* What the console's threads call. The device itself is on the control loop. */
#include <fcntl.h>
#include <termios.h>

#include "base/util.h"
#include "sandbox/rows.h"

static const struct sandbox_row rows[] = {
	IOCTL(CONTROL, TIOCGWINSZ), /* the terminal's size */
	/* The file is full: it is copied to another one. */
	CALL(OWN(0), lseek),
	CALL(OWN(0), pread64),
	CALL(OWN(0), ftruncate),
	/* Output goes to another file, or to the next client. */
	CALL_IF(CONTROL, dup3, INT_IS(2, O_CLOEXEC)),
};

const struct sandbox_rows console_sandbox = {
	.roles = {"writer"}, /* writes output, as all roles may */
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
