// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the disk does with what an engine may answer, and what it asks of it: a scripted engine
 * stands between the device and the sync engine's system calls.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../devices/blk_device.h"
#include "disk.h"

#define SIZE	(32 * MIB)
#define SECTORS (SIZE / BLK_SECTOR)
#define UNMAP	VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define BIT(n)	(1ull << (n))
#define MAX_LOG 4096u

struct seen {
	enum blk_op op;
	bool durable;
	uint64_t offset, length;
	unsigned num_iov;
};

struct fake {
	struct blk_engine engine;
	struct blk_req *queue, **end;
	_Atomic bool hold; /* carries nothing out */
	struct seen log[MAX_LOG];
	_Atomic unsigned submitted, carried_out;
	/* What the script does with a request; its result. */
	int64_t (*script)(struct fake *fake, const struct blk_req *req);
	unsigned step;	   /* the script's */
	_Atomic int error; /* the script's */
};

static void fake_submit(struct blk_engine *engine, struct blk_req *req)
{
	struct fake *fake = (struct fake *)engine;
	unsigned n = fake->submitted;

	req->next = NULL;
	*fake->end = req;
	fake->end = &req->next;
	if (n < MAX_LOG)
		fake->log[n] = (struct seen){req->op, req->durable, req->offset, req->length,
					     req->num_iov};
	fake->submitted = n + 1;
}

static struct blk_req *take(struct fake *fake)
{
	struct blk_req *req = fake->queue;

	if (req) {
		fake->queue = req->next;
		if (!fake->queue)
			fake->end = &fake->queue;
	}
	return req;
}

static bool fake_commit(struct blk_engine *engine)
{
	struct fake *fake = (struct fake *)engine;
	struct blk_req *req = fake->hold ? NULL : take(fake);

	if (!req)
		return false;
	fake->carried_out++;
	req->done(req, fake->script ? fake->script(fake, req) : blk_sync_run(engine->image, req));
	return true;
}

static void fake_drain(struct blk_engine *engine)
{
	struct blk_req *req;

	while ((req = take((struct fake *)engine)))
		req->done(req, -ECANCELED);
}

static void fake_close(struct blk_engine *engine)
{
	(void)engine;
}

static const struct blk_engine_ops fake_ops = {
	.name = "fake",
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

static struct blk_queue *queue_of(struct fixture *f)
{
	return &container_of(f->disk.dev, struct blk_device, dev)->queue[0];
}

static void up_with(struct fixture *f, const struct disk_options *options,
		    int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	struct error e = {""};
	struct blk_queue *q;

	if (disk_open(&f->disk, f->path, options, &e) < 0)
		fail_msg("%s", e.msg);
	q = queue_of(f);
	f->fake = (struct fake){.engine = *q->engine, .script = script};
	f->fake.engine.ops = &fake_ops;
	f->fake.end = &f->fake.queue;
	q->engine->ops->close(q->engine);
	q->engine = &f->fake.engine;
	disk_start(&f->disk);
}

static void up(struct fixture *f, int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC}, script);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->path = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	disk_fill(f->path, 0, 8 * MIB);
	*state = f;
	return 0;
}

static int teardown(void **state)
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
static int64_t run_short(struct fake *fake, const struct blk_req *req)
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

static void test_short_transfers_go_on(void **state)
{
	struct fixture *f = *state;
	struct drv_buf pieces[12];

	up(f, run_short);
	/* More buffers than a request holds itself, of odd lengths. */
	for (unsigned i = 0; i < 12; i++)
		pieces[i] = (struct drv_buf){GPA(f->disk.buffer.v + i * 4096),
					     i == 11 ? 12 * 2048 - 11 * 2047 : 2047, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 9, pieces, 12), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 12 * 2048 + 1);
	for (unsigned i = 0; i < 12; i++)
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, pieces[i].addr, pieces[i].len),
					 9 * 512 + i * 2047, pieces[i].len));
	for (unsigned i = 0; i < 12; i++)
		pieces[i].write = false;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 20000, pieces, 12), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 20000, f->data, 12 * 2048), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 9 * 512, 12 * 2048));
}

static int64_t run_after_some_retries(struct fake *fake, const struct blk_req *req)
{
	if (fake->step++ % 8 != 7)
		return fake->step % 2 ? -EAGAIN : -EINTR;
	return blk_sync_run(fake->engine.image, req);
}

