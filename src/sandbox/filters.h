// SPDX-License-Identifier: BSD-2-Clause
/* What generator.c writes when skep is built, for sandbox.c alone. */
#ifndef SKEP_SANDBOX_FILTERS_H
#define SKEP_SANDBOX_FILTERS_H

#include <linux/filter.h>

/* All roles' programs, one after the other. */
extern const struct sock_filter sandbox_filters[];
extern const struct sandbox_role {
	char name[16]; /* not a pointer, which would have to be relocated at each start */
	unsigned short start, num;
} sandbox_roles[];
extern const unsigned sandbox_num_roles;
#define SANDBOX_FILTER_MAX 200u /* instructions of a role */

/* Stands in a program for the process ID, which sandbox_thread() puts in its place. */
#define SANDBOX_OWN_PID 0x5e1f919du

/* The names of system calls 0 to SANDBOX_MAX_CALLS - 1, each with its NUL; empty where there is
 * none. */
extern const char sandbox_call_names[];
#define SANDBOX_MAX_CALLS 480

#endif
