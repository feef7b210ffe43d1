// SPDX-License-Identifier: BSD-2-Clause
/*
 * What is behind a virtio-blk device: an image (an open file or block device and what it can do),
 * and the engines that carry out requests on it.
 *
 * Offsets and lengths here are bytes; the guest's 512-byte sectors end in devices/blk/request.c.
 */
#ifndef SKEP_BLK_H
#define SKEP_BLK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"
#include "virtio/virtio.h"
#include "vm/vm.h"

#define BLK_SECTOR_SHIFT 9u
#define BLK_SECTOR	 512u

/* Immutable once it is open; read by all of the disk's threads. */
struct blk_image {
	int fd;
	char *path; /* for messages */
	bool readonly;
	bool device;	/* a block device, not a regular file */
	bool direct;	/* O_DIRECT: whole logical blocks, in buffers of memory_align */
	bool unsafe;	/* nothing needs to be on stable storage, ever */
	bool ephemeral; /* `fd` is a file without a name */

	uint64_t size; /* bytes, when it was opened: a multiple of logical_block */
	uint32_t logical_block, physical_block; /* that the guest sees */
	uint32_t device_block;	     /* of what a block device discards and zeroes; else a sector */
	uint32_t min_io, optimal_io; /* bytes, 0: nothing to say */
	uint32_t alignment_offset;   /* of physical blocks, bytes */
	uint32_t memory_align;	     /* of buffers; 1 without O_DIRECT */

	bool discard;	       /* punches holes (file) or discards (device) */
	bool uring_discard;    /* BLOCK_URING_CMD_DISCARD works on this device (Linux 6.12) */
	uint32_t granularity;  /* of what a discard frees, bytes: a multiple of logical_block */
	uint64_t discard_step; /* the most that one operation discards: a multiple of granularity */
	bool zero_punch;       /* a hole punched reads as zeros */
	bool secure_erase;     /* BLKSECDISCARD works on this device */

	/* A throw-away disk that is no clone: `fd` has the sectors of which the bit is set in
	 * `written` (by all of the disk's threads), `base` has the others. Else NULL. */
	struct blk_image *base;
	_Atomic uint64_t *written;
};

/*
 * Opens the image that `config` names and finds out what it can do, without changing its content.
 * 0, or a negative errno with a message that does not repeat the path. What cannot be offered to
 * the guest is logged, one line each. The image is locked (file_lock()). A writable block device is
 * claimed (O_EXCL) besides, so that one that is mounted is not written under its file system.
 */
int blk_image_open(struct blk_image **ret, const struct disk_config *config, struct error *e);
/* Bytes that the image's file occupies; -1 for a device, where nobody knows. Any thread. */
int64_t blk_image_allocated(const struct blk_image *image);
/* Whether it still has `end` bytes: false of a device that shrank or vanished. A file has no end
 * that a write could not move. Any thread. */
bool blk_image_reaches(const struct blk_image *image, uint64_t end);
/*
 * Sees to it that *size bytes are there: a file that has less grows, by a hole. 0 stands for what
 * the file or device has now, and is replaced by that. Nothing is ever cut off. A negative errno
 * with a message that does not repeat the path. Any thread.
 */
int blk_image_grow(const struct blk_image *image, uint64_t *size, struct error *e);
void blk_image_close(struct blk_image *image); /* NULL-safe */
/* Sets the size of an image's file; what it had is as it was when that fails. -EFBIG or another
 * negative errno, with a message. */
int blk_set_size(int fd, uint64_t size, struct error *e);

/*
 * The rest of opening a throw-away disk: a nameless file for what is written to `image`, of which
 * path and size are set, that starts as a clone of `base` or lies over it; `base` is the image's
 * from here on. In $TMPDIR, else /var/tmp; a clone beside the image. 0, or a negative errno with a
 * message; in either case blk_image_close(), which calls blk_overlay_close(), undoes it.
 */
int blk_overlay_open(struct blk_image *image, struct blk_image *base, struct error *e);
void blk_overlay_close(struct blk_image *image);

enum blk_op {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,	  /* fdatasync */
	BLK_DISCARD,	  /* file: PUNCH_HOLE; device: BLOCK_URING_CMD_DISCARD or BLKDISCARD */
	BLK_ZERO_PUNCH,	  /* PUNCH_HOLE, which reads as zeros on both */
	BLK_ZERO_RANGE,	  /* ZERO_RANGE: stays allocated */
	BLK_SECURE_ERASE, /* BLKSECDISCARD, of devices only */
};

/*
 * One operation on the image. The caller fills the first part; the struct and the iovecs live until
 * `done`, which fires exactly once, on the loop's thread, and never inside submit. `result` is the
 * bytes moved (maybe fewer than `length`; 0 at end of file), 0 for the others, or a negative errno.
 */
struct blk_req {
	enum blk_op op;
	bool aside; /* BLK_DISCARD and those after it: no read should wait for it */
	uint64_t offset, length;
	const struct iovec *iov; /* BLK_READ, BLK_WRITE */
	unsigned num_iov;
	void (*done)(struct blk_req *req, int64_t result);

	/* The overlay's: what it takes the place of while an engine has the request. */
	struct {
		void (*done)(struct blk_req *req, int64_t result);
		const struct iovec *iov;
		unsigned num_iov;
		uint64_t length;
	} whole;
	struct iovec part;