static void test_transient_errors_are_tried_again(void **state)
{
	struct fixture *f = *state;

	up(f, run_after_some_retries);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 8192));
	assert_int_equal(disk_write(&f->disk, 0, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 4 * 8);
}

static int64_t run_fails(struct fake *fake, const struct blk_req *req)
{
	return fake->error ? -fake->error : blk_sync_run(fake->engine.image, req);
}

static void test_transient_errors_end(void **state)
{
	struct fixture *f = *state;

	up(f, run_fails);
	f->fake.error = EAGAIN;
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_in_range(f->fake.submitted, 2, 100);
}

static void test_errors_reach_the_guest(void **state)
{
	static const int errors[] = {EIO, ENOSPC, EFBIG, EBADF, ECANCELED, ENODEV};
	struct fixture *f = *state;
	struct disk_result result;

	up(f, run_fails);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		f->fake.error = errors[i];
		assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->disk.length, 0);
		assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, UNMAP),
				 VIRTIO_BLK_S_IOERR);
	}
	f->fake.error = 0;
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4096));
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.errors, 6 * ARRAY_SIZE(errors));
	assert_int_equal(result.reads, 1);
	assert_int_equal(result.writes, 0);
	assert_int_equal(result.discarded_bytes, 0);
}

/* A result that makes no sense must not be believed. */
static int64_t run_too_much(struct fake *fake, const struct blk_req *req)
{
	(void)fake;
	return (int64_t)req->length + 512;
}

static void test_more_than_was_asked_for_is_an_error(void **state)
{
	struct fixture *f = *state;

	up(f, run_too_much);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
}

/* No device at hand has it: what is asked of one, and what is made of its answers. */
static int64_t run_erases(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_SECURE_ERASE)
		return -fake->error;
	return blk_sync_run(fake->engine.image, req);
}

static void up_erasing(struct fixture *f, uint64_t decline)
{
	up_with(f,
		&(struct disk_options){
			.engine = ENGINE_SYNC, .secure_erase = true, .decline = decline},
		run_erases);
}

static uint8_t erase(struct fixture *f, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	return disk_range(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, sector, sectors, flags);
}

static void test_secure_erase(void **state)
{
	struct fixture *f = *state;
	const struct virtio_blk_config *c;
	struct virtio_blk_discard_write_zeroes two[2] = {{.sector = 9, .num_sectors = 8192},
							 {.sector = SECTORS - 1, .num_sectors = 1}};
	struct disk_result result;

	up_erasing(f, 0);
	f->disk.image->discard_step = 2 * MIB;
	c = (const void *)f->disk.dev->config;
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_SECURE_ERASE));
	assert_int_equal(c->max_secure_erase_sectors, BLK_MAX_RANGE_SECTORS);
	assert_int_equal(c->max_secure_erase_seg, BLK_MAX_RANGES);
	assert_int_equal(c->secure_erase_sector_alignment, f->disk.image->granularity / 512);
	assert_int_equal(disk_ranges(&f->disk, VIRTIO_BLK_T_SECURE_ERASE, two, 2), VIRTIO_BLK_S_OK);
	/* In steps, that end at multiples of their size. */
	assert_int_equal(f->fake.submitted, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f->fake.log[i].op, BLK_SECURE_ERASE);
	assert_int_equal(f->fake.log[0].offset, 9 * 512);
	assert_int_equal(f->fake.log[0].length, 2 * MIB - 9 * 512);
	assert_int_equal(f->fake.log[1].length, 2 * MIB);
	assert_int_equal(f->fake.log[2].length, 9 * 512);
	assert_int_equal(f->fake.log[3].offset, SIZE - 512);
	f->fake.error = EIO;
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	f->fake.error = EOPNOTSUPP;
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->fake.submitted, 6);
	/* These are not asked of the device. */
	assert_int_equal(erase(f, 0, 8, UNMAP), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(erase(f, SECTORS - 7, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->fake.submitted, 6);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.secure_erases, 1);
	assert_int_equal(result.errors, 4);
	assert_int_equal(result.discarded_bytes, 0);
}

