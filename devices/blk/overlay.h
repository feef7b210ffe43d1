// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_BLK_OVERLAY_H
#define SKEP_BLK_OVERLAY_H

#include "engine.h"

/*
 * The rest of opening a throw-away disk: a nameless file for what is written to `image`, whose path
 * and size are set, that starts as a clone of `base` or lies over it; `base` is the image's from
 * here on. In $TMPDIR, else /var/tmp; a clone beside the image. 0, or a negative errno with a
 * message; in either case blk_image_close() undoes it.
 */
int blk_overlay_open(struct blk_image *image, struct blk_image *base, struct error *e);

/* For an image with a base: an engine over one on it and one on the base, of the same kind and
 * loop, which are its own from then on (not on error). */
int blk_overlay_engine(struct blk_engine **ret, struct blk_engine *upper, struct blk_engine *base,
		       struct error *e);

#endif
