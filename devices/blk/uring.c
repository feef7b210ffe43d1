// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Every operation is one SQE on the ring of the disk's loop, on the
 * image's registered file; the loop submits them in one system call when it next waits, and hands
 * their completions to `ring`. Data that is in one piece, in memory that the loop has pinned (the
 * disk's option `pin`), goes by READ_FIXED and WRITE_FIXED. FSYNC and FALLOCATE run on the kernel's
 * own workers (io-wq).
 *
 * A write through the page cache is an exception where the file system has no non-blocking writes
 * (ext4, tmpfs): io_uring would hand each one to its workers, which doubles the time and takes a
 * third CPU. Short writes of that kind are carried out inline, by commit. After one has blocked, on
 * throttling or a busy journal, the workers get the next ones for a while, so that reads do not
 * wait for them.
 *
 * At a limit on processes the kernel cannot create a worker, and after some 50 ms cancels requests
 * that need one. That can come and go while the VM runs. Such a request is carried out by commit,
 * like the sync engine does, and so is everything but reads for a while.
 *
 * Since Linux 6.12 a discard of a block device is an io_uring command. Older kernels only have
 * ioctl(BLKDISCARD), which would block the thread, so the worker does it. It also does
 * ioctl(BLKSECDISCARD), which has no other form, and discards for which the command found a page
 * that is being written (EBUSY).
 */
#include <errno.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "uring.h"

/* linux/blkdev.h of Linux 6.12: addr is the start, addr3 the length, both in bytes. */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

/* For a larger write a worker costs little in comparison, and others would wait for it. */
#define INLINE_MAX (16 * KIB)
/* A write that takes this long has blocked, and the next ones may block for this time. */
#define SLOW_NS	 (NSEC_PER_SEC / 200)
#define PAUSE_NS (NSEC_PER_SEC / 10)
/* After the kernel could not create a worker, this long none is asked for. */
#define NO_WORKER_NS NSEC_PER_SEC

struct uring_engine {
	struct blk_engine engine;
	int file; /* index of the registered file */

	enum { INLINE_UNKNOWN, INLINE_WANTED, INLINE_NOT } inlined;
	struct fifo writes;  /* to be carried out inline, by commit */
	uint64_t not_before; /* CLOCK_MONOTONIC_COARSE, nanoseconds: the next that is inline */

	struct fifo refused;	   /* for want of a worker: to be carried out by commit */
	uint64_t no_worker_before; /* the same clock, 0: workers can be made */
};

/* Accurate to milliseconds, but ten times as fast as now_ns(): it is read twice per write. */
static uint64_t coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void refuse(struct uring_engine *u, struct blk_req *req)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&said))
		log_warn("disk %s: io_uring cannot make a worker, so requests are carried out one "
			 "after the other%s",
			 u->engine.image->path, error_task_remedy(-EAGAIN));
	u->no_worker_before = coarse_ns() + NO_WORKER_NS;
	fifo_append(&u->refused, &req->link);
}

static void ring_done(struct loop_op *op, int res, uint32_t cqe_flags)
{
	struct blk_req *req = container_of(op, struct blk_req, ring);
	struct uring_engine *u = (struct uring_engine *)req->engine;

	(void)cqe_flags;
	blk_engine_ended(req);
	/* A page in its range was being written: the ioctl locks writers out. */
	if (res == -EBUSY && req->op == BLK_DISCARD && req->engine->worker)
		blk_worker_submit(req->engine, req);
	else if (res == -ECANCELED && !atomic_load(&u->engine.draining))
		refuse(u, req);
	else
		req->done(req, res);
}

/* True for a request that may need a worker while there is none. */
static bool lacks_worker(struct uring_engine *u, const struct blk_req *req)
{
	if (!u->no_worker_before || req->op == BLK_READ)
		return false;
	if (coarse_ns() < u->no_worker_before)
		return true;
	u->no_worker_before = 0;
	return false;
}

bool blk_uring_needs_worker(const struct blk_image *image)
{
	return image->device && (image->secure_erase || image->discard);
}

static bool on_worker(const struct uring_engine *u, const struct blk_req *req)
{
	const struct blk_image *image = u->engine.image;

	return req->op == BLK_SECURE_ERASE ||
	       (req->op == BLK_DISCARD && image->device && !image->uring_discard);
}

static void prepare_discard(struct io_uring_sqe *sqe, int file, uint64_t offset, uint64_t length)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = file;
	sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
	sqe->addr = offset;
	sqe->addr3 = length;
}

bool blk_uring_probe_discard(int fd)
{
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	bool known = false;

	if (io_uring_queue_init(1, &ring, 0) < 0)
		return false;
	sqe = io_uring_get_sqe(&ring);
	if (sqe) {
		/* An empty range: -EINVAL where the command is known, and no harm anywhere. */
		prepare_discard(sqe, fd, 0, 0);
		if (io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0)
			known = cqe->res == -EINVAL;
	}
	io_uring_queue_exit(&ring);
	return known;
}

