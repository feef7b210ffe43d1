// SPDX-License-Identifier: BSD-2-Clause
/*
 * An image: the open file or block device behind a disk, and what it can do. Offsets and lengths
 * are bytes.
 */
#ifndef SKEP_BLK_IMAGE_H
#define SKEP_BLK_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "blk/config.h"

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

	/* A throw-away disk that is no clone: `fd` has the sectors whose bit is set in `written`
	 * (by all of the disk's threads), `base` has the others. Else NULL. */
	struct blk_image *base;
	_Atomic uint64_t *written;
};

/* Bytes of memory that `written` takes. */
static inline size_t blk_bitmap_size(const struct blk_image *image)
{
	return image->size / BLK_SECTOR / 8 + sizeof(uint64_t);
}

/* Bytes that the image's file occupies; -1 for a device, where nobody knows. Any thread. */
int64_t blk_image_allocated(const struct blk_image *image);
/* Whether it still has `end` bytes: false for a device that shrank or vanished. A file has no end
 * that a write could not move. Any thread. */
bool blk_image_reaches(const struct blk_image *image, uint64_t end);
/*
 * Makes sure that *size bytes are there: a file that has less grows, by a hole. 0 stands for what
 * the file or device has now, and is replaced by that. Nothing is ever cut off. A negative errno
 * with a message that does not repeat the path. Any thread.
 */
int blk_image_grow(const struct blk_image *image, uint64_t *size, struct error *e);
void blk_image_close(struct blk_image *image); /* NULL-safe */
/* Sets the size of an image's file; it is unchanged when that fails. -EFBIG or another negative
 * errno, with a message. */
int blk_set_size(int fd, uint64_t size, struct error *e);

#endif
