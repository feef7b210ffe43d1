// SPDX-License-Identifier: BSD-2-Clause
/* Where a thread that opens files may do so. */
#include <errno.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
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

/* From now on this thread has no access of these kinds but what the rules allow. */
static int restrict_to(uint64_t handled, const struct landlock_path_beneath_attr *rule, size_t num,
		       struct error *e)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled};
	int ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
	long r = ruleset;

	for (size_t i = 0; r >= 0 && i < num; i++)
		r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule[i],
			    0);
	if (r >= 0)
		r = syscall(SYS_landlock_restrict_self, ruleset, 0);
	r = r < 0 ? error_set(e, -errno, "cannot enter the sandbox: Landlock: %m") : 0;
	if (ruleset >= 0)
		close(ruleset);
	return (int)r;
}

static long version(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

int sandbox_confine(const int *dirs, size_t num, bool writable, struct error *e)
{
	_cleanup_free_ struct landlock_path_beneath_attr *rule = NULL;
	uint64_t handled = ALL_V1 | LANDLOCK_ACCESS_FS_REFER;

	if (SANITIZED)
		return 0;
	/* The first version forbids all renames between directories. */
	if (version() < 2) {
		log_info("no Landlock, which would confine access to the directories that are the "
			 "guest's");
		return 0;
	}
	if (version() >= 3)
		handled |= LANDLOCK_ACCESS_FS_TRUNCATE;
	rule = calloc(num + 1, sizeof(*rule));
	for (size_t i = 0; rule && i < num; i++)
		rule[i] = (struct landlock_path_beneath_attr){
			.parent_fd = dirs[i],
			.allowed_access = handled & (writable ? WRITING : (uint64_t)READING),
		};
	return rule ? restrict_to(handled, rule, num, e) : error_set(e, -ENOMEM, "out of memory");
}

int sandbox_allow_removal(int dir, int in, struct error *e)
{
	const struct landlock_path_beneath_attr rule[] = {
		{.parent_fd = dir, .allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE},
		{.parent_fd = in, .allowed_access = LANDLOCK_ACCESS_FS_REMOVE_DIR},
	};
	int r = 0;

	if (SANITIZED)
		return 1;
	if (version() < 1)
		return 0;
	r = restrict_to(ALL_V1, rule, ARRAY_SIZE(rule), e);
	return r < 0 ? r : 1;
}
