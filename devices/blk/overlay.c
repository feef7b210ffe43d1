// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. A throw-away disk does not change its image. Writes go to a file
 * without a name, which disappears with the last process that has it open, however that ends.
 *
 * Where the file system can (FICLONE: btrfs, xfs), that file is a clone of the image, and the disk
 * is like any other from there on. Elsewhere it is an empty overlay, and a bitmap says for each
 * sector whether it is in the overlay; if not, it is read from the image. A sector is the smallest
 * unit of a write, so nothing is ever copied up, and requests need not wait for each other. Like
 * the overlay the bitmap is sparse: it takes no memory where nothing was written.
 *
 * The engine for such a pair is a layer over two ordinary ones. A read goes to one of them as far
 * as its sectors are all in one file; it ends short there, and the caller goes on from there.
 * Everything else goes to the overlay, and its sectors are marked when it is done, before anybody
 * hears of it. A hole left by a discard is marked too and reads as zeros: discarded data does not
 * come back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "overlay.h"

#define WORD_BITS 64u

/* A file without a name in `dir`. */
static int open_nameless(const char *dir)
{
	_cleanup_free_ char *name = NULL;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0 || errno != EOPNOTSUPP)
		return fd;
	/* Not every file system has that; the next best thing. */
	if (asprintf(&name, "%s/.skep-XXXXXX", dir) < 0)
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

