// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "klog_image.h"

#define PAGE	   4096u
#define PRESENT	   1u
#define LARGE	   (1u << 7)
#define KERNEL_MAP 0xffffffff80000000ull
#define DIRECT_MAP 0xff11000000000000ull /* with 5 levels; its lower bits are the same with 4 */
#define DIRECT_4   0xffff888000000000ull
#define KERNEL_VA  (KERNEL_MAP + 0x4000000) /* where KASLR put it */
#define ID_MASK	   (~0ull >> 2)
#define FINALIZED  (2ull << 62)
#define REUSABLE   (3ull << 62)

static uint64_t next_table;

static void map_page(struct klog_image *image, unsigned levels, uint64_t va, uint64_t pa,
		     unsigned size_level)
{
	uint64_t *table = (void *)(image->ram + KLOG_IMAGE_TABLES), *entry;

	for (unsigned level = levels;; level--) {
		entry = &table[va >> (12 + 9 * (level - 1)) & 511];
		if (level == size_level)
			break;
		if (!*entry) {
			*entry = next_table | PRESENT;
			next_table += PAGE;
		}
		table = (void *)(image->ram + (*entry & ~(uint64_t)(PAGE - 1)));
	}
	*entry = pa | PRESENT | (size_level > 1 ? LARGE : 0);
}

/* The kernel's data by a large page, the rings by small ones. */
static uint64_t map_all(struct klog_image *image, unsigned levels)
{
	uint64_t direct = levels == 5 ? DIRECT_MAP : DIRECT_4;

	next_table = KLOG_IMAGE_TABLES + PAGE;
	map_page(image, levels, KERNEL_VA, KLOG_IMAGE_KERNEL, 2);
	for (uint64_t at = KLOG_IMAGE_DESCS; at < KLOG_IMAGE_SIZE; at += PAGE)
		map_page(image, levels, direct + at, at, 1);
	assert(next_table < KLOG_IMAGE_KERNEL);
	return direct;
}

#define OFFSET(f, type, c_type, member, c_member)                                                  \
	fprintf(f, "OFFSET(%s.%s)=%zu\n", type, member, offsetof(c_type, c_member))
#define RING(f, type, member, c_member)                                                            \
	fprintf(f, "OFFSET(%s.%s)=%zu\n", type, member,                                            \
		offsetof(struct klog_image_ring, c_member) -                                       \
			(strcmp(type, "prb_desc_ring") == 0                                        \
				 ? offsetof(struct klog_image_ring, desc_ring)                     \
				 : offsetof(struct klog_image_ring, text_ring)))

static void write_vmcoreinfo(FILE *f, unsigned levels)
{
	/* The tables lie below the kernel's data, and so do their addresses. */
	uint64_t pgd = KERNEL_VA - KLOG_IMAGE_KERNEL + KLOG_IMAGE_TABLES;

	fprintf(f, "OSRELEASE=6.1.0-test\nBUILD-ID=0123456789abcdef\nPAGESIZE=4096\n");
	fprintf(f, "SYMBOL(swapper_pg_dir)=%llx\n", (unsigned long long)pgd);
	fprintf(f, "SYMBOL(prb)=%llx\nSYMBOL(printk_rb_static)=%llx\n", KERNEL_VA, KERNEL_VA + 64);
	fprintf(f, "SIZE(printk_ringbuffer)=%zu\n", sizeof(struct klog_image_ring));
	OFFSET(f, "printk_ringbuffer", struct klog_image_ring, "desc_ring", desc_ring);
	OFFSET(f, "printk_ringbuffer", struct klog_image_ring, "text_data_ring", text_ring);
	RING(f, "prb_desc_ring", "count_bits", desc_ring.count_bits);
	RING(f, "prb_desc_ring", "descs", desc_ring.descs);
	RING(f, "prb_desc_ring", "infos", desc_ring.infos);
	RING(f, "prb_desc_ring", "head_id", desc_ring.head_id);
	RING(f, "prb_desc_ring", "tail_id", desc_ring.tail_id);
	fprintf(f, "SIZE(prb_desc)=%zu\n", sizeof(struct klog_image_desc));
	OFFSET(f, "prb_desc", struct klog_image_desc, "state_var", state);
	OFFSET(f, "prb_desc", struct klog_image_desc, "text_blk_lpos", begin);
	fprintf(f, "OFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=8\n");
	fprintf(f, "SIZE(printk_info)=%zu\n", sizeof(struct klog_image_info));
	OFFSET(f, "printk_info", struct klog_image_info, "seq", seq);
	OFFSET(f, "printk_info", struct klog_image_info, "ts_nsec", ns);
	OFFSET(f, "printk_info", struct klog_image_info, "text_len", text_len);
	OFFSET(f, "printk_info", struct klog_image_info, "caller_id", caller);
	RING(f, "prb_data_ring", "size_bits", text_ring.size_bits);
	RING(f, "prb_data_ring", "data", text_ring.data);
	fprintf(f, "NUMBER(phys_base)=%lld\n",
		(long long)KLOG_IMAGE_KERNEL - (long long)(KERNEL_VA - KERNEL_MAP));
	fprintf(f, "NUMBER(pgtable_l5_enabled)=%d\nKERNELOFFSET=3000000\n", levels == 5);
}

