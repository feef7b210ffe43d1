// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. For crash dumps Linux writes down where its log is and how it is made
 * (Documentation/admin-guide/kdump/vmcoreinfo.rst): lines "SYMBOL(prb)=ffffffff82b7b2a0", in a page
 * of their own, which is filled early in boot and begins with "OSRELEASE=". Where that page is, no
 * one tells, so all pages are looked at that the guest has touched, once.
 *
 * Virtual addresses are looked up in the kernel's own page tables, as the log may be in its image,
 * in its direct mapping of memory, or elsewhere. The top one is in its image, of which the address
 * less that of the mapping, plus phys_base, is physical, whatever KASLR did.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "guest.h"

#define PAGE	   4096u
#define BEGIN	   "OSRELEASE="
#define KERNEL_MAP 0xffffffff80000000ull /* __START_KERNEL_map */

/* What one look may cost: pages compared, of which a page that begins right counts for as many. */
#define BUDGET	       (1u << 20)
#define CANDIDATE_COST 2048u
#define STEP	       (32 * MIB)

static const char *const names[KLOG_NUM_FACTS] = {
	[KLOG_PRB] = "SYMBOL(prb)",
	[KLOG_PAGE_TABLE] = "SYMBOL(swapper_pg_dir)",
	[KLOG_PHYS_BASE] = "NUMBER(phys_base)",
	[KLOG_L5] = "NUMBER(pgtable_l5_enabled)",
	[KLOG_RING_DESCS] = "OFFSET(printk_ringbuffer.desc_ring)",
	[KLOG_RING_TEXT] = "OFFSET(printk_ringbuffer.text_data_ring)",
	[KLOG_DESCS_COUNT_BITS] = "OFFSET(prb_desc_ring.count_bits)",
	[KLOG_DESCS_DESCS] = "OFFSET(prb_desc_ring.descs)",
	[KLOG_DESCS_INFOS] = "OFFSET(prb_desc_ring.infos)",
	[KLOG_DESCS_HEAD] = "OFFSET(prb_desc_ring.head_id)",
	[KLOG_DESCS_TAIL] = "OFFSET(prb_desc_ring.tail_id)",
	[KLOG_DESC_SIZE] = "SIZE(prb_desc)",
	[KLOG_DESC_STATE] = "OFFSET(prb_desc.state_var)",
	[KLOG_DESC_TEXT] = "OFFSET(prb_desc.text_blk_lpos)",
	[KLOG_BLOCK_BEGIN] = "OFFSET(prb_data_blk_lpos.begin)",
	[KLOG_BLOCK_NEXT] = "OFFSET(prb_data_blk_lpos.next)",
	[KLOG_INFO_SIZE] = "SIZE(printk_info)",
	[KLOG_INFO_SEQ] = "OFFSET(printk_info.seq)",
	[KLOG_INFO_TIME] = "OFFSET(printk_info.ts_nsec)",
	[KLOG_INFO_TEXT_LEN] = "OFFSET(printk_info.text_len)",
	[KLOG_INFO_CALLER] = "OFFSET(printk_info.caller_id)",
	[KLOG_TEXT_SIZE_BITS] = "OFFSET(prb_data_ring.size_bits)",
	[KLOG_TEXT_DATA] = "OFFSET(prb_data_ring.data)",
};

static bool get_fact(const char *text, const char *name, uint64_t *ret)
{
	size_t len = strlen(name);
	const char *line = text;
	char *end;

	while (line && !(strncmp(line, name, len) == 0 && line[len] == '=')) {
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	if (!line)
		return false;
	line += len + 1;
	/* Addresses are hexadecimal; phys_base may be negative, and comes out as it went in. */
	*ret = strtoull(line, &end, strncmp(name, "SYMBOL", 6) == 0 ? 16 : 10);
	return *line > ' ' && end > line && *end == '\n';
}

bool klog_parse(struct klog_facts *ret, const struct gmem *mem, gpa_t page)
{
	char text[PAGE + 1];
	void *host;

	if (gmem_slice(mem, page, PAGE, &host) < 0)
		return false;
	memcpy(text, host, PAGE);
	text[PAGE] = '\0';
	if (strncmp(text, BEGIN, strlen(BEGIN)) != 0)
		return false;
	for (unsigned i = 0; i < KLOG_NUM_FACTS; i++)
		if (!get_fact(text, names[i], &ret->of[i]))
			return false;
	ret->map = (struct klog_map){
		.mem = mem,
		.root = ret->of[KLOG_PAGE_TABLE] - KERNEL_MAP + ret->of[KLOG_PHYS_BASE],
		.levels = ret->of[KLOG_L5] ? 5 : 4,
	};
	return true;
}

struct search {
	struct klog *log;
	struct klog_facts *facts;
	enum klog_worth (*judge)(const struct klog_facts *facts);
	uint64_t left; /* of the budget */
	gpa_t ended;   /* the first of the kind */
};

static bool try_page(struct search *s, gpa_t at)
{
	s->left -= MIN(s->left, CANDIDATE_COST);
	switch (klog_parse(s->facts, s->log->mem, at) ? s->judge(s->facts) : KLOG_NONE) {
	case KLOG_LIVES:
		s->log->found = at;
		return true;
	case KLOG_ENDED:
		s->ended = s->ended.v ? s->ended : at;
		return false;
	default:
		return false;
	}
}

/* Of one step, the pages that are there: true when the one that is searched for is among them. */
static bool search_step(struct search *s, const struct gmem_region *r, uint64_t offset, size_t len)
{
	unsigned char there[STEP / PAGE];

	/* What is swapped out is taken for untouched. */
	if (mincore(r->host + offset, len, there) < 0)
		return false;
	for (size_t i = 0; i < len / PAGE; i++) {
		const uint8_t *page = r->host + offset + i * PAGE;

		if (!(there[i] & 1))
			continue;
		s->left -= s->left > 0;
		if (memcmp(page, BEGIN, sizeof(uint64_t)) == 0 && /* one load */
		    try_page(s, GPA(r->base.v + offset + i * PAGE)))
			return true;
	}
	return false;
}

/* Where byte `at` of the search is: memory above 4 GiB first, where Linux begins to allocate. */
static const struct gmem_region *region_at(const struct gmem *mem, uint64_t at, uint64_t *offset)
{
	for (unsigned i = mem->num_regions; i-- > 0;) {
		*offset = at;
		if (at < mem->region[i].size)
			return &mem->region[i];
		at -= mem->region[i].size;
	}
	return NULL;
}

int klog_find(struct klog *log, struct klog_facts *ret,
	      enum klog_worth (*judge)(const struct klog_facts *facts))
{
	struct search s = {log, ret, judge, BUDGET, GPA(0)};
	const struct gmem_region *r;
	uint64_t offset;

	if (log->found.v && try_page(&s, log->found))
		return 0;
	if (log->found.v)
		*log = (struct klog){.mem = log->mem};
	while (s.left && (r = region_at(log->mem, log->search, &offset))) {
		size_t len = MIN(STEP, r->size - offset);

		log->search += len;
		if (search_step(&s, r, offset, len))
			return 0;
	}
	if (s.left)
		log->search = 0;
	return s.ended.v && klog_parse(ret, log->mem, s.ended) ? 0 : -ENOENT;
}