static void test_secure_erase_is_for_those_who_accepted_it(void **state)
{
	struct fixture *f = *state;

	up_erasing(f, BIT(VIRTIO_BLK_F_SECURE_ERASE));
	assert_int_equal(erase(f, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->fake.submitted, 0);
}

static void test_a_discard_refused_is_unsupported(void **state)
{
	struct fixture *f = *state;

	up(f, run_fails);
	f->fake.error = EOPNOTSUPP;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

/* As on a file system that can neither punch holes for zeros nor zero ranges. */
static int64_t run_no_zeroing(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_ZERO_PUNCH || req->op == BLK_ZERO_RANGE)
		return -EOPNOTSUPP;
	return run_short(fake, req);
}

static void test_zeros_are_written_as_a_last_resort(void **state)
{
	struct fixture *f = *state;

	up(f, run_no_zeroing);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 3, 5000, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.log[1].op, BLK_ZERO_RANGE);
	assert_int_equal(f->fake.log[2].op, BLK_WRITE);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 3 * 512));
	assert_true(disk_is_zero(f->data + 3 * 512, 5000 * 512));
	assert_true(disk_is_fill(f->data + 5003 * 512, 5003 * 512, MIB));
	/* It is known from now on. */
	f->fake.submitted = 0;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 3, 1, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 1);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
}

/* Virtio 1.3, section 5.2.6.2: without FLUSH, a write that is done is stable. */
static void test_without_flush_writes_are_durable(void **state)
{
	struct fixture *f = *state;

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC, .decline = BIT(VIRTIO_BLK_F_FLUSH)},
		NULL);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
	assert_true(f->fake.log[0].durable);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[1].op, BLK_ZERO_RANGE);
	assert_int_equal(f->fake.log[2].op, BLK_FLUSH);
	assert_int_equal(f->fake.submitted, 3);
	assert_int_equal(f->disk.length, 1);
}

static void test_with_flush_they_are_not(void **state)
{
	struct fixture *f = *state;

	up(f, NULL);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_false(f->fake.log[0].durable);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 2);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[2].op, BLK_FLUSH);
}

static void up_detecting(struct fixture *f, uint64_t decline,
			 int64_t (*script)(struct fake *fake, const struct blk_req *req))
{
	up_with(f,
		&(struct disk_options){
			.engine = ENGINE_SYNC, .detect_zeroes = true, .decline = decline},
		script);
}

static void test_a_hole_for_zeros_is_durable_like_a_write(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, BIT(VIRTIO_BLK_F_FLUSH), NULL);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, 2);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.log[0].offset, 4096);
	assert_int_equal(f->fake.log[0].length, 8192);
	assert_int_equal(f->fake.log[1].op, BLK_FLUSH);
}

/* The granularity is what the image says, and need not be a power of two. */
static void test_zeros_smaller_than_a_hole_are_written(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, 0, NULL);
	f->disk.image->granularity = 192 * KIB;
	memset(f->data, 0, MIB);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 128 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
	assert_int_equal(disk_write(&f->disk, 256, f->data, 192 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[1].op, BLK_WRITE);
	assert_int_equal(disk_write(&f->disk, 384, f->data, 384 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[2].op, BLK_ZERO_PUNCH);
	assert_int_equal(f->fake.submitted, 3);
}

static void test_zeros_are_written_where_no_hole_can_be(void **state)
{
	struct fixture *f = *state;

	up_detecting(f, 0, run_no_zeroing);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_ZERO_PUNCH);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 16384), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 4096));
	assert_true(disk_is_zero(f->data + 4096, 8192));
	assert_true(disk_is_fill(f->data + 12288, 12288, 4096));
	/* From now on a write is a write. */
	f->fake.submitted = 0;
	memset(f->data, 0, 512);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.log[0].op, BLK_WRITE);
}

static int64_t run_errors_on_punch(struct fake *fake, const struct blk_req *req)
{
	return req->op == BLK_ZERO_PUNCH ? -fake->error : blk_sync_run(fake->engine.image, req);
}

static void test_a_failed_hole_is_a_failed_write(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up_detecting(f, 0, run_errors_on_punch);
	f->fake.error = EIO;
	memset(f->data, 0, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_IOERR);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.errors, 1);
	assert_int_equal(result.detected_zero_bytes, 0);
}

struct racer {
	volatile uint8_t *data;
	_Atomic bool stop;
};

/* Zeros but for the last byte, or the same value at every 64th byte: never all zeros. The race is
 * meant, so no sanitizer needs to know. */
__attribute__((no_sanitize("thread"))) static void *race(void *arg)
{
	struct racer *racer = arg;

	while (!racer->stop) {
		for (unsigned i = 63; i < 4095; i += 64)
			racer->data[i] = 5;
		for (unsigned i = 63; i < 4095; i += 64)
			racer->data[i] = 0;
	}
	return NULL;
}