void klog_image_new(struct klog_image *ret, unsigned count_bits, unsigned size_bits,
		    unsigned levels)
{
	uint64_t direct, count = 1ull << count_bits;
	FILE *f;

	*ret = (struct klog_image){.ends_fit = false};
	assert(gmem_create(&ret->mem, KLOG_IMAGE_SIZE, NULL) == 0);
	ret->ram = ret->mem.region[0].host;
	ret->ring = (void *)(ret->ram + KLOG_IMAGE_RING);
	ret->desc = (void *)(ret->ram + KLOG_IMAGE_DESCS);
	ret->info = (void *)(ret->ram + KLOG_IMAGE_INFOS);
	ret->data = (void *)(ret->ram + KLOG_IMAGE_DATA);
	ret->vmcoreinfo = (void *)(ret->ram + KLOG_IMAGE_INFO);
	direct = map_all(ret, levels);
	*(uint64_t *)(void *)(ret->ram + KLOG_IMAGE_KERNEL) =
		KERNEL_VA + KLOG_IMAGE_RING - KLOG_IMAGE_KERNEL;
	ret->ring->desc_ring.count_bits = count_bits;
	ret->ring->desc_ring.descs = direct + KLOG_IMAGE_DESCS;
	ret->ring->desc_ring.infos = direct + KLOG_IMAGE_INFOS;
	ret->ring->desc_ring.head_id = ret->ring->desc_ring.tail_id = -(count + 1) & ID_MASK;
	ret->ring->text_ring.size_bits = size_bits;
	ret->ring->text_ring.data = direct + KLOG_IMAGE_DATA;
	ret->ring->text_ring.head_lpos = ret->ring->text_ring.tail_lpos = -(1ull << size_bits);
	ret->desc[count - 1] = (struct klog_image_desc){
		.state = REUSABLE | ret->ring->desc_ring.head_id, .begin = 1, .next = 1};
	ret->info[0].seq = -count;
	f = fmemopen(ret->vmcoreinfo, PAGE, "w");
	assert(f);
	write_vmcoreinfo(f, levels);
	assert(fclose(f) == 0);
}

void klog_image_free(struct klog_image *image)
{
	gmem_destroy(&image->mem);
}

static uint64_t index_of(const struct klog_image *image, uint64_t id)
{
	return id & ((1ull << image->ring->desc_ring.count_bits) - 1);
}

/* The oldest message goes. */
static void drop_tail(struct klog_image *image)
{
	struct klog_image_desc *desc =
		&image->desc[index_of(image, image->ring->desc_ring.tail_id)];

	desc->state = REUSABLE | image->ring->desc_ring.tail_id;
	if (!(desc->next & 1))
		image->ring->text_ring.tail_lpos = desc->next;
	image->ring->desc_ring.tail_id = (image->ring->desc_ring.tail_id + 1) & ID_MASK;
}

/* Room for a block of text: its beginning and its end as positions. */
static void reserve_text(struct klog_image *image, size_t len, struct klog_image_desc *ret)
{
	uint64_t size = 1ull << image->ring->text_ring.size_bits, block = ALIGN_UP(len + 8, 8);
	uint64_t begin = image->ring->text_ring.head_lpos, next = begin + block;
	uint64_t last = image->ends_fit ? next - 1 : next;

	assert(2 * block <= size);
	if (begin / size != last / size)
		next = last / size * size + block;
	while (next - image->ring->text_ring.tail_lpos > size)
		drop_tail(image);
	image->ring->text_ring.head_lpos = next;
	ret->begin = begin;
	ret->next = next;
}

struct klog_image_desc *klog_image_say(struct klog_image *image, unsigned level, uint64_t ns,
				       const char *text)
{
	uint64_t count = 1ull << image->ring->desc_ring.count_bits, id, at;
	uint64_t size = 1ull << image->ring->text_ring.size_bits;
	struct klog_image_desc *desc;
	struct klog_image_info *info;
	size_t len = strlen(text);

	id = (image->ring->desc_ring.head_id + 1) & ID_MASK;
	if (((id - image->ring->desc_ring.tail_id) & ID_MASK) == count)
		drop_tail(image);
	image->ring->desc_ring.head_id = id;
	desc = &image->desc[index_of(image, id)];
	info = &image->info[index_of(image, id)];
	info->seq = info->seq || !index_of(image, id) ? info->seq + count : index_of(image, id);
	info->ns = ns;
	info->text_len = (uint16_t)len;
	info->flags_and_level = (uint8_t)(level << 5);
	info->caller = 1;
	desc->state = id; /* reserved */
	desc->begin = desc->next = 3;
	if (len) {
		reserve_text(image, len, desc);
		at = desc->begin / size == (desc->next - 1) / size ? desc->begin & (size - 1) : 0;
		memcpy(image->data + at, &id, sizeof(id));
		memcpy(image->data + at + sizeof(id), text, len);
	}
	desc->state = FINALIZED | id;
	return desc;
}

struct klog_image_info *klog_image_info(struct klog_image *image,
					const struct klog_image_desc *desc)
{
	return &image->info[desc - image->desc];
}

void klog_image_edit(struct klog_image *image, const char *from, const char *to)
{
	char *at = strstr(image->vmcoreinfo, from), *rest;

	assert(at);
	rest = strdup(at + strlen(from));
	assert(rest && strlen(image->vmcoreinfo) + strlen(to) < PAGE);
	sprintf(at, "%s%s", to, rest);
	free(rest);
}
