// SPDX-License-Identifier: BSD-2-Clause
/* Files that a VM writes for its user: the result, the console. What is in one may be dear, so
 * nothing of it is touched before it is known to be nobody's image, kernel or configuration. */
#ifndef SKEP_OUTPUT_H
#define SKEP_OUTPUT_H

#include <sys/types.h>

#include "base/error.h"
#include "config/config.h"

/*
 * Opens `path`, one of the config's or (then `config` may be NULL) any, to be written; makes it
 * with `mode` where there is none; `flags` are open(2)'s besides. A regular file stays as it is,
 * and is locked, so that it is no image of anybody's while it is open; a block device is refused.
 * The descriptor or a negative errno, with a message that does not repeat the path: as
 * output_check(), -EBUSY, or what open(2) says.
 */
int output_open(const char *path, int flags, mode_t mode, const struct vm_config *config,
		struct error *e);

/*
 * Whether what `fd` is open on has another use in the VM, as a disk, a kernel, or the like, under
 * whatever name. `path` is the one that it is opened by, NULL for a standard descriptor, which may
 * be another output, too. 0, or -EINVAL with a message.
 */
int output_check(int fd, const char *path, const struct vm_config *config, struct error *e);

#endif
