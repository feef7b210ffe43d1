// SPDX-License-Identifier: BSD-2-Clause
/* A command in a VM that runs (remote.c): for `skep exec` and `skep cp`. */
#ifndef SKEP_REMOTE_H
#define SKEP_REMOTE_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

struct remote {
	const char *vm; /* its control socket */
	int stream[3];	/* the command's standard input, output and error; the caller's */
	bool terminal;
	FILE *setup; /* AGENT_SETUP; see remote_open() */
};

/* Fills in the rest of *ret with skep's own streams; the setup is to be written then. */
int remote_open(struct remote *ret, const char *vm, struct error *e);
/* Runs the command, and returns its exit status. A negative errno with a message: it could not be run, or
 * the VM has ended. Either way *remote is closed. */
int remote_run(struct remote *remote, struct error *e);

#endif
