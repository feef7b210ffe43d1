// SPDX-License-Identifier: BSD-2-Clause
/* Limits of control groups (cgroup v2) on this process. */
#ifndef SKEP_CGROUP_H
#define SKEP_CGROUP_H

#include <stdint.h>

/* The lowest that a file like memory.max says in this process's group and those above it; of cpu.max it is
 * the number of processors, rounded up. UINT64_MAX: no limit. */
uint64_t cgroup_limit(const char *file);

/* The same of a group like "/a/b" below the directory `mount`. */
uint64_t cgroup_lowest(const char *mount, const char *group, const char *file);

#endif
