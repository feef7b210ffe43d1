// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The engine for hosts without io_uring: requests queue up in submit and
 * are carried out one after the other by commit, which the disk calls at the end of a turn of its
 * loop. The worker does flushes, and discards while the guest reads, because each read would wait
 * for them. While the guest does not read, another thread would only cost time. System calls:
 * preadv2, pwritev2, fdatasync, fallocate, ioctl(BLKDISCARD and BLKSECDISCARD).
 */
#include <errno.h>

#include "sync.h"

struct sync_engine {
	struct blk_engine engine;
	struct fifo queue;
};

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

static const struct blk_engine_ops sync_ops = {
	.submit = sync_submit,
	.commit = sync_commit,
	.drain = sync_drain,
	.close = blk_engine_free,
};

int blk_sync_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		  struct loop *worker, struct error *e)
{
	*ret = blk_engine_new(sizeof(struct sync_engine), &sync_ops, image, loop, worker, e);
	return *ret ? 0 : -ENOMEM;
}
