// SPDX-License-Identifier: BSD-2-Clause
/* x86-64's page tables, walked as the processor does (Intel SDM, volume 3, section 4.5). */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/util.h"
#include "guest.h"

#define PAGE	     4096u
#define PRESENT	     1u
#define LARGE	     (1u << 7)
#define ADDRESS_MASK 0x000ffffffffff000ull

static int read_entry(const struct gmem *mem, uint64_t at, uint64_t *ret)
{
	void *host;
	int r = gmem_slice(mem, GPA(at), sizeof(*ret), &host);

	if (r == 0)
		*ret = atomic_load_explicit((_Atomic uint64_t *)host, memory_order_relaxed);
	return r;
}

/* The guest physical address of `va`. */
static int translate(const struct klog_map *map, uint64_t va, uint64_t *ret)
{
	uint64_t table = map->root & ADDRESS_MASK, entry = 0, page_mask;

	for (unsigned level = map->levels; level > 0; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		int r = read_entry(map->mem, table + (va >> shift & 511) * sizeof(entry), &entry);

		if (r < 0 || !(entry & PRESENT))
			return -EFAULT;
		if (level == 1 || (level <= 3 && entry & LARGE)) {
			page_mask = (1ull << shift) - 1;
			*ret = (entry & ADDRESS_MASK & ~page_mask) | (va & page_mask);
			return 0;
		}
		table = entry & ADDRESS_MASK;
	}
	return -EFAULT;
}

int klog_copy(const struct klog_map *map, uint64_t va, void *dst, size_t len)
{
	while (len) {
		size_t n = MIN(len, PAGE - va % PAGE);
		uint64_t at;
		void *host;

		if (translate(map, va, &at) < 0 || gmem_slice(map->mem, GPA(at), n, &host) < 0)
			return -EFAULT;
		memcpy(dst, host, n);
		dst = (uint8_t *)dst + n;
		va += n;
		len -= n;
	}
	return 0;
}