/* The guest writes to its buffer while that is looked at: what was never all zeros is no hole. */
static void test_a_racing_guest_loses_no_data(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;
	struct racer racer = {0};
	struct disk_result result;
	pthread_t thread;

	up_detecting(f, 0, NULL);
	buf = (struct drv_buf){f->disk.buffer, 4096, false};
	racer.data = drv_ptr(&f->disk.drv, buf.addr, 4096);
	memset(drv_ptr(&f->disk.drv, buf.addr, 4096), 0, 4096);
	racer.data[4095] = 5;
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, 8 * (i % 1000), &buf, 1),
				 VIRTIO_BLK_S_OK);
	racer.stop = true;
	pthread_join(thread, NULL);
	blk_device_result(f->disk.dev, &result);
	assert_int_equal(result.writes, 5000);
	assert_int_equal(result.detected_zero_bytes, 0);
}

static unsigned shown_wce(struct fixture *f)
{
	return f->disk.drv.page[VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce)];
}

static void write_wce(struct fixture *f, uint8_t value)
{
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &value, 1);
}

static bool next_write_is_durable(struct fixture *f)
{
	unsigned n = f->fake.submitted;

	assert_int_equal(disk_write(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, n + 1);
	return f->fake.log[n].durable;
}

static void expect_cache_mode(struct fixture *f, enum disk_cache cache)
{
	bool through = cache == CACHE_WRITETHROUGH, unsafe = cache == CACHE_UNSAFE;
	unsigned n;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .cache = cache}, NULL);
	assert_true(drv_device_features(&f->disk.drv) & BIT(VIRTIO_BLK_F_CONFIG_WCE));
	assert_int_equal(shown_wce(f), !through);
	assert_int_equal(next_write_is_durable(f), through);
	write_wce(f, 0);
	assert_int_equal(shown_wce(f), 0);
	assert_int_equal(next_write_is_durable(f), !unsafe);
	write_wce(f, 1);
	assert_int_equal(shown_wce(f), 1);
	assert_false(next_write_is_durable(f));
	n = f->fake.submitted;
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(f->fake.submitted, n + !unsafe);
	/* Reset forgets what the driver wrote. */
	write_wce(f, through);
	disk_restart(&f->disk);
	assert_int_equal(shown_wce(f), !through);
	assert_int_equal(next_write_is_durable(f), through);
}

static void test_writeback(void **state)
{
	expect_cache_mode(*state, CACHE_WRITEBACK);
}

static void test_writethrough(void **state)
{
	expect_cache_mode(*state, CACHE_WRITETHROUGH);
}

static void test_unsafe(void **state)
{
	expect_cache_mode(*state, CACHE_UNSAFE);
}

/* The features that the field depends on (virtio 1.3, section 5.2.5). */
static void test_the_cache_mode_as_negotiated(void **state)
{
	struct fixture *f = *state;
	uint32_t all = 0;

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC,
				       .decline = BIT(VIRTIO_BLK_F_CONFIG_WCE)},
		NULL);
	write_wce(f, 0);
	assert_int_equal(shown_wce(f), 1);
	assert_false(next_write_is_durable(f));
	disk_close(&f->disk);

	up_with(f,
		&(struct disk_options){.engine = ENGINE_SYNC, .decline = BIT(VIRTIO_BLK_F_FLUSH)},
		NULL);
	assert_int_equal(shown_wce(f), 0);
	write_wce(f, 1);
	assert_int_equal(shown_wce(f), 0);
	assert_true(next_write_is_durable(f));
	drv_reset(&f->disk.drv);
	assert_int_equal(shown_wce(f), 1);
	/* It is so as soon as the features are accepted. */
	assert_true(drv_negotiate(&f->disk.drv,
				  BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_F_VERSION_1)));
	assert_int_equal(shown_wce(f), 0);
	disk_close(&f->disk);

	/* Nothing else can be written. */
	up(f, NULL);
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG, &all, 4);
	virtio_mmio_write(f->disk.dev, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_blk_config, wce),
			  &all, 2);
	assert_int_equal(shown_wce(f), 1);
	assert_int_equal(drv_page32(&f->disk.drv, VIRTIO_MMIO_CONFIG), SECTORS);
}