static int open_clone(const char *dir, const struct blk_image *base)
{
	int fd = open_nameless(dir);

	if (fd >= 0 && ioctl(fd, FICLONE, base->fd) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* In the image's directory, since only the same file system can share its blocks. */
static int open_clone_beside(const struct blk_image *base)
{
	_cleanup_free_ char *path = realpath(base->path, NULL);

	if (base->device || !path)
		return -1;
	/* The path is absolute. */
	strrchr(path, '/')[1] = '\0';
	return open_clone(path, base);
}

static int make_bitmap(struct blk_image *image, struct error *e)
{
	void *map = mmap(NULL, blk_bitmap_size(image), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return error_set(e, -ENOMEM, "out of memory for the overlay's bitmap");
	madvise(map, blk_bitmap_size(image), MADV_NOHUGEPAGE);
	image->written = map;
	return 0;
}

int blk_overlay_open(struct blk_image *image, struct blk_image *base, struct error *e)
{
	const char *dir = getenv("TMPDIR");

	image->base = base;
	image->fd = open_clone_beside(base);
	if (!dir || !*dir)
		dir = "/var/tmp"; /* /tmp is in memory on many hosts */
	if (image->fd < 0 && !base->device)
		image->fd = open_clone(dir, base);
	if (image->fd >= 0) {
		log_debug("disk %s: writes go to a clone of it", image->path);
		blk_image_close(base);
		image->base = NULL;
		return 0;
	}
	image->fd = open_nameless(dir);
	if (image->fd < 0 || ftruncate(image->fd, (off_t)image->size) < 0)
		return error_set(e, -errno,
				 "cannot make a file for what is written, in %.200s: %s: set "
				 "TMPDIR to a directory with room for it",
				 dir, strerror(errno));
	log_debug("disk %s: writes go to an overlay in %s", image->path, dir);
	return make_bitmap(image, e);
}

/* How many sectors from `first` on, before `end`, are in the same file; *written: the overlay. */
static uint64_t run_of_sectors(const struct blk_image *image, uint64_t first, uint64_t end,
			       bool *written)
{
	uint64_t at = first;

	*written = atomic_load_explicit(&image->written[at / WORD_BITS], memory_order_acquire) >>
			   at % WORD_BITS &
		   1;
	while (at < end) {
		uint64_t word =
			atomic_load_explicit(&image->written[at / WORD_BITS], memory_order_acquire);
		uint64_t others = (*written ? ~word : word) >> at % WORD_BITS;

		if (others) {
			at += (unsigned)__builtin_ctzll(others);
			break;
		}
		at = ALIGN_DOWN(at, WORD_BITS) + WORD_BITS;
	}
	return MIN(at, end) - first;
}

/* If a transfer ends within a sector, the next one, which goes on there, marks that sector. */
static void mark(const struct blk_image *image, uint64_t offset, uint64_t bytes)
{
	uint64_t at = offset >> BLK_SECTOR_SHIFT, end = (offset + bytes) >> BLK_SECTOR_SHIFT;

	while (at < end) {
		uint64_t n = MIN(end - at, WORD_BITS - at % WORD_BITS);
		uint64_t bits = UINT64_MAX >> (WORD_BITS - n) << at % WORD_BITS;
		_Atomic uint64_t *word = &image->written[at / WORD_BITS];

		if ((atomic_load_explicit(word, memory_order_relaxed) & bits) != bits)
			atomic_fetch_or_explicit(word, bits, memory_order_release);
		at += n;
	}
}

struct overlay_engine {
	struct blk_engine engine;
	struct blk_engine *upper, *base;
};

static void read_done(struct blk_req *req, int64_t result)
{
	req->done = req->whole.done;
	req->iov = req->whole.iov;
	req->num_iov = req->whole.num_iov;
	req->length = req->whole.length;
	req->done(req, result);
}

static void change_done(struct blk_req *req, int64_t result)
{
	if (result >= 0)
		mark(req->engine->image, req->offset,
		     req->op == BLK_WRITE ? (uint64_t)result : req->length);
	req->done = req->whole.done;
	req->done(req, result);
}

/* Cuts the read where its sectors go on in the other file: after some of its buffers, or within the
 * first. True when it is in the overlay. */
static bool narrow(const struct blk_image *image, struct blk_req *req)
{
	uint64_t first = req->offset >> BLK_SECTOR_SHIFT;
	uint64_t end = ALIGN_UP(req->offset + req->length, BLK_SECTOR) >> BLK_SECTOR_SHIFT;
	uint64_t sectors, bytes, taken = 0;
	unsigned n = 0;
	bool written;

	sectors = run_of_sectors(image, first, end, &written);
	bytes = ((first + sectors) << BLK_SECTOR_SHIFT) - req->offset;
	if (bytes >= req->length)
		return written;
	while (taken + req->iov[n].iov_len <= bytes)
		taken += req->iov[n++].iov_len;
	if (!n) {
		req->part = (struct iovec){req->iov->iov_base, bytes};
		req->iov = &req->part;
		taken = bytes;
		n = 1;
	}
	req->num_iov = n;
	req->length = taken;
	return written;
}

static void overlay_submit(struct blk_engine *engine, struct blk_req *req)
{
	struct overlay_engine *o = (struct overlay_engine *)engine;
	struct blk_engine *to = o->upper;

	if (req->op != BLK_FLUSH) {
		req->whole.done = req->done;
		req->done = change_done;
	}
	if (req->op == BLK_READ) {
		req->whole.iov = req->iov;
		req->whole.num_iov = req->num_iov;
		req->whole.length = req->length;
		req->done = read_done;
		if (!narrow(engine->image, req))
			to = o->base;
	}
	req->engine = to;
	to->ops->submit(to, req);
}

static bool overlay_commit(struct blk_engine *engine)
{
	struct overlay_engine *o = (struct overlay_engine *)engine;

	return o->upper->ops->commit &&
	       (o->upper->ops->commit(o->upper) || o->base->ops->commit(o->base));
}

static void overlay_drain(struct blk_engine *engine)
{
	struct overlay_engine *o = (struct overlay_engine *)engine;

	o->upper->ops->drain(o->upper);
	o->base->ops->drain(o->base);
}

static void overlay_close(struct blk_engine *engine)
{
	struct overlay_engine *o = (struct overlay_engine *)engine;

	o->upper->ops->close(o->upper);
	o->base->ops->close(o->base);
	free(o);
}

static const struct blk_engine_ops overlay_ops = {
	.submit = overlay_submit,
	.commit = overlay_commit,
	.drain = overlay_drain,
	.close = overlay_close,
};

int blk_overlay_engine(struct blk_engine **ret, struct blk_engine *upper, struct blk_engine *base,
		       struct error *e)
{
	struct overlay_engine *o =
		blk_engine_new(sizeof(*o), &overlay_ops, upper->image, upper->loop, NULL, e);

	if (!o)
		return -ENOMEM;
	o->upper = upper;
	o->base = base;
	*ret = &o->engine;
	return 0;
}
