// SPDX-License-Identifier: BSD-2-Clause
/* What the thread of a shared directory calls. Landlock says where it may. */
#include <fcntl.h>

#include "base/util.h"
#include "sandbox/rows.h"

#define FS OWN(0)

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(FS),
	/* Files and directories that the guest looks up, opens and makes. */
	CALL(FS, openat),
	CALL(FS, close),
	/* A copy, whose close tells of errors. */
	CALL_IF(FS, fcntl, INT_IS(1, F_DUPFD_CLOEXEC)),
	/* Locks. */
	CALL_IF(FS, fcntl, INT_IS(1, F_OFD_SETLK)),
	CALL_IF(FS, fcntl, INT_IS(1, F_OFD_GETLK)),
	CALL(FS, flock),
	CALL(FS, preadv),
	CALL(FS, pwritev),
	CALL(FS, fsync),
	CALL(FS, fdatasync),
	CALL(FS, syncfs),
	CALL(FS, ftruncate),
	CALL(FS, fallocate),
	CALL(FS, lseek),
	CALL(FS, copy_file_range),
	CALL(FS, getdents64),
	/* Names. */
	CALL(FS, readlinkat),
	CALL(FS, symlinkat),
	CALL(FS, mkdirat),
	CALL(FS, mknodat),
	CALL(FS, linkat),
	CALL(FS, unlinkat),
	CALL(FS, renameat), /* renameat2() without flags */
	CALL(FS, renameat2),
	/* Attributes. */
	CALL(FS, statx),
	CALL(FS, fstatfs),
	CALL(FS, chmod),
	CALL(FS, fchownat),
	CALL(FS, utimensat),
	CALL(FS, getxattr),
	CALL(FS, setxattr),
	CALL(FS, listxattr),
	CALL(FS, removexattr),
	/* What it makes belongs to the guest's user, where it has the capabilities. */
	CALL(FS, setfsuid),
	CALL(FS, setfsgid),
	CALL(FS, capset),
	/* When it starts: to have no more groups, and to get to nothing but the directory. */
	CALL(FS, geteuid),
	CALL(FS, getegid),
	CALL(FS, capget),
	CALL_IF(FS, setgroups, INT_IS(0, 0)),
	CALL(FS, landlock_create_ruleset),
	CALL(FS, landlock_add_rule),
	CALL(FS, landlock_restrict_self),
};

const struct sandbox_rows fs_sandbox = {
	.roles = {"fs"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
