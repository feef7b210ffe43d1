// SPDX-License-Identifier: BSD-2-Clause
/* What generator.c writes when skep is built, for sandbox.c alone. */
#ifndef SKEP_SANDBOX_FILTERS_H
#define SKEP_SANDBOX_FILTERS_H

#include <linux/filter.h>

#include "sandbox/sandbox.h"

/* All roles' programs, one after the other; a role's starts at sandbox_filter_start[role]. */
extern const struct sock_filter sandbox_filters[];
extern const unsigned short sandbox_filter_start[SANDBOX_ROLES + 1];
#define SANDBOX_FILTER_MAX 200u /* instructions of a role */

/* Stands in a program for the process ID, which sandbox_thread() puts in its place. */
#define SANDBOX_OWN_PID 0x5e1f919du

/* The names of system calls 0 to SANDBOX_MAX_CALLS - 1, each with its NUL; empty where there is
 * none. */
extern const char sandbox_call_names[];
#define SANDBOX_MAX_CALLS 480

#endif
