// SPDX-License-Identifier: BSD-2-Clause
/* What tests of disks have in common: the image's size, short names, and looks at the device. A test may
 * define SIZE before. */
#ifndef SKEP_DISK_FIXTURE_H
#define SKEP_DISK_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "disk.h"

#ifndef SIZE
#define SIZE (32 * MIB)
#endif
#define SECTORS (SIZE / BLK_SECTOR)
#define UNMAP	VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define BIT(n)	(1ull << (n))

static inline const struct virtio_blk_config *config(const struct disk *d)
{
	return (const void *)d->dev->config;
}

static inline void put_header(struct disk *d, gpa_t at, uint32_t type, uint64_t sector)
{
	*(struct virtio_blk_outhdr *)drv_ptr(&d->drv, at, 16) =
		(struct virtio_blk_outhdr){.type = type, .sector = sector};
}

static inline void expect_needs_reset(struct disk *d)
{
	uint64_t end = patience_end();

	while (!drv_is_broken(&d->drv)) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
}

/* Sends a range to queue 0, with room for the others at `i`. */
static inline void send_range(struct disk *d, unsigned i, uint32_t type, uint64_t sector,
			      uint32_t n)
{
	struct drv_buf buf = {GPA(d->buffer.v + i * 16), 16, false};
	struct virtio_blk_discard_write_zeroes *range = drv_ptr(&d->drv, buf.addr, 16);

	*range = (struct virtio_blk_discard_write_zeroes){.sector = sector, .num_sectors = n};
	assert_true(disk_send(d, 0, type, 0, &buf, 1) >= 0);
}

#endif
