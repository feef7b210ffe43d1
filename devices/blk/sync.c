// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The engine for hosts without io_uring: requests queue up in submit and
 * are carried out one after the other by commit, which the disk calls at the end of a turn of its
 * loop. The worker does flushes, and discards while the guest reads, because each read would wait
 * for them. While the guest does not read, another thread would only cost time. System calls:
 * preadv2, pwritev2, fdatasync, fallocate, ioctl(BLKDISCARD and BLKSECDISCARD).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "sync.h"

struct sync_engine {
	struct blk_engine engine;
	struct fifo queue;
};

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

static void sync_submit(struct blk_engine *engine, struct blk_req *req)
{
	struct sync_engine *s = (struct sync_engine *)engine;

	if (engine->worker && (req->op == BLK_FLUSH || (req->op >= BLK_DISCARD && req->aside)))
		blk_worker_submit(engine, req);
	else
		fifo_append(&s->queue, &req->link);
}

static bool sync_commit(struct blk_engine *engine)
{
	struct sync_engine *s = (struct sync_engine *)engine;
	struct blk_req *req = fifo_take(&s->queue, struct blk_req, link);

	if (!req)
		return false;
	req->done(req, blk_sync_run(engine->image, req));
	return true;
}

static void sync_drain(struct blk_engine *engine)
{
	struct sync_engine *s = (struct sync_engine *)engine;
	struct blk_req *req;

	while ((req = fifo_take(&s->queue, struct blk_req, link)))
		req->done(req, -ECANCELED);
	blk_worker_drain(engine);
}

static void sync_close(struct blk_engine *engine)
{
	free(engine);
}

static const struct blk_engine_ops sync_ops = {
	.submit = sync_submit,
	.commit = sync_commit,
	.drain = sync_drain,
	.close = sync_close,
};

int blk_sync_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		  struct loop *worker, struct error *e)
{
	struct sync_engine *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(e, -ENOMEM, "out of memory for the disk's engine");
	s->engine = (struct blk_engine){
		.ops = &sync_ops, .image = image, .loop = loop, .worker = worker};
	*ret = &s->engine;
	return 0;
}
