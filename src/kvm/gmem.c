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

/*
 * Linux adds and removes memory in units of 128 MiB, or of up to 2 GiB where it starts with 64 GiB or
 * more (probe_memory_block_size()), and leaves out units that are not whole. With blocks of less than
 * 4 MiB it does not work.
 */
#define LINUX_UNIT(ram) ((ram) < 64 * GIB ? 128 * MIB : 2 * GIB)
#define LARGEST_UNIT	(2 * GIB)
#define SMALLEST_BLOCK	(4 * MIB)

int gmem_add_hotplug(struct gmem *mem, uint64_t bytes, struct error *e)
{
	const struct gmem_region *last = &mem->region[mem->num_regions - 1];
	struct gmem_hotplug *h = &mem->hotplug;
	uint64_t size = ALIGN_UP(bytes, LINUX_UNIT(gmem_size(mem))), block = SMALLEST_BLOCK;
	struct gmem_region region;
	gpa_t base;
	int r;

	while (size > block * GMEM_MAX_BLOCKS)
		block *= 2;
	size = ALIGN_UP(size, block);
	base = GPA(
		ALIGN_UP(MAX(last->base.v + last->size, GMEM_HOLE_END), MAX(block, LARGEST_UNIT)));
	r = map_region(&region, base, size);
	if (r)
		return error_set(
			e, r,
			"cannot map %llu MiB for memory to be added: %m; ask for less with "
			"--memory, or raise the limit (ulimit -v)",
			(unsigned long long)(size / MIB));
	h->base = base;
	h->size = size;
	h->block = block;
	h->host = region.host;
	return 0;
}

bool gmem_is_plugged(const struct gmem *mem, unsigned block)
{
	return atomic_load_explicit(&mem->hotplug.plugged[block / 64], memory_order_relaxed) >>
		       block % 64 &
	       1;
}

void gmem_set_plugged(struct gmem *mem, unsigned block, bool plugged)
{
	_Atomic uint64_t *word = &mem->hotplug.plugged[block / 64];
	uint64_t bit = (uint64_t)1 << block % 64;

	if (plugged)
		atomic_fetch_or(word, bit);
	else
		atomic_fetch_and(word, ~bit);
}

void gmem_discard_unplugged(const struct gmem *mem)
{
	const struct gmem_hotplug *h = &mem->hotplug;
	unsigned num = gmem_num_blocks(mem), end;

	for (unsigned i = 0; i < num; i = end + 1) {
		for (end = i; end < num && !gmem_is_plugged(mem, end);)
			end++;
		gmem_discard(h->host + i * h->block, (end - i) * h->block);
	}
}

void gmem_destroy(struct gmem *mem)
{
	if (!mem)
		return;
	if (mem->hotplug.size)
		munmap(mem->hotplug.host, mem->hotplug.size);
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

uint64_t gmem_end(const struct gmem *mem)
{
	const struct gmem_region *last = &mem->region[mem->num_regions - 1];

	if (mem->hotplug.size)
		return mem->hotplug.base.v + mem->hotplug.size;
	return last->base.v + last->size;
}

static int slice_hotplug(const struct gmem *mem, gpa_t addr, size_t len, void **ret)
{
	const struct gmem_hotplug *h = &mem->hotplug;
	uint64_t offset = addr.v - h->base.v;

	if (addr.v < h->base.v || offset >= h->size || len > h->size - offset)
		return -EFAULT;
	for (uint64_t i = offset / h->block; i * h->block < offset + MAX(len, 1u); i++)
		if (!gmem_is_plugged(mem, (unsigned)i))
			return -EFAULT;
	*ret = h->host + offset;
	return 0;
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
	return slice_hotplug(mem, addr, len, ret);
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
