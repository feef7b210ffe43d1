// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk with a scripted engine between the device and the sync engine's system calls: it notes
 * what the device asks of it, and answers as the test's script says.
 */
#ifndef SKEP_BLK_FAKE_FIXTURE_H
#define SKEP_BLK_FAKE_FIXTURE_H

#include <pthread.h>

#include "blk/blk.h"
#include "blk/disk.h"
#include "disk_fixture.h"

#define MAX_LOG 4096u

struct seen {
	enum blk_op op;
	uint64_t offset, length;
	unsigned num_iov;
};

struct fake {
	struct blk_engine engine;
	struct fifo queue;
	_Atomic bool hold; /* carries nothing out */
	struct seen log[MAX_LOG];
	_Atomic unsigned submitted, carried_out;
	/* What the script does with a request; its result. */
	int64_t (*script)(struct fake *fake, const struct blk_req *req);
	unsigned step;	   /* the script's */
	_Atomic int error; /* the script's */
};

static inline void fake_submit(struct blk_engine *engine, struct blk_req *req)
{
	struct fake *fake = (struct fake *)engine;
	unsigned n = fake->submitted;

	fifo_append(&fake->queue, &req->link);
	if (n < MAX_LOG)
		fake->log[n] = (struct seen){req->op, req->offset, req->length, req->num_iov};
	fake->submitted = n + 1;
}

static inline bool fake_commit(struct blk_engine *engine)
{
	struct fake *fake = (struct fake *)engine;
	struct blk_req *req = fake->hold ? NULL : fifo_take(&fake->queue, struct blk_req, link);

	if (!req)
		return false;
	fake->carried_out++;
	req->done(req, fake->script ? fake->script(fake, req) : blk_sync_run(engine->image, req));
	return true;
}

static inline void fake_drain(struct blk_engine *engine)
{
	struct fake *fake = (struct fake *)engine;
	struct blk_req *req;

	while ((req = fifo_take(&fake->queue, struct blk_req, link)))
		req->done(req, -ECANCELED);
}

static inline void fake_close(struct blk_engine *engine)
{
	(void)engine;
}

static const struct blk_engine_ops fake_ops = {
	.submit = fake_submit,
	.commit = fake_commit,
	.drain = fake_drain,
	.close = fake_close,
};

struct fixture {
	char *path;
	struct disk disk;
	struct fake fake;
	uint8_t *data;
	struct loop_work nudge;
};

static inline struct blk_queue *queue_of(struct fixture *f)
{
	return &container_of(f->disk.dev, struct blk_device, dev)->queue[0];
}

static inline void up_with(struct fixture *f, const struct disk_options *options,
			   int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	struct error e = {""};
	struct blk_queue *q;

	if (disk_open(&f->disk, f->path, options, &e) < 0)
		fail_msg("%s", e.msg);
	q = queue_of(f);
	f->fake = (struct fake){.engine = *q->engine, .script = script};
	f->fake.engine.ops = &fake_ops;
	q->engine->ops->close(q->engine);
	q->engine = &f->fake.engine;
	disk_start(&f->disk);
}

static inline void up(struct fixture *f,
		      int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC}, script);
}

static inline void up_detecting(struct fixture *f, uint64_t decline,
				int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	up_with(f,
		&(struct disk_options){
			.engine = ENGINE_SYNC, .detect_zeroes = true, .decline = decline},
		script);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->path = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	disk_fill(f->path, 0, 8 * MIB);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	disk_close(&f->disk);
	unlink(f->path);
	free(f->path);
	free(f->data);
	free(f);
	return 0;
}

/* At most 1000 bytes of the first buffer: no sector's worth. */
static inline int64_t run_short(struct fake *fake, const struct blk_req *req)
{
	struct blk_req part = *req;
	struct iovec iov;

	if (req->op == BLK_READ || req->op == BLK_WRITE) {
		iov = (struct iovec){req->iov->iov_base, MIN(req->iov->iov_len, 1000u)};
		part.iov = &iov;
		part.num_iov = 1;
	}
	return blk_sync_run(fake->engine.image, &part);
}

static inline int64_t run_fails(struct fake *fake, const struct blk_req *req)
{
	return fake->error ? -fake->error : blk_sync_run(fake->engine.image, req);
}

static inline void reap_ok(struct fixture *f, unsigned n)
{
	while (n--) {
		uint8_t status;

		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
	}
}

static inline void wait_for(const _Atomic unsigned *counter, unsigned n)
{
	uint64_t end = patience_end();

	while (*counter < n) {
		assert_true(now_ns() < end);
		usleep(100);
	}
}

static inline void nudge(struct loop_work *work)
{
	(void)work;
}

static inline void let_go(struct fixture *f)
{
	f->fake.hold = false;
	f->nudge.fn = nudge;
	loop_post(f->disk.loop[0], &f->nudge);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

#endif
