// SPDX-License-Identifier: BSD-2-Clause
/* Which engine a queue gets, and what it needs. */
#include <errno.h>
#include <stdatomic.h>

#include "base/log.h"
#include "engines.h"
#include "overlay.h"
#include "sync.h"
#include "uring.h"

static int open_plain(struct blk_engine **ret, const struct blk_image *image,
		      enum disk_engine wanted, struct loop *loop, struct loop *worker,
		      struct error *e)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (wanted != ENGINE_SYNC && loop_is_uring(loop))
		return blk_uring_open(ret, image, loop, worker, e);
	if (wanted == ENGINE_URING)
		return error_set(e, -ENOTSUP,
				 "io_uring is not available: use engine=auto or engine=sync");
	if (wanted == ENGINE_AUTO && !atomic_flag_test_and_set(&said))
		log_warn("io_uring is not available (see `skep check`): disks use the slower sync "
			 "engine");
	return blk_sync_open(ret, image, loop, worker, e);
}

int blk_engine_open(struct blk_engine **ret, const struct blk_image *image, enum disk_engine wanted,
		    struct loop *loop, struct loop *worker, struct error *e)
{
	struct blk_engine *upper, *base;
	int r = open_plain(&upper, image, wanted, loop, worker, e);

	if (r < 0)
		return r;
	if (!image->base) {
		*ret = upper;
		return 0;
	}
	r = open_plain(&base, image->base, wanted, loop, worker, e);
	if (r >= 0) {
		r = blk_overlay_engine(ret, upper, base, e);
		if (r < 0)
			base->ops->close(base);
	}
	if (r < 0)
		upper->ops->close(upper);
	return r;
}

bool blk_needs_worker(const struct blk_image *image, const struct disk_config *config,
		      const struct loop *loop)
{
	if (config->engine == ENGINE_SYNC || !loop_is_uring(loop))
		return !image->readonly;
	return config->discard == DISCARD_UNMAP && blk_uring_needs_worker(image);
}
