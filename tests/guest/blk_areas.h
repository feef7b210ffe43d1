// SPDX-License-Identifier: BSD-2-Clause
/* Where the block tests do what, in sectors; tests/guest/image.c looks there from the host. The
 * rest of the image holds pattern IMAGE_SEED as it did before. All of it lies within the first 8
 * MiB. */
#ifndef BLK_AREAS_H
#define BLK_AREAS_H

#define IMAGE_SEED 1u
#define WRITE_SEED 2u

#define WRITE_AREA	1000u /* WRITE_SEED */
#define WRITE_SECTORS	64u
#define FRAME_AREA	1100u /* WRITE_SEED, one sector */
#define PARALLEL_AREA	1200u /* WRITE_SEED, 16 sectors a queue */
#define ODD_AREA	1777u /* zeros, one sector */
#define ZERO_AREA	2048u /* zeros */
#define ZERO_SECTORS	512u
#define UNMAP_AREA	4096u /* zeros, a hole where the file system has them */
#define UNMAP_SECTORS	2048u
#define DISCARD_AREA	8192u /* the same, if discards are on */
#define DISCARD_SECTORS 4096u

#endif
