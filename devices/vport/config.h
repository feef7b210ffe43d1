// SPDX-License-Identifier: BSD-2-Clause
/* What a port is to be. */
#ifndef SKEP_VPORT_CONFIG_H
#define SKEP_VPORT_CONFIG_H

#include "config/device_options.h"

#define VPORT_MAX      32u /* in a VM */
#define VPORT_NAME_MAX 63u

/* One of file, socket, pty and fd is there. */
struct vport_config {
	char *file; /* its path; the guest's output is appended */
	char name[VPORT_NAME_MAX + 1];
	char *socket; /* the path of one that is made, and listens */
	bool pty;
	unsigned fd; /* inherited; 0: none */
};

extern const struct device_options vport_options;

#endif