/* For one buffer the kernel copies no array, and for a pinned one it looks up no pages. */
static void prepare_transfer(struct io_uring_sqe *sqe, int file, const struct blk_req *req)
{
	bool write = req->op == BLK_WRITE;
	uint8_t opcode = write ? IORING_OP_WRITEV : IORING_OP_READV;
	const void *from = req->iov;
	size_t length = req->num_iov;
	int buffer = -1;

	if (req->num_iov == 1 && req->iov->iov_len <= INT32_MAX) {
		from = req->iov->iov_base;
		length = req->iov->iov_len;
		buffer = loop_find_buffer(req->engine->loop, from, length);
		if (buffer >= 0)
			opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		else
			opcode = write ? IORING_OP_WRITE : IORING_OP_READ;
	}
	io_uring_prep_rw(opcode, sqe, file, from, (unsigned)length, req->offset);
	if (buffer >= 0)
		sqe->buf_index = (uint16_t)buffer;
}

static void prepare_other(struct io_uring_sqe *sqe, int file, const struct blk_image *image,
			  const struct blk_req *req)
{
	if (req->op == BLK_FLUSH)
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
	else if (req->op == BLK_DISCARD && image->device)
		prepare_discard(sqe, file, req->offset, req->length);
	else
		io_uring_prep_fallocate(sqe, file, blk_fallocate_mode(req->op), (off_t)req->offset,
					(off_t)req->length);
}

static bool may_block(const struct uring_engine *u)
{
	return !u->not_before || coarse_ns() >= u->not_before;
}

static bool is_inline(const struct uring_engine *u, const struct blk_req *req)
{
	const struct blk_image *image = u->engine.image;

	return req->op == BLK_WRITE && req->length <= INLINE_MAX && !image->direct &&
	       !image->device && u->inlined != INLINE_NOT && may_block(u);
}

static void uring_submit(struct blk_engine *engine, struct blk_req *req)
{
	struct uring_engine *u = (struct uring_engine *)engine;
	struct io_uring_sqe *sqe;

	if (is_inline(u, req)) {
		fifo_append(&u->writes, &req->link);
	} else if (on_worker(u, req)) {
		blk_worker_submit(engine, req);
	} else if (lacks_worker(u, req)) {
		fifo_append(&u->refused, &req->link);
	} else {
		sqe = loop_sqe(engine->loop);
		blk_engine_began(engine, req);
		req->ring.done = ring_done;
		if (req->op == BLK_READ || req->op == BLK_WRITE)
			prepare_transfer(sqe, u->file, req);
		else
			prepare_other(sqe, u->file, engine->image, req);
		sqe->flags = IOSQE_FIXED_FILE;
		io_uring_sqe_set_data(sqe, &req->ring);
	}
}

/* The first write shows: io_uring tries RWF_NOWAIT, and where that is not supported each write
 * would go to the kernel's workers. True when the write is done. */
static bool try_inline(struct uring_engine *u, const struct blk_req *req, int64_t *result)
{
	*result = pwritev2(u->engine.image->fd, req->iov, (int)req->num_iov, (off_t)req->offset,
			   RWF_NOWAIT);
	if (*result < 0)
		*result = -errno;
	u->inlined = *result == -EOPNOTSUPP ? INLINE_WANTED : INLINE_NOT;
	return *result >= 0;
}

static void write_inline(struct uring_engine *u, struct blk_req *req)
{
	uint64_t start = coarse_ns();
	int64_t result = blk_sync_run(u->engine.image, req);
	uint64_t end = coarse_ns();

	u->not_before = end - start >= SLOW_NS ? end + PAUSE_NS : 0;
	req->done(req, result);
}

static bool uring_commit(struct blk_engine *engine)
{
	struct uring_engine *u = (struct uring_engine *)engine;
	struct blk_req *req = fifo_take(&u->refused, struct blk_req, link);
	int64_t result;

	if (req) {
		req->done(req, blk_sync_run(engine->image, req));
		return true;
	}
	req = fifo_take(&u->writes, struct blk_req, link);
	if (!req)
		return false;
	if (u->inlined == INLINE_UNKNOWN && try_inline(u, req, &result)) {
		req->done(req, result);
	} else if (u->inlined == INLINE_WANTED && may_block(u)) {
		write_inline(u, req);
	} else {
		uring_submit(engine, req);
	}
	return true;
}

static void uring_drain(struct blk_engine *engine)
{
	struct uring_engine *u = (struct uring_engine *)engine;
	struct blk_req *req;

	while ((req = fifo_take(&u->writes, struct blk_req, link)) ||
	       (req = fifo_take(&u->refused, struct blk_req, link)))
		req->done(req, -ECANCELED);
	blk_worker_drain(engine);
}

static const struct blk_engine_ops uring_ops = {
	.submit = uring_submit,
	.commit = uring_commit,
	.drain = uring_drain,
	.close = blk_engine_free,
};

int blk_uring_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		   struct loop *worker, struct error *e)
{
	struct uring_engine *u;

	if (!blk_uring_needs_worker(image))
		worker = NULL;
	u = blk_engine_new(sizeof(*u), &uring_ops, image, loop, worker, e);
	if (!u)
		return -ENOMEM;
	u->file = loop_register_file(loop, image->fd);
	if (u->file < 0) {
		int r = u->file;

		free(u);
		return error_set(e, r, "cannot register the image with io_uring: %s", strerror(-r));
	}
	*ret = &u->engine;
	return 0;
}
