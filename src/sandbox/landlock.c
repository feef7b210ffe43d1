// SPDX-License-Identifier: BSD-2-Clause
/* Where a thread that opens files may do so. */
#include <errno.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "sandbox/sandbox.h"

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* Linux 5.19 */
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* Linux 6.2 */
#endif

#define ALL_V1	((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITING (~(uint64_t)(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_BLOCK))

static int restrict_to(int ruleset, int dir, uint64_t access)
{
	struct landlock_path_beneath_attr in_dir = {.allowed_access = access, .parent_fd = dir};

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &in_dir, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -errno;
	return 0;
}

int sandbox_confine(int dir, bool writable, struct error *e)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs =
						     ALL_V1 | LANDLOCK_ACCESS_FS_REFER};
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int ruleset, r;

	if (SANITIZED)
		return 0;
	/* The first version forbids all renames between directories. */
	if (version < 2) {
		log_info("no Landlock, which would confine the shared directory's thread to it");
		return 0;
	}
	if (version >= 3)
		attr.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
	ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
	if (ruleset < 0)
		return error_set(e, -errno, "cannot enter the sandbox: Landlock: %m");
	r = restrict_to(ruleset, dir,
			attr.handled_access_fs & (writable ? WRITING : (uint64_t)READING));
	close(ruleset);
	return r < 0 ? error_set(e, r, "cannot enter the sandbox: Landlock: %m") : 0;
}
