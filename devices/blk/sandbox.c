// SPDX-License-Identifier: BSD-2-Clause
/* What the threads of disks call, and other threads for their sake. */
#include <fcntl.h>
#include <linux/fs.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define URING OWN(0)
#define SYNC  OWN(1) /* a worker's, too */

static const struct sandbox_row rows[] = {
	URING_LOOP(URING), EPOLL_LOOP(SYNC),

	CALL(URING | SYNC, fstat),	   /* image.c: what an image occupies */
	IOCTL(URING | SYNC, BLKGETSIZE64), /* no space, or a device that vanished? */

	/* sync.c, where the worker's are too; uring.c: writes that need no worker, and what needs
	 * one where the kernel cannot make it. */
	CALL(URING | SYNC, preadv2), CALL(URING | SYNC, pwritev2), CALL(URING | SYNC, fdatasync),
	CALL(URING | SYNC, fallocate), IOCTL(URING | SYNC, BLKDISCARD), IOCTL(SYNC, BLKSECDISCARD),

	/* image.c: a disk grows. */
	CALL(CONTROL_SOCKET, ftruncate), IOCTL(CONTROL_SOCKET, BLKGETSIZE64),

	CALL_IF(CONTROL, fcntl, INT_IS(1, F_OFD_SETLK)), /* filelock.c: lets go of images */
};

const struct sandbox_rows blk_sandbox = {
	.roles = {"disk-uring", "disk-sync"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
