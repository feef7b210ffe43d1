// SPDX-License-Identifier: BSD-2-Clause
/* The model on disks of this host. */
#ifndef SKEP_BLK_HOST_FIXTURE_H
#define SKEP_BLK_HOST_FIXTURE_H

#include "blk_model.h"
#include "host_fixture.h"

static inline void run_model(struct fixture *f, const char *image, unsigned align)
{
	const char *wrong = blk_model(&(struct blk_model_run){
		.disk = &f->disk,
		.path = image,
		.requests = 4000,
		.depth = 48,
		.seed = 20261123,
		.odd_buffers = true,
		.align = MAX(align, f->disk.image->logical_block / BLK_SECTOR),
		.check_holes = true,
	});

	if (wrong)
		fail_msg("%s", wrong);
}

#define TEST(name) NAMED(uring, name), NAMED(worker, name), NAMED(sync, name), NAMED(direct, name)

#endif