static void send_range(struct fixture *f, unsigned i, uint32_t type, uint64_t sector, uint32_t n)
{
	struct drv_buf buf = {GPA(f->disk.buffer.v + i * 16), 16, false};
	struct virtio_blk_discard_write_zeroes *range = drv_ptr(&f->disk.drv, buf.addr, 16);

	*range = (struct virtio_blk_discard_write_zeroes){.sector = sector, .num_sectors = n};
	assert_true(disk_send(&f->disk, 0, type, 0, &buf, 1) >= 0);
}

static void reap_ok(struct fixture *f, unsigned n)
{
	while (n--) {
		uint8_t status;

		disk_reap(&f->disk, 0, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
	}
}

static void wait_for(const _Atomic unsigned *counter, unsigned n)
{
	uint64_t end = now_ns() + DRV_TIMEOUT_MS * 1000000ull;

	while (*counter < n) {
		assert_true(now_ns() < end);
		usleep(100);
	}
}

static void nudge(struct loop_work *work)
{
	(void)work;
}

static void let_go(struct fixture *f)
{
	f->fake.hold = false;
	f->nudge.fn = nudge;
	loop_post(f->disk.loop[0], &f->nudge);
}

static int64_t run_full(struct fake *fake, const struct blk_req *req)
{
	bool allocates = req->op == BLK_WRITE || req->op == BLK_ZERO_RANGE;

	return allocates && fake->error ? -fake->error : run_short(fake, req);
}

static void up_waiting(struct fixture *f)
{
	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true}, run_full);
}

static void expect_pauses(struct fixture *f, uint64_t n)
{
	uint64_t end = now_ns() + DRV_TIMEOUT_MS * 1000000ull;
	struct disk_result result;

	do {
		blk_device_result(f->disk.dev, &result);
		assert_true(now_ns() < end);
	} while (result.space_pauses < n);
	assert_int_equal(result.space_pauses, n);
	assert_int_equal(result.errors, 0);
}

/* All that write wait, in whatever way they go: straight, by bounce buffer, as ranges. */
static void send_writes(struct fixture *f)
{
	uint64_t b = f->disk.buffer.v;

	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	memset(drv_ptr(&f->disk.drv, GPA(b + MIB), 8193), 0x33, 8193);
	for (unsigned i = 0; i < 6; i++) {
		struct drv_buf straight = {GPA(b + MIB), 8192, false};
		struct drv_buf odd = {GPA(b + MIB + 1), 8192, false};

		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 1024 + 32 * i, &straight, 1) >=
			    0);
		assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 1024 + 32 * i + 16, &odd, 1) >=
			    0);
		send_range(f, i, VIRTIO_BLK_T_WRITE_ZEROES, 2048 + 16 * i, 16);
	}
	disk_kick(&f->disk, 0);
}

static void test_writes_wait_for_space(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;

	up_waiting(f);
	for (unsigned round = 1; round <= 3; round++) {
		f->fake.error = round == 2 ? EDQUOT : ENOSPC;
		send_writes(f);
		expect_pauses(f, round);
		/* Reads go on, and discards, though ranges wait. The buffer is that of the writes.
		 */
		send_range(f, 100, VIRTIO_BLK_T_DISCARD, 4096, 2048);
		assert_true(
			disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
				  &(struct drv_buf){GPA(f->disk.buffer.v + 4 * MIB), 4096, true},
				  1) >= 0);
		disk_kick(&f->disk, 0);
		reap_ok(f, 2);
		assert_true(disk_is_fill(
			drv_ptr(&f->disk.drv, GPA(f->disk.buffer.v + 4 * MIB), 4096), 0, 4096));
		assert_false(drv_used(&f->disk.drv.queue[0], NULL, NULL));
		f->fake.error = 0;
		reap_ok(f, 18);
		blk_device_result(f->disk.dev, &result);
		assert_int_equal(result.writes, 12 * round);
		assert_int_equal(result.write_zeroes, 6 * round);
		assert_int_equal(result.errors, 0);
	}
	assert_int_equal(disk_read(&f->disk, 1024, f->data, 6 * 32 * 512), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 6 * 32 * 512; i++)
		assert_int_equal(f->data[i], 0x33);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 6 * 8192), VIRTIO_BLK_S_OK);
	assert_true(disk_is_zero(f->data, 6 * 8192));
}

