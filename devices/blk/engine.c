// SPDX-License-Identifier: BSD-2-Clause
/* What engines share: system calls, and the worker. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "engine.h"

void *blk_engine_new(size_t size, const struct blk_engine_ops *ops, const struct blk_image *image,
		     struct loop *loop, struct loop *worker, struct error *e)
{
	struct blk_engine *engine = calloc(1, size);

	if (engine)
		*engine = (struct blk_engine){
			.ops = ops, .image = image, .loop = loop, .worker = worker};
	else
		error_set(e, -ENOMEM, "out of memory for the disk's engine");
	return engine;
}

void blk_engine_free(struct blk_engine *engine)
{
	free(engine);
}

int blk_fallocate_mode(enum blk_op op)
{
	return FALLOC_FL_KEEP_SIZE |
	       (op == BLK_ZERO_RANGE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
}

static int64_t run_once(const struct blk_image *image, const struct blk_req *req)
{
	uint64_t range[2] = {req->offset, req->length};
	off_t offset = (off_t)req->offset;

	switch (req->op) {
	case BLK_READ:
		return preadv2(image->fd, req->iov, (int)req->num_iov, offset, 0);
	case BLK_WRITE:
		return pwritev2(image->fd, req->iov, (int)req->num_iov, offset, 0);
	case BLK_FLUSH:
		return fdatasync(image->fd);
	case BLK_DISCARD:
		if (image->device)
			return ioctl(image->fd, BLKDISCARD, range);
		/* fallthrough */
	case BLK_ZERO_PUNCH:
	case BLK_ZERO_RANGE:
		return fallocate(image->fd, blk_fallocate_mode(req->op), offset,
				 (off_t)req->length);
	case BLK_SECURE_ERASE:
		return ioctl(image->fd, BLKSECDISCARD, range);
	}
	errno = ENOSYS;
	return -1;
}

int64_t blk_sync_run(const struct blk_image *image, const struct blk_req *req)
{
	int64_t r;

	do
		r = run_once(image, req);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* On the engine's thread. */
static void worker_done(struct loop_work *work)
{
	struct blk_req *req = container_of(work, struct blk_req, work);

	blk_engine_ended(req);
	req->done(req, req->result);
}

static void worker_run(struct loop_work *work)
{
	struct blk_req *req = container_of(work, struct blk_req, work);

	req->result = atomic_load(&req->engine->draining) ? -ECANCELED
							  : blk_sync_run(req->engine->image, req);
	work->fn = worker_done;
	loop_post(req->engine->loop, work);
}

void blk_worker_submit(struct blk_engine *engine, struct blk_req *req)
{
	blk_engine_began(engine, req);
	req->work.fn = worker_run;
	loop_post(engine->worker, &req->work);
}

void blk_worker_drain(struct blk_engine *engine)
{
	atomic_store(&engine->draining, true);
	loop_wait_ops(engine->loop, &engine->pending);
	atomic_store(&engine->draining, false);
}
