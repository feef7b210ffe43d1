// SPDX-License-Identifier: BSD-2-Clause
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/util.h"

/* A number, or a number for each number of something; "max" is none. */
static uint64_t number_of(const char *text)
{
	uint64_t n, each = 1;

	if (sscanf(text, "%" SCNu64 " %" SCNu64, &n, &each) < 1 || !each)
		return UINT64_MAX;
	return n / each + (n % each != 0);
}

uint64_t cgroup_lowest(const char *mount, const char *group, const char *file)
{
	uint64_t lowest = UINT64_MAX;
	char path[PATH_MAX], text[64];
	char *end = path;

	snprintf(path, sizeof(path), "%s", group);
	while (end) {
		if (read_text(text, sizeof(text), "%s%s/%s", mount, path, file))
			lowest = MIN(lowest, number_of(text));
		end = strrchr(path, '/');
		if (end)
			*end = '\0';
	}
	return lowest;
}

uint64_t cgroup_limit(const char *file)
{
	char text[PATH_MAX];
	char *group;

	read_text(text, sizeof(text), "/proc/self/cgroup");
	group = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!group)
		return UINT64_MAX;
	group = strchr(group, '/');
	if (!group)
		return UINT64_MAX;
	group[strcspn(group, "\n")] = '\0';
	return cgroup_lowest("/sys/fs/cgroup", group, file);
}
