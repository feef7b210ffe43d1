// SPDX-License-Identifier: BSD-2-Clause
/* A Linux kernel's log in guest memory, as the kernel would have written it. */
#ifndef SKEP_TEST_KLOG_IMAGE_H
#define SKEP_TEST_KLOG_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/gmem.h"

/* Physical addresses: what of the image is where. */
#define KLOG_IMAGE_SIZE	  (8u << 20)
#define KLOG_IMAGE_TABLES 0x100000u /* page tables, from the top one on */
#define KLOG_IMAGE_KERNEL 0x200000u /* the kernel's data: its pointer to the ring, then the ring */
#define KLOG_IMAGE_RING	  0x200040u
#define KLOG_IMAGE_INFO	  0x345000u /* vmcoreinfo */
#define KLOG_IMAGE_DESCS  0x400000u
#define KLOG_IMAGE_INFOS  0x500000u
#define KLOG_IMAGE_DATA	  0x600000u

/* struct printk_ringbuffer of Linux 5.10 to 6.7; later ones have more at the end of desc_ring. */
struct klog_image_ring {
	struct {
		uint32_t count_bits;
		uint64_t descs, infos;
		uint64_t head_id, tail_id;
		uint64_t last_finalized_seq;
	} desc_ring;
	struct {
		uint32_t size_bits;
		uint64_t data;
		uint64_t head_lpos, tail_lpos;
	} text_ring;
	uint64_t fail;
};

struct klog_image_desc {
	uint64_t state;
	uint64_t begin, next;
};

struct klog_image_info {
	uint64_t seq, ns;
	uint16_t text_len;
	uint8_t facility, flags_and_level;
	uint32_t caller;
	char device[64];
};

struct klog_image {
	struct gmem mem;
	uint8_t *ram; /* byte 0 of it */
	struct klog_image_ring *ring;
	struct klog_image_desc *desc;
	struct klog_image_info *info;
	char *data, *vmcoreinfo;
	bool ends_fit; /* as since 6.18, a block may end where the text ring does */
};

/* A kernel that has said nothing yet. */
void klog_image_new(struct klog_image *ret, unsigned count_bits, unsigned size_bits,
		    unsigned levels);
void klog_image_free(struct klog_image *image);
/* printk(), by PID 1: drops the oldest messages when there is no room. Returns the descriptor. */
struct klog_image_desc *klog_image_say(struct klog_image *image, unsigned level, uint64_t ns,
				       const char *text);
/* The descriptor's info. */
struct klog_image_info *klog_image_info(struct klog_image *image,
					const struct klog_image_desc *desc);
/* Replaces the first `from` in vmcoreinfo. */
void klog_image_edit(struct klog_image *image, const char *from, const char *to);

#endif