static int64_t run_half_full(struct fake *fake, const struct blk_req *req)
{
	if (req->op == BLK_WRITE && req->offset >= 2 * MIB && fake->error)
		return -ENOSPC;
	if (req->op == BLK_WRITE && req->offset < 2 * MIB && fake->error) {
		struct blk_req part = *req;
		struct iovec iov = {req->iov->iov_base, 2 * MIB - req->offset};

		part.iov = &iov;
		part.num_iov = 1;
		return blk_sync_run(fake->engine.image, &part);
	}
	return blk_sync_run(fake->engine.image, req);
}

/* It goes on where it stopped. */
static void test_half_a_write_waits(void **state)
{
	struct fixture *f = *state;
	struct drv_buf buf;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true},
		run_half_full);
	f->fake.error = 1;
	buf = (struct drv_buf){f->disk.buffer, 2 * MIB, false};
	memset(drv_ptr(&f->disk.drv, buf.addr, buf.len), 0x44, buf.len);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 2048, &buf, 1) >= 0);
	disk_kick(&f->disk, 0);
	expect_pauses(f, 1);
	f->fake.error = 0;
	reap_ok(f, 1);
	assert_int_equal(f->fake.log[1].offset, 2 * MIB);
	assert_int_equal(disk_read(&f->disk, 2048, f->data, 2 * MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 2 * MIB; i++)
		assert_int_equal(f->data[i], 0x44);
}

static void test_another_error_ends_the_wait(void **state)
{
	struct fixture *f = *state;
	uint8_t status;

	up_with(f, &(struct disk_options){.engine = ENGINE_SYNC, .wait_for_space = true},
		run_fails);
	f->fake.error = ENOSPC;
	/* Neither a read nor a flush waits: see docs/design.md. */
	assert_int_equal(disk_read(&f->disk, 0, f->data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_IOERR);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_OUT, 0,
			      &(struct drv_buf){f->disk.buffer, 512, false}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.carried_out, 2 + 3);
	f->fake.error = EIO;
	disk_reap(&f->disk, 0, &status, NULL);
	assert_int_equal(status, VIRTIO_BLK_S_IOERR);
}

static void test_reset_while_writes_wait(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	up_waiting(f);
	for (unsigned round = 1; round <= 4; round++) {
		f->fake.error = ENOSPC;
		send_writes(f);
		expect_pauses(f, round);
		if (round % 2) /* some are being tried when the reset comes */
			f->fake.hold = true;
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		f->fake.error = 0;
		n = f->fake.submitted;
		drv_start(&f->disk.drv, f->disk.features, 0);
		assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
		assert_int_equal(f->fake.submitted, n + 1);
	}
}

static void test_a_large_discard_goes_in_steps(void **state)
{
	struct fixture *f = *state;
	uint64_t step, at = 3 * 512, end = SIZE - 512;

	up(f, NULL);
	step = f->disk.image->discard_step = 4 * MIB;
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 3, SECTORS - 4, 0),
			 VIRTIO_BLK_S_OK);
	assert_in_range(f->fake.submitted, SIZE / step, SIZE / step + 1);
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		const struct seen *s = &f->fake.log[i];

		assert_int_equal(s->op, BLK_DISCARD);
		assert_int_equal(s->offset, at);
		assert_true(s->length <= step);
		at += s->length;
		assert_true(at % step == 0 || at == end);
	}
	assert_int_equal(at, end);
}

/* After a read steps are short, so that the next one does not wait long; when none comes they are
 * as long as before. */
static void test_steps_are_short_while_the_guest_reads(void **state)
{
	struct fixture *f = *state;
	unsigned shorts = 0, first = 0, last = 0, steps = 0;
	uint64_t at = 0;

	up(f, NULL);
	f->disk.image->discard_step = 2 * BLK_SHORT_STEP;
	f->fake.hold = true;
	for (unsigned i = 0; i < 4; i++)
		send_range(f, i, VIRTIO_BLK_T_DISCARD, 0, SECTORS);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
			      &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	let_go(f);
	reap_ok(f, 5);
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		const struct seen *s = &f->fake.log[i];

		if (s->op != BLK_DISCARD)
			continue;
		at += s->length;
		if (s->length == BLK_SHORT_STEP && !shorts++)
			first = steps;
		if (s->length == BLK_SHORT_STEP)
			last = steps;
		steps++;
	}
	assert_int_equal(at, 4 * SIZE);
	/* Those that had begun before the read, or before it was done, are long. */
	assert_in_range(first, BLK_MAX_RANGES_AT_WORK, 2 * BLK_MAX_RANGES_AT_WORK);
	assert_in_range(shorts, BLK_SHORT_STEPS, BLK_SHORT_STEPS + 8);
	assert_true(last < steps - 1);
}

