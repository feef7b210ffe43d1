// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guest memory: RAM as the guest's physical addresses see it, and the only way from a guest
 * physical address to a host pointer.
 *
 * DOC: Any byte may change at any time. So: slice a range as a whole; copy a header once and check
 * the copy. The map is built before the vCPUs start and, but for hotplug memory, immutable after
 * that, so look-ups need no lock and can be made by any thread.
 *
 * Hotplug memory is a range of blocks above all RAM. The guest has those that are plugged; no device
 * is given a pointer to the others. All of the range is mapped here: what a device is writing to when
 * its block is unplugged goes to pages that nobody reads, until gmem_discard_unplugged().
 */
#ifndef SKEP_GMEM_H
#define SKEP_GMEM_H

#include <stdatomic.h>
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

#define GMEM_MAX_BLOCKS 256u

/* Blocks of memory that come and go; `size` is a multiple of `block`, a power of two. */
struct gmem_hotplug {
	gpa_t base;
	uint64_t size, block; /* bytes; none: 0 */
	uint8_t *host;
	_Atomic uint64_t plugged[GMEM_MAX_BLOCKS / 64]; /* a bit for each block */
};

struct gmem {
	struct gmem_region region[GMEM_MAX_REGIONS];
	unsigned num_regions;
	struct gmem_hotplug hotplug;
};

/* Maps `bytes` (a multiple of 4096, at least 1 MiB) of guest RAM. -ENOMEM, -EINVAL with a message.
 */
int gmem_create(struct gmem *ret, uint64_t bytes, struct error *e);
void gmem_destroy(struct gmem *mem);

/* Total bytes of RAM, without hotplug memory. */
uint64_t gmem_size(const struct gmem *mem);
/* The address behind the last byte of all, hotplug memory included. */
uint64_t gmem_end(const struct gmem *mem);

/* Adds hotplug memory, at least `bytes`, of which no block is plugged. It takes memory of the host
 * only where it is used. Once, before the vCPUs start; -ENOMEM with a message. */
int gmem_add_hotplug(struct gmem *mem, uint64_t bytes, struct error *e);

static inline unsigned gmem_num_blocks(const struct gmem *mem)
{
	return mem->hotplug.size ? (unsigned)(mem->hotplug.size / mem->hotplug.block) : 0;
}

/* Whether the block is plugged, and sets that; the latter is one thread's. */
bool gmem_is_plugged(const struct gmem *mem, unsigned block);
void gmem_set_plugged(struct gmem *mem, unsigned block, bool plugged);

/* Gives back to the host all of hotplug memory that is not plugged. */
void gmem_discard_unplugged(const struct gmem *mem);

/* Where RAM below the hole ends. */
static inline uint64_t gmem_low_end(const struct gmem *mem)
{
	return mem->region[0].base.v + mem->region[0].size;
}

/*
 * The host address of [addr, addr + len), all of which must lie in one region, or in blocks that are
 * plugged: the whole range or -EFAULT (out of RAM, wrapping, crossing a region's end). A length of 0
 * is valid at any RAM address.
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
