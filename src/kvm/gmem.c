// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "kvm/gmem.h"

#define HUGE_PAGE (2 * MIB)
#define PAGE_SIZE 4096u

void (*gmem_read_hook)(const struct gmem *mem, gpa_t addr, size_t len);

/*
 * Maps `bytes` on a 2 MiB boundary, so that huge pages of the host are huge pages of the guest.
 * Guest RAM stays out of core dumps: it is large, and not ours to publish.
 */
static int map_region(struct gmem_region *ret, gpa_t base, uint64_t bytes)
{
	uint64_t span = ALIGN_UP(bytes, HUGE_PAGE) + HUGE_PAGE;
	uint8_t *map, *host;

	map = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	host = (uint8_t *)ALIGN_UP((uintptr_t)map, HUGE_PAGE);
	if (host > map)
		munmap(map, (size_t)(host - map));
	if (host + bytes < map + span)
		munmap(host + bytes, (size_t)(map + span - (host + bytes)));

	/* Without transparent huge pages both calls fail, and the guest runs slower but right. */
	madvise(host, bytes, MADV_HUGEPAGE);
	madvise(host, bytes, MADV_DONTDUMP);
	*ret = (struct gmem_region){.base = base, .size = bytes, .host = host};
	return 0;
}

int gmem_create(struct gmem *ret, uint64_t bytes, struct error *e)
{
	uint64_t low = MIN(bytes, GMEM_HOLE_START);
	int r;

	memset(ret, 0, sizeof(*ret));
	if (bytes < MIB || !IS_ALIGNED(bytes, 4096u))
		return error_set(e, -EINVAL,
				 "%llu bytes of guest memory: must be a multiple of 4096, and at "
				 "least 1 MiB",
				 (unsigned long long)bytes);
	r = map_region(&ret->region[0], GPA(0), low);
	if (!r) {
		ret->num_regions = 1;
		if (bytes > low) {
			r = map_region(&ret->region[1], GPA(GMEM_HOLE_END), bytes - low);
			if (!r)
				ret->num_regions = 2;
		}
	}
	if (r) {
		gmem_destroy(ret);
		return error_set(e, r,
				 "cannot map %llu MiB of guest memory: %m; ask for less with "
				 "--memory, or raise the limit (ulimit -v)",
				 (unsigned long long)(bytes / MIB));
	}
	return 0;
}

void gmem_destroy(struct gmem *mem)
{
	if (!mem)
		return;
	for (unsigned i = 0; i < mem->num_regions; i++)
		munmap(mem->region[i].host, mem->region[i].size);
	memset(mem, 0, sizeof(*mem));
}

uint64_t gmem_size(const struct gmem *mem)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < mem->num_regions; i++)
		bytes += mem->region[i].size;
	return bytes;
}

int gmem_slice(const struct gmem *mem, gpa_t addr, size_t len, void **ret)
{
	for (unsigned i = 0; i < mem->num_regions; i++) {
		const struct gmem_region *r = &mem->region[i];
		uint64_t offset = addr.v - r->base.v;

		if (addr.v < r->base.v || offset >= r->size)
			continue;
		if (len > r->size - offset)
			return -EFAULT;
		*ret = r->host + offset;
		return 0;
	}
	return -EFAULT;
}

int gmem_write(const struct gmem *mem, gpa_t addr, const void *src, size_t len)
{
	void *dst;
	int r = gmem_slice(mem, addr, len, &dst);

	if (r)
		return r;
	memcpy(dst, src, len);
	return 0;
}

int64_t gmem_discard(void *host, size_t len)
{
	uintptr_t start = ALIGN_UP((uintptr_t)host, PAGE_SIZE);
	uintptr_t end = ((uintptr_t)host + len) & ~(uintptr_t)(PAGE_SIZE - 1);

	if (start >= end)
		return 0;
	return madvise((void *)start, end - start, MADV_DONTNEED) < 0 ? -errno
								      : (int64_t)(end - start);
}