static void test_only_some_ranges_are_at_work_at_once(void **state)
{
	struct fixture *f = *state;
	unsigned reads = 0, last_discard = 0, read_at = 0;

	up(f, NULL);
	f->disk.image->discard_step = MIB;
	f->fake.hold = true;
	for (unsigned i = 0; i < 20; i++)
		send_range(f, i, i % 2 ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES, 0,
			   SECTORS / 2);
	assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0,
			      &(struct drv_buf){GPA(f->disk.buffer.v + 4096), 512, true}, 1) >= 0);
	disk_kick(&f->disk, 0);
	wait_for(&f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	usleep(20000);
	assert_int_equal(f->fake.submitted, BLK_MAX_RANGES_AT_WORK + 1);
	let_go(f);
	reap_ok(f, 21);
	/* A read that came after them all did not wait for them all. */
	for (unsigned i = 0; i < f->fake.submitted; i++) {
		if (f->fake.log[i].op == BLK_READ) {
			reads++;
			read_at = i;
		} else {
			last_discard = i;
		}
	}
	assert_int_equal(reads, 1);
	assert_int_equal(read_at, BLK_MAX_RANGES_AT_WORK);
	assert_true(last_discard >= 20 * (SIZE / 2 / MIB));
}

/* Discards that wait go together when they touch, as far as a step goes. */
static void test_discards_that_touch_go_together(void **state)
{
	static const struct seen together[] = {
		{BLK_DISCARD, false, 0, 512, 0},	   {BLK_DISCARD, false, 1024, 512, 0},
		{BLK_DISCARD, false, MIB, 3 * MIB, 0}, /* up to a multiple of the step */
		{BLK_DISCARD, false, 4 * MIB, 2 * MIB, 0}, {BLK_ZERO_RANGE, false, 6 * MIB, MIB, 0},
		{BLK_DISCARD, false, 7 * MIB, 512, 0},
	};
	struct fixture *f = *state;

	up(f, run_fails);
	f->disk.image->discard_step = 4 * MIB;
	for (unsigned round = 0; round < 2; round++) {
		f->fake.submitted = 0;
		f->fake.error = 0;
		f->fake.hold = true;
		send_range(f, 0, VIRTIO_BLK_T_DISCARD, 0, 1);
		send_range(f, 1, VIRTIO_BLK_T_DISCARD, 2, 1);
		for (unsigned i = 0; i < 5; i++)
			send_range(f, 2 + i, VIRTIO_BLK_T_DISCARD, 2048 + i * 2048, 2048);
		send_range(f, 7, VIRTIO_BLK_T_WRITE_ZEROES, 6 * 2048, 2048);
		send_range(f, 8, VIRTIO_BLK_T_DISCARD, 7 * 2048, 1);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, 2);
		if (round == 0) {
			let_go(f);
			reap_ok(f, 9);
			assert_int_equal(f->fake.submitted, ARRAY_SIZE(together));
			for (size_t i = 0; i < ARRAY_SIZE(together); i++) {
				assert_int_equal(f->fake.log[i].op, together[i].op);
				assert_int_equal(f->fake.log[i].offset, together[i].offset);
				assert_int_equal(f->fake.log[i].length, together[i].length);
			}
			continue;
		}
		/* They fail together, too. */
		f->fake.error = EIO;
		let_go(f);
		for (unsigned i = 0; i < 9; i++) {
			uint8_t status;

			disk_reap(&f->disk, 0, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_IOERR);
		}
	}
}

static void test_reset_cancels_what_is_left_of_discards(void **state)
{
	struct fixture *f = *state;
	struct disk_result result;
	unsigned n;

	up(f, NULL);
	f->disk.image->discard_step = MIB;
	for (unsigned round = 0; round < 3; round++) {
		/* The rounds after the first follow a read. */
		unsigned at_work = round ? 1 : BLK_MAX_RANGES_AT_WORK;

		f->fake.hold = true;
		n = f->fake.submitted;
		for (unsigned i = 0; i < 50; i++)
			send_range(f, i, VIRTIO_BLK_T_DISCARD, SECTORS / 2, SECTORS / 2);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, n + at_work);
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		assert_int_equal(f->fake.submitted, n + at_work);
		/* What was cancelled is no error. */
		blk_device_result(f->disk.dev, &result);
		assert_int_equal(result.errors, 0);
		drv_start(&f->disk.drv, f->disk.features, 0);
		assert_int_equal(disk_read(&f->disk, 0, f->data, 4096), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(f->data, 0, 4096));
		assert_int_equal(f->fake.submitted, n + at_work + 1);
	}
}

