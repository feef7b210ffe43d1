// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtio-blk device as the rest of the program sees it: its image (open.h, image.h), and what can
 * be asked about it and changed while it runs.
 */
#ifndef SKEP_BLK_H
#define SKEP_BLK_H

#include "base/rate.h"
#include "open.h"
#include "virtio/virtio.h"

/* virtio-blk (virtio 1.3, section 5.2). `loops` has one loop a queue; the device takes the image
 * over (it is closed by destroy, and on error). Before the loops start. */
int blk_device_new(struct virtio_dev **ret, const struct gmem *mem, struct blk_image *image,
		   const struct disk_config *config, struct loop *const *loops, struct error *e);

/*
 * The loop that a device made for its slow operations, or NULL when it needs none. The builder
 * starts it beside the disk's other loops, stops it after the device is quiesced, and frees it
 * after the device.
 */
struct loop *blk_device_worker(const struct virtio_dev *dev);

/* Read and change the limits of a disk; a change is at once, for requests that wait too. Any
 * thread. */
void blk_device_limits(const struct virtio_dev *dev, struct rate_limits *ret);
void blk_device_set_limits(struct virtio_dev *dev, const struct rate_limits *limits);

/* The capacity in bytes. Any thread. */
uint64_t blk_device_size(const struct virtio_dev *dev);
/*
 * Makes the disk larger while the guest uses it, to `size` bytes, or with 0 to what its file or
 * device has now; an interrupt tells the driver. Refuses to shrink it. The new size, or a negative
 * errno with a message that does not repeat the path. One thread at a time.
 */
int64_t blk_device_resize(struct virtio_dev *dev, uint64_t size, struct error *e);

struct disk_result {
	uint64_t reads, writes, flushes, discards, write_zeroes, secure_erases,
		errors; /* requests */
	uint64_t read_bytes, written_bytes, discarded_bytes;
	uint64_t detected_zero_bytes; /* of written_bytes: punched, not written */
	uint64_t space_pauses;	      /* times that writes had to wait for space */
	/* What the image occupied when it was opened and at the end, and by how much it shrank
	 * while ranges were discarded or zeroed; -1: unknown (a block device). */
	int64_t allocated_start, allocated_end, returned_bytes;
};

/* The counters so far: requests that succeeded, and `errors` that did not. Any thread; waits for
 * nothing. */
void blk_device_counters(const struct virtio_dev *dev, struct disk_result *ret);
/* The same, with what the image occupies now and what was given back. Any thread; waits for the
 * image's file system. */
void blk_device_result(struct virtio_dev *dev, struct disk_result *ret);

#endif
