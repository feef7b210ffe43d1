// SPDX-License-Identifier: BSD-2-Clause
/* Files that a VM writes for its user: the result, the console. Their content may be precious, so
 * nothing is touched before it is clear that the file is nobody's image, kernel or configuration. */
#ifndef SKEP_OUTPUT_H
#define SKEP_OUTPUT_H

#include <sys/types.h>

#include "base/error.h"
#include "config/config.h"

/*
 * Opens `path` for writing, and creates it with `mode` if it does not exist; `flags` are further
 * flags of open(2). `path` is one of the config's, or any if `config` is NULL. A regular file is not
 * changed, but locked, so that nobody can use it as an image while it is open; a block device is
 * refused. The descriptor or a negative errno, with a message that does not repeat the path: as
 * output_check(), -EBUSY, or what open(2) says.
 */
int output_open(const char *path, int flags, mode_t mode, const struct vm_config *config,
		struct error *e);

/*
 * Checks that the open file `fd` has no other use in the VM, as a disk, a kernel, or the like, under
 * whatever name. `path` is the name it was opened by; NULL for a standard descriptor, which may also
 * be another output. 0, or -EUSAGE with a message.
 */
int output_check(int fd, const char *path, const struct vm_config *config, struct error *e);

#endif
