// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtio-blk device with its loops and a driver on the other side, for tests: open, start, send
 * requests one at a time (disk_do() and the like) or many at once (disk_send(), disk_reap()).
 *
 * Nothing here depends on a test framework: what must not fail ends the program with a message.
 */
#ifndef SKEP_TEST_DISK_H
#define SKEP_TEST_DISK_H

#include <linux/virtio_blk.h>

#include "base/util.h"
#include "blk/blk.h"
#include "driver.h"

#define DISK_RAM     (64 * MIB)
#define DISK_BUFFER  (8 * MIB) /* disk_read(), disk_write() */
#define DISK_PENDING 0xee      /* what a status byte holds before the device writes it */

struct disk_options {
	enum disk_engine engine;
	bool readonly, direct, ignore, ephemeral;
	enum disk_cache cache;
	enum disk_block_size block_size;
	bool detect_zeroes;
	bool wait_for_space; /* werror=enospc-pause */
	bool secure_erase;   /* as on a device that has it */
	bool blkdiscard;     /* as on a kernel without BLOCK_URING_CMD_DISCARD */
	bool pin;
	uint64_t poll_ns;
	unsigned queues;  /* 0: 1 */
	uint64_t decline; /* feature bits that the driver does not accept */
	unsigned entries; /* of the loop's ring, 0: 256 */
	const char *serial;
	struct rate_limits limits;
};

struct disk {
	struct drv drv;
	struct virtio_dev *dev;
	struct blk_image *image; /* the device's */
	struct loop *loop[BLK_MAX_QUEUES];
	unsigned queues;
	uint64_t features;
	gpa_t buffer;
	gpa_t slot[BLK_MAX_QUEUES]; /* by head: header and status of each request */
	uint32_t length;	    /* the used length of the last request */
};

/* Opens image, loops, device; attaches the device. A negative errno with a message. */
int disk_open(struct disk *ret, const char *path, const struct disk_options *options,
	      struct error *e);
/* Starts the loops and the driver. disk_restart() resets a running one and starts it again. */
void disk_start(struct disk *disk);
void disk_restart(struct disk *disk);
/* disk_open() and disk_start(), which must not fail. */
void disk_up(struct disk *ret, const char *path, const struct disk_options *options);
void disk_close(struct disk *disk);

/* Makes a request available in queue `q`: header, `data`, status. The head, or -ENOSPC. */
int disk_send(struct disk *disk, unsigned q, uint32_t type, uint64_t sector,
	      const struct drv_buf *data, unsigned n);
void disk_kick(struct disk *disk, unsigned q);
/* Waits for the next used entry; its head. */
int disk_reap(struct disk *disk, unsigned q, uint8_t *status, uint32_t *length);
uint8_t disk_status(struct disk *disk, unsigned q, unsigned head);

/* One request on queue 0, waited for; its status. */
uint8_t disk_do(struct disk *disk, uint32_t type, uint64_t sector, const struct drv_buf *data,
		unsigned n);
uint8_t disk_read(struct disk *disk, uint64_t sector, void *data, uint32_t len);
uint8_t disk_write(struct disk *disk, uint64_t sector, const void *data, uint32_t len);
uint8_t disk_flush(struct disk *disk);
uint8_t disk_ranges(struct disk *disk, uint32_t type,
		    const struct virtio_blk_discard_write_zeroes *ranges, unsigned n);
uint8_t disk_range(struct disk *disk, uint32_t type, uint64_t sector, uint32_t sectors,
		   uint32_t flags);

/* A sparse file of `size` bytes in the directory for temporary files; its path, to be freed. */
char *disk_file(uint64_t size);
/* Bytes that it occupies. */
uint64_t disk_allocated(const char *path);
/* Fills [offset, offset + len) of the file with bytes that depend on their place. */
void disk_fill(const char *path, uint64_t offset, uint64_t len);
/* Whether data read at `offset` is what disk_fill() wrote there. */
bool disk_is_fill(const void *data, uint64_t offset, size_t len);

#endif