	/* The engine's. */
	struct blk_engine *engine; /* while it is pending */
	struct blk_req *next;
	struct loop_op ring;
	struct loop_work work;
	int64_t result;
};

/* First come, first served. */
struct blk_list {
	struct blk_req *first, **end;
};

static inline void blk_list_init(struct blk_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static inline void blk_list_append(struct blk_list *list, struct blk_req *req)
{
	req->next = NULL;
	*list->end = req;
	list->end = &req->next;
}

/* The first one, or NULL. */
static inline struct blk_req *blk_list_take(struct blk_list *list)
{
	struct blk_req *req = list->first;

	if (req) {
		list->first = req->next;
		if (!list->first)
			list->end = &list->first;
	}
	return req;
}

struct blk_engine {
	const struct blk_engine_ops *ops;
	const struct blk_image *image;
	struct loop *loop;
	struct loop *worker; /* has a thread of its own; NULL: there is none */
	unsigned pending;    /* requests that the ring or the worker has, and drain waits for */
	atomic_bool draining;
};

/* The ring or the worker has a request from now on, or not any more. Drain waits for all but a
 * flush, which has nothing to do with guest memory and may take long. */
static inline void blk_engine_began(struct blk_engine *engine, struct blk_req *req)
{
	req->engine = engine;
	engine->pending += req->op != BLK_FLUSH;
}

static inline void blk_engine_ended(const struct blk_req *req)
{
	req->engine->pending -= req->op != BLK_FLUSH;
}

/* All on the loop's thread but for close(). */
struct blk_engine_ops {
	const char *name;
	void (*submit)(struct blk_engine *engine, struct blk_req *req);
	/* Carries out one submitted request on the loop's thread; false when none is left for that.
	 * NULL: the loop submits them all. */
	bool (*commit)(struct blk_engine *engine);
	/* Returns when every request is done, but for a BLK_FLUSH that has begun; those not yet
	 * begun end with -ECANCELED. */
	void (*drain)(struct blk_engine *engine);
	void (*close)(struct blk_engine *engine); /* nothing is in flight */
};

/*
 * io_uring: operations are SQEs on the loop's own ring, submitted with all others when the loop
 * next waits. `worker` is for BLKDISCARD and BLKSECDISCARD, needed where blk_uring_needs_worker()
 * says so. Before the loop starts.
 */
int blk_uring_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		   struct loop *worker, struct error *e);
bool blk_uring_needs_worker(const struct blk_image *image);

/* Whether the kernel has BLOCK_URING_CMD_DISCARD for this block device. Discards nothing. */
bool blk_uring_probe_discard(int fd);

/* Sync: system calls on the loop's thread, in commit; `worker` may be NULL and is for flushes, and
 * for those `aside`. */
int blk_sync_open(struct blk_engine **ret, const struct blk_image *image, struct loop *loop,
		  struct loop *worker, struct error *e);

/* For an image with a base: an engine over one on it and one on the base, of the same kind and
 * loop, which are its own from then on (not on error). */
int blk_overlay_engine(struct blk_engine **ret, struct blk_engine *upper, struct blk_engine *base,
		       struct error *e);

/* The system call for one operation, restarted on EINTR; what blk_req.result says. */
int64_t blk_sync_run(const struct blk_image *image, const struct blk_req *req);

/* The engine's worker does that: an engine's submit for what should not block the loop's thread. */
void blk_worker_submit(struct blk_engine *engine, struct blk_req *req);

/* Waits for all that the ring or the worker has; what the worker has not begun it does not begin.
 */
void blk_worker_drain(struct blk_engine *engine);

/* fallocate(2)'s mode for BLK_DISCARD on a file, BLK_ZERO_PUNCH and BLK_ZERO_RANGE. */
int blk_fallocate_mode(enum blk_op op);

/*
 * The loop that a device made for its slow operations, or NULL when it needs none. The builder
 * starts it beside the disk's other loops, stops it after the device is quiesced, and frees it
 * after the device.
 */
struct loop *blk_device_worker(const struct virtio_dev *dev);

/*
 * How much a disk may do: bytes and requests a second, 0 for no limit; what was not used is saved
 * for `burst_ns`. All requests count, those that fail and those that move no data, too.
 */
struct blk_limits {
	uint64_t bytes_per_s, ops_per_s, burst_ns;
};

/* The limits of a disk; and to change them at once: requests that wait are looked at again. Any
 * thread. */
void blk_device_limits(const struct virtio_dev *dev, struct blk_limits *ret);
void blk_device_set_limits(struct virtio_dev *dev, const struct blk_limits *limits);

/* The capacity in bytes. Any thread. */
uint64_t blk_device_size(const struct virtio_dev *dev);
/*
 * Makes the disk larger while the guest uses it, to `size` bytes, or with 0 to what its file or
 * device has now; the driver is told by an interrupt. Refuses to shrink it. The new size, or a
 * negative errno with a message that does not repeat the path. One thread at a time.
 */
int64_t blk_device_resize(struct virtio_dev *dev, uint64_t size, struct error *e);

/* The counters so far: requests that succeeded, and `errors` that did not. Any thread; waits for
 * nothing. */
void blk_device_counters(const struct virtio_dev *dev, struct disk_result *ret);
/* The same, with what the image occupies now and what was given back. Any thread; waits for the
 * image's file system. */
void blk_device_result(struct virtio_dev *dev, struct disk_result *ret);

#endif
