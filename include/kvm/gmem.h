// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guest memory: RAM as the guest's physical addresses see it, and the only way from a guest
 * physical address to a host pointer.
 *
 * DOC: Any byte may change at any time. So: slice a range as a whole; copy a header once and check
 * the copy. The map is built before the vCPUs start and immutable after that, so look-ups need no
 * lock and can be made by any thread.
 */
#ifndef SKEP_GMEM_H
#define SKEP_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A guest physical address; a type of its own, so that it never mixes with host addresses or
 * lengths. */
typedef struct {
	uint64_t v;
} gpa_t;

#define GPA(x) ((gpa_t){(x)})

/* RAM ends below the hole at 3 GiB and goes on at 4 GiB. */
#define GMEM_HOLE_START 0xc0000000ull
#define GMEM_HOLE_END	0x100000000ull

#define GMEM_MAX_REGIONS 2u

struct gmem_region {
	gpa_t base;
	uint64_t size; /* bytes, a multiple of 4096 */
	uint8_t *host; /* 2 MiB aligned, private anonymous memory with MADV_HUGEPAGE */
};

struct gmem {
	struct gmem_region region[GMEM_MAX_REGIONS];
	unsigned num_regions;
};

/* Maps `bytes` (a multiple of 4096, at least 1 MiB) of guest RAM. -ENOMEM, -EINVAL with a message.
 */
int gmem_create(struct gmem *ret, uint64_t bytes, struct error *e);
void gmem_destroy(struct gmem *mem);

/* Total bytes of RAM. */
uint64_t gmem_size(const struct gmem *mem);

/* Where RAM below the hole ends. */
static inline uint64_t gmem_low_end(const struct gmem *mem)
{
	return mem->region[0].base.v + mem->region[0].size;
}

/*
 * The host address of [addr, addr + len), all of which must lie in one region: the whole range or
 * -EFAULT (out of RAM, wrapping, crossing a region's end). A length of 0 is valid at any RAM
 * address.
 */
int gmem_slice(const struct gmem *mem, gpa_t addr, size_t len, void **ret);

/* One copy into guest memory, whole or not at all: 0 or -EFAULT. */
int gmem_write(const struct gmem *mem, gpa_t addr, const void *src, size_t len);

/*
 * Gives the whole pages within [host, host + len), a range of RAM, back to the host: they read as
 * zeros from then on. Bytes given back, or a negative errno. Any thread.
 */
int64_t gmem_discard(void *host, size_t len);

/* For fuzzers: called before each read of a virtqueue so that memory can change under the reader.
 */
extern void (*gmem_read_hook)(const struct gmem *mem, gpa_t addr, size_t len);

#endif