static void test_errors_in_bounced_requests(void **state)
{
	struct fixture *f = *state;
	struct drv_buf odd;

	up(f, run_fails);
	/* As with O_DIRECT, without its demands on the file system. */
	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	odd = (struct drv_buf){GPA(f->disk.buffer.v + 1), MIB, true};
	for (unsigned round = 0; round < 3; round++) {
		f->fake.error = EIO;
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, &odd, 1),
					 VIRTIO_BLK_S_IOERR);
		f->fake.error = 0;
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, &odd, 1), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, odd.addr, odd.len), 0, odd.len));
		f->fake.hold = true;
		for (unsigned i = 0; i < 20; i++)
			assert_true(disk_send(&f->disk, 0, VIRTIO_BLK_T_IN, 0, &odd, 1) >= 0);
		disk_kick(&f->disk, 0);
		wait_for(&f->fake.submitted, BLK_MAX_BOUNCES);
		drv_reset(&f->disk.drv);
		f->fake.hold = false;
		drv_start(&f->disk.drv, f->disk.features, 0);
	}
}

static void test_what_is_bounced(void **state)
{
	static const struct {
		uint32_t at[2], len[2];
		bool bounced;
	} cases[] = {
		{{0, 8192}, {4096, 4096}, false},    {{512, 8192 + 512}, {512, 7680}, false},
		{{256, 8192}, {4096, 4096}, true},   {{0, 8192 + 1}, {4096, 4096}, true},
		{{0, 8192}, {4096 + 1, 4095}, true}, {{0, 8192}, {512 + 256, 256}, true},
	};
	struct fixture *f = *state;
	struct drv_buf bufs[2];

	up(f, NULL);
	f->disk.image->direct = true;
	f->disk.image->memory_align = 512;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned j = 0; j < 2; j++)
			bufs[j] = (struct drv_buf){GPA(f->disk.buffer.v + cases[i].at[j]),
						   cases[i].len[j], true};
		f->fake.submitted = 0;
		assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, bufs, 2), VIRTIO_BLK_S_OK);
		assert_int_equal(f->fake.submitted, 1);
		assert_int_equal(f->fake.log[0].num_iov, cases[i].bounced ? 1 : 2);
		for (unsigned j = 0; j < 2; j++)
			assert_true(disk_is_fill(drv_ptr(&f->disk.drv, bufs[j].addr, bufs[j].len),
						 j * cases[i].len[0], bufs[j].len));
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(short_transfers_go_on),
		TEST(transient_errors_are_tried_again),
		TEST(transient_errors_end),
		TEST(errors_reach_the_guest),
		TEST(more_than_was_asked_for_is_an_error),
		TEST(a_discard_refused_is_unsupported),
		TEST(secure_erase),
		TEST(secure_erase_is_for_those_who_accepted_it),
		TEST(zeros_are_written_as_a_last_resort),
		TEST(without_flush_writes_are_durable),
		TEST(with_flush_they_are_not),
		TEST(a_hole_for_zeros_is_durable_like_a_write),
		TEST(zeros_smaller_than_a_hole_are_written),
		TEST(zeros_are_written_where_no_hole_can_be),
		TEST(a_failed_hole_is_a_failed_write),
		TEST(a_racing_guest_loses_no_data),
		TEST(writes_wait_for_space),
		TEST(half_a_write_waits),
		TEST(another_error_ends_the_wait),
		TEST(reset_while_writes_wait),
		TEST(writeback),
		TEST(writethrough),
		TEST(unsafe),
		TEST(the_cache_mode_as_negotiated),
		TEST(a_large_discard_goes_in_steps),
		TEST(steps_are_short_while_the_guest_reads),
		TEST(only_some_ranges_are_at_work_at_once),
		TEST(discards_that_touch_go_together),
		TEST(reset_cancels_what_is_left_of_discards),
		TEST(errors_in_bounced_requests),
		TEST(what_is_bounced),
	};

	return cmocka_run_group_tests_name("blk_faults", tests, NULL, NULL);
}
