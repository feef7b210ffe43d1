// SPDX-License-Identifier: BSD-2-Clause
/*
 * A kernel's log that a guest made. Input: 0, then options and commands that change a log as it
 * should be; or 1, then pages of guest memory, each after its number (16 bits). What must hold: see
 * check_page().
 */
#include <string.h>

#include "base/util.h"
#include "input.h"
#include "klog/klog.h"
#include "klog_image.h"

#define PAGE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct input in;

/* Its text is clean, its records are in order, and no more than was asked for. */
static void check_page(const struct klog_page *page, const struct klog_range *range)
{
	size_t bytes = 0;

	check(!range->records || page->num <= range->records);
	check(page->next <= page->end || range->from != KLOG_NEWEST || page->num == 0);
	for (size_t i = 0; i < page->num; i++) {
		const struct klog_record *r = &page->record[i];

		check(i == 0 || r->seq > page->record[i - 1].seq);
		check(r->level < 8);
		for (const char *p = r->text; *p; p++, bytes++)
			check((uint8_t)*p >= ' ' || *p == '\n');
		klog_print(r, stderr);
	}
	check(bytes <= MIN(range->bytes, KLOG_MAX_BYTES));
}

static void look(struct klog *log)
{
	struct klog_range range = {.from = take8(&in) & 1 ? KLOG_NEWEST : take16(&in),
				   .bytes = take8(&in) & 1 ? KLOG_MAX_BYTES : take16(&in),
				   .records = take8(&in)};
	struct klog_page page;

	if (klog_read(log, &range, &page) == 0)
		check_page(&page, &range);
	klog_page_free(&page);
}

/* Eight bytes somewhere in what matters, or in all of memory. */
static void poke(struct klog_image *image)
{
	static const uint32_t where[][2] = {
		{KLOG_IMAGE_TABLES, 6 * PAGE},
		{KLOG_IMAGE_KERNEL, PAGE},
		{KLOG_IMAGE_INFO, PAGE},
		{KLOG_IMAGE_DESCS, PAGE},
		{KLOG_IMAGE_INFOS, 2 * PAGE},
		{KLOG_IMAGE_DATA, PAGE},
		{KLOG_IMAGE_RING, sizeof(struct klog_image_ring)},
		{0, KLOG_IMAGE_SIZE - 8},
	};
	const uint32_t *range = where[take8(&in) % ARRAY_SIZE(where)];
	uint32_t at = range[0] + take32(&in) % range[1];
	unsigned len = 1 + take8(&in) % 8;
	uint64_t value = take64(&in);

	memcpy(image->ram + at, &value, len);
}

static void say(struct klog_image *image)
{
	uint8_t text[200];
	size_t len = take8(&in) % 200, i;

	for (i = 0; i < len; i++)
		text[i] = take8(&in);
	text[len] = '\0';
	klog_image_say(image, take8(&in) % 8, take32(&in), (const char *)text);
}

static void change_log(void)
{
	struct klog_image image;
	struct klog log = {.mem = &image.mem};
	unsigned bits = 3 + take8(&in) % 4;
	bool damaged = false;

	klog_image_new(&image, bits, 9 + take8(&in) % 4, 4 + take8(&in) % 2);
	image.ends_fit = take8(&in) & 1;
	for (unsigned n = 0; input_left(&in) && n < 64; n++) {
		uint8_t what = take8(&in);

		if (what < 100 && !damaged)
			say(&image);
		else if (what < 200)
			damaged = true, poke(&image);
		else
			look(&log);
	}
	look(&log);
	klog_image_free(&image);
}

static void take_memory(void)
{
	struct gmem mem;
	struct klog log = {.mem = &mem};

	check(gmem_create(&mem, 256 * MIB, NULL) == 0);
	while (in.size > PAGE) {
		void *page = mem.region[0].host + (size_t)take16(&in) * PAGE;

		memcpy(page, in.data, MIN(in.size, PAGE));
		in.data += MIN(in.size, PAGE);
		in.size -= MIN(in.size, PAGE);
	}
	look(&log);
	look(&log);
	gmem_destroy(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	in = (struct input){data, size};
	if (take8(&in))
		take_memory();
	else
		change_log();
	return 0;
}
