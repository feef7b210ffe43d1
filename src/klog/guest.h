// SPDX-License-Identifier: BSD-2-Clause
/* Where the guest's kernel has its log, and its memory by virtual address. */
#ifndef SKEP_KLOG_GUEST_H
#define SKEP_KLOG_GUEST_H

#include <stdbool.h>

#include "klog/klog.h"

/* The guest's page tables. */
struct klog_map {
	const struct gmem *mem;
	uint64_t root; /* guest physical */
	unsigned levels;
};

/* One copy of what is at a virtual address: 0, or -EFAULT where any of it is not mapped to RAM. */
int klog_copy(const struct klog_map *map, uint64_t va, void *dst, size_t len);

/* What vmcoreinfo says: addresses, and the layout of struct printk_ringbuffer and what it has. */
enum klog_fact {
	KLOG_PRB, /* the address of the ring's address */
	KLOG_PAGE_TABLE,
	KLOG_PHYS_BASE,
	KLOG_L5,
	KLOG_RING_DESCS,
	KLOG_RING_TEXT,
	KLOG_DESCS_COUNT_BITS,
	KLOG_DESCS_DESCS,
	KLOG_DESCS_INFOS,
	KLOG_DESCS_HEAD,
	KLOG_DESCS_TAIL,
	KLOG_DESC_SIZE,
	KLOG_DESC_STATE,
	KLOG_DESC_TEXT,
	KLOG_BLOCK_BEGIN,
	KLOG_BLOCK_NEXT,
	KLOG_INFO_SIZE,
	KLOG_INFO_SEQ,
	KLOG_INFO_TIME,
	KLOG_INFO_TEXT_LEN,
	KLOG_INFO_CALLER,
	KLOG_TEXT_SIZE_BITS,
	KLOG_TEXT_DATA,
	KLOG_NUM_FACTS,
};

struct klog_facts {
	uint64_t of[KLOG_NUM_FACTS];
	struct klog_map map;
};

/* Parses a page of guest memory: whether it is vmcoreinfo, and has all facts. */
bool klog_parse(struct klog_facts *ret, const struct gmem *mem, gpa_t page);

/* What a log is worth. One that has ended stays in memory after a kexec. */
enum klog_worth { KLOG_NONE, KLOG_ENDED, KLOG_LIVES };

/*
 * Finds the vmcoreinfo of a log that lives, else of one that has ended: where it was last time, or by
 * a search, in which pages that the guest never touched are left out, and which goes on next time.
 * 0 or -ENOENT.
 */
int klog_find(struct klog *log, struct klog_facts *ret,
	      enum klog_worth (*judge)(const struct klog_facts *facts));

#endif
