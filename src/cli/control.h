// SPDX-License-Identifier: BSD-2-Clause
/* `skep control`: asks something of a VM that runs, over its control socket. */
#ifndef SKEP_CONTROL_CALL_H
#define SKEP_CONTROL_CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct control_call {
	const char *path;    /* of the socket; borrowed, as all here */
	const char *command; /* one of control_verbs */
	const char *file;    /* console-file: opened here, and passed */
	const char *disk;    /* resize-disk, limit-disk: its position or serial number */
	uint64_t size;	     /* bytes, 0: what its file or device has now */
	bool grow;	     /* by `size`, not to it */
	/* limit-disk: as in struct disk_config; UINT64_MAX and UINT_MAX: what it is now */
	uint64_t bps, burst_ns;
	unsigned iops;
	bool json;
	bool help;
};

/* Asks, and says on `out` what came of it. A negative errno with a message that names the socket;
 * -EINVAL and -ERANGE are never returned: they are for what was typed. */
int control_call_run(const struct control_call *call, FILE *out, struct error *e);

#endif
