// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_OPEN_H
#define SKEP_BLK_OPEN_H

#include "image.h"

/*
 * Opens the image that `config` names and finds out what it can do, without changing its content.
 * 0, or a negative errno with a message that does not repeat the path. What cannot be offered to
 * the guest is logged, one line each. The image is locked (file_lock()). A writable block device is
 * also claimed (O_EXCL), so that one that is mounted is not written under its file system.
 */
int blk_image_open(struct blk_image **ret, const struct disk_config *config, struct error *e);

#endif
