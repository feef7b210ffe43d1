// SPDX-License-Identifier: BSD-2-Clause
/* The guest kernel's log, as a kernel wrote it, and as a hostile guest would. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/util.h"
#include "klog/klog.h"
#include "klog_image.h"

struct fixture {
	struct klog_image image;
	struct klog log;
	struct klog_page page;
};

static int begin(void **state, unsigned count_bits, unsigned size_bits, unsigned levels)
{
	struct fixture *f = calloc(1, sizeof(*f));

	klog_image_new(&f->image, count_bits, size_bits, levels);
	f->log.mem = &f->image.mem;
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return begin(state, 6, 12, 4);
}

static int setup_l5(void **state)
{
	return begin(state, 6, 12, 5);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	klog_page_free(&f->page);
	klog_image_free(&f->image);
	free(f);
	return 0;
}

static int look(struct fixture *f, uint64_t from, size_t bytes, size_t records)
{
	klog_page_free(&f->page);
	return klog_read(&f->log, &(struct klog_range){from, bytes, records}, &f->page);
}

static void read_all(struct fixture *f)
{
	assert_int_equal(look(f, 0, KLOG_MAX_BYTES, 0), 0);
}

static void expect(const struct fixture *f, size_t i, uint64_t seq, const char *text)
{
	assert_true(i < f->page.num);
	assert_int_equal(f->page.record[i].seq, seq);
	assert_string_equal(f->page.record[i].text, text);
}

/* Messages "message N" from `first` on. */
static void say_many(struct fixture *f, unsigned first, unsigned num)
{
	for (unsigned i = first; i < first + num; i++) {
		char text[32];

		snprintf(text, sizeof(text), "message %u", i);
		klog_image_say(&f->image, 6, i * 1000000ull, text);
	}
}

/* That the page has "message N" for each number, from `first` to `last`. */
static void expect_many(const struct fixture *f, unsigned first, unsigned last)
{
	assert_int_equal(f->page.num, last - first + 1);
	for (unsigned i = first; i <= last; i++) {
		char text[32];

		snprintf(text, sizeof(text), "message %u", i);
		expect(f, i - first, i, text);
	}
}

static void test_messages_are_read(void **state)
{
	struct fixture *f = *state;

	klog_image_info(&f->image, klog_image_say(&f->image, 5, 0, "Linux version 6.1"))->caller =
		0x80000003;
	klog_image_say(&f->image, 0, 12345678901, "Kernel panic");
	klog_image_say(&f->image, 6, 12345679000, "");
	read_all(f);
	assert_int_equal(f->page.num, 3);
	expect(f, 0, 0, "Linux version 6.1");
	expect(f, 1, 1, "Kernel panic");
	expect(f, 2, 2, "");
	assert_int_equal(f->page.record[0].level, 5);
	assert_string_equal(f->page.record[0].caller, "C3");
	assert_int_equal(f->page.record[1].level, 0);
	assert_int_equal(f->page.record[1].ns, 12345678901);
	assert_string_equal(f->page.record[1].caller, "T1");
	assert_int_equal(f->page.next, 3);
	assert_int_equal(f->page.end, 3);
}

static void test_a_ring_that_wrapped_has_its_newest(void **state)
{
	struct fixture *f = *state;

	for (unsigned fit = 0; fit < 2; fit++) {
		f->image.ends_fit = fit;
		say_many(f, 1000 * fit, 1000);
		read_all(f);
		/* 64 descriptors, and text for more. */
		expect_many(f, 1000 * fit + 936, 1000 * fit + 999);
	}
}

/* Each length comes to lie at the end of the text ring in each way that there is. */
static void test_text_is_whole_wherever_it_lies(void **state)
{
	struct fixture *f = *state;
	char text[300];

	for (unsigned i = 0; i < 4000; i++) {
		size_t len = 1 + i * 7 % 290;

		f->image.ends_fit = i / 2000;
		memset(text, 'a' + (int)(i % 26), len);
		text[len] = '\0';
		klog_image_say(&f->image, 6, i, text);
		assert_int_equal(look(f, KLOG_NEWEST, KLOG_MAX_BYTES, 1), 0);
		assert_int_equal(f->page.num, 1);
		expect(f, 0, i, text);
	}
}

static void test_pages_follow_each_other(void **state)
{
	struct fixture *f = *state;
	unsigned pages = 0;

	say_many(f, 0, 60);
	for (uint64_t next = 0; next < 60; pages++) {
		assert_int_equal(look(f, next, 600, 0), 0);
		assert_int_equal(f->page.end, 60);
		assert_true(f->page.num > 0);
		expect_many(f, (unsigned)next, (unsigned)f->page.next - 1);
		next = f->page.next;
	}
	assert_true(pages > 5);
	assert_int_equal(look(f, 60, 600, 0), 0);
	assert_int_equal(f->page.num, 0);
	assert_int_equal(f->page.next, 60);
}

static void test_the_newest_are_read_within_bounds(void **state)
{
	struct fixture *f = *state;

	say_many(f, 0, 60);
	assert_int_equal(look(f, KLOG_NEWEST, KLOG_MAX_BYTES, 7), 0);
	expect_many(f, 53, 59);
	assert_int_equal(look(f, KLOG_NEWEST, 600, 0), 0);
	assert_true(f->page.num > 2 && f->page.num < 12);
	expect_many(f, 60 - (unsigned)f->page.num, 59);
}

static void test_text_is_safe_for_a_terminal(void **state)
{
	struct fixture *f = *state;
	struct klog_image_desc *d =
		klog_image_say(&f->image, 6, 0, "a\033[2J\tb\nsecond\xff line\r");
	size_t len;
	char *text;
	FILE *out;

	f->image.data[(d->begin & 4095) + 8] = '\0';
	read_all(f);
	expect(f, 0, 0, " ?[2J b\nsecond? line?");
	f->page.record[0].ns = 1234567890;
	out = open_memstream(&text, &len);
	klog_print(&f->page.record[0], out);
	fclose(out);
	assert_string_equal(text, "[    1.234567]  ?[2J b\n[    1.234567] second? line?\n");
	free(text);
}

static void test_torn_records_are_left_out(void **state)
{
	struct fixture *f = *state;
	struct klog_image_desc *d[8];

	for (unsigned i = 0; i < ARRAY_SIZE(d); i++)
		d[i] = klog_image_say(&f->image, 6, i, "message");
	d[0]->state &= ~0ull >> 2;			       /* reserved */
	d[1]->state |= 3ull << 62;			       /* reusable */
	d[2]->state += 64;				       /* another one's */
	klog_image_info(&f->image, d[3])->seq = 99;	       /* another one's */
	f->image.data[d[4]->begin & 4095] ^= 1;		       /* its text is another one's */
	d[5]->begin = d[5]->next = 1;			       /* lost */
	d[6]->state = (d[6]->state & ~0ull >> 2) | 1ull << 62; /* committed: it may still grow */
	read_all(f);
	assert_int_equal(f->page.num, 4);
	expect(f, 0, 4, "");
	expect(f, 1, 5, "");
	expect(f, 2, 6, "message");
	expect(f, 3, 7, "message");
}

static void test_lengths_that_lie_end_where_the_block_does(void **state)
{
	struct fixture *f = *state;
	struct klog_image_desc *d = klog_image_say(&f->image, 6, 0, "short");

	klog_image_say(&f->image, 6, 0, "next");
	klog_image_info(&f->image, d)->text_len = 65535;
	read_all(f);
	expect(f, 0, 0, "short   ");
	expect(f, 1, 1, "next");
	d->next = d->begin;
	read_all(f);
	expect(f, 0, 0, "");
}

/* Each number of the ring, with values that a guest would choose. */
static void test_lies_of_the_ring_are_survived(void **state)
{
	static const uint64_t lies[] = {0,
					1,
					31,
					32,
					64,
					1ull << 31,
					UINT32_MAX,
					1ull << 62,
					INT64_MAX,
					UINT64_MAX,
					0xff11000000ull,
					0x123456789abcdef0};
	struct fixture *f = *state;
	struct klog_image_ring good;

	say_many(f, 0, 200);
	good = *f->image.ring;
	for (size_t at = 0; at < sizeof(good); at += sizeof(uint32_t)) {
		for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
			memcpy((char *)f->image.ring + at, &lies[i],
			       MIN(sizeof(lies[i]), sizeof(good) - at));
			look(f, i & 1 ? 0 : KLOG_NEWEST, KLOG_MAX_BYTES, 0);
			*f->image.ring = good;
		}
	}
	read_all(f);
	expect_many(f, 136, 199);
}

static void test_facts_that_are_missing_or_wrong_are_no_log(void **state)
{
	static const char *const edits[][2] = {
		{"OSRELEASE=", "OSRELEAS3="},
		{"SYMBOL(prb)=", "SYMBOL(prc)="},
		{"SYMBOL(prb)=fffff", "SYMBOL(prb)=ffff0"},
		{"SYMBOL(prb)=f", "SYMBOL(prb)=\nf"},
		{"SIZE(prb_desc)=", "SIZE(prb_desk)="},
		{"NUMBER(phys_base)=-", "NUMBER(phys_base)="},
		{"pgtable_l5_enabled)=0", "pgtable_l5_enabled)=1"},
		{"SYMBOL(swapper_pg_dir)=ffffffff8", "SYMBOL(swapper_pg_dir)=fffffff08"},
		{"NUMBER(phys_base)=", "NUMBER(phys_base)=x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		struct fixture *f = *state;

		say_many(f, 0, 3);
		read_all(f);
		klog_image_edit(&f->image, edits[i][0], edits[i][1]);
		assert_int_equal(look(f, 0, KLOG_MAX_BYTES, 0), -ENOENT);
		assert_int_equal(f->page.num, 0);
		teardown(state);
		setup(state);
	}
}

static void test_a_log_that_moves_is_found_again(void **state)
{
	struct fixture *f = *state;
	uint8_t *there = (uint8_t *)f->image.vmcoreinfo;

	assert_int_equal(look(f, 0, KLOG_MAX_BYTES, 0), 0);
	say_many(f, 0, 3);
	memcpy(there - 3 * 4096, there, 4096);
	memset(there, 0, 4096);
	read_all(f);
	expect_many(f, 0, 2);
}

/* The log as it is, as another kernel's, whose page is behind. */
static void copy_log(struct fixture *f)
{
	const size_t away = 0x80000; /* from each ring to its copy */
	uint8_t *ram = f->image.ram;
	struct klog_image_ring *ring = (void *)(ram + KLOG_IMAGE_KERNEL + 0x1040);
	char *page = (char *)ram + KLOG_IMAGE_INFO + 0x1000, *address;
	uint64_t at;

	memcpy(page, f->image.vmcoreinfo, 4096);
	address = strstr(page, "SYMBOL(prb)=ffffffff84000000");
	assert_non_null(address);
	address[strlen("SYMBOL(prb)=ffffffff8400")] = '1';
	memcpy(&at, ram + KLOG_IMAGE_KERNEL, sizeof(at));
	at += 0x1000;
	memcpy(ram + KLOG_IMAGE_KERNEL + 0x1000, &at, sizeof(at));
	*ring = *f->image.ring;
	ring->desc_ring.descs += away;
	ring->desc_ring.infos += away;
	ring->text_ring.data += away;
	for (at = KLOG_IMAGE_DESCS; at <= KLOG_IMAGE_DATA; at += KLOG_IMAGE_DATA - KLOG_IMAGE_INFOS)
		memcpy(ram + at + away, ram + at, away);
}

/* After a kexec the log of the kernel before is in memory, too. */
static void test_after_a_kexec_it_is_the_new_kernels_log(void **state)
{
	struct fixture *f = *state;

	say_many(f, 0, 3);
	read_all(f);
	copy_log(f);
	klog_image_say(&f->image, 6, 5, "message 3");
	klog_image_say(&f->image, 0, 6, "kexec_core: Starting new kernel");
	klog_image_say(&f->image, 6, 7, "kvm-clock: disabled");
	read_all(f);
	expect_many(f, 0, 2);
	read_all(f);
	expect_many(f, 0, 2);
	memset(f->image.ram + KLOG_IMAGE_INFO + 0x1000, 0, 4096); /* before that has one */
	read_all(f);
	assert_int_equal(f->page.num, 6);
	expect(f, 4, 4, "kexec_core: Starting new kernel");
}

/* The old one's memory is used for something else. */
static void test_what_is_left_of_a_log_hides_none(void **state)
{
	struct fixture *f = *state;

	say_many(f, 0, 3);
	read_all(f);
	copy_log(f);
	memset(f->image.ram + KLOG_IMAGE_DESCS, 0xff, 0x80000);
	read_all(f);
	expect_many(f, 0, 2);
}

/* What begins like a log, but is none, hides none; nor does it make the search long. */
static void test_decoys_are_passed_over_and_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t *ram = f->image.ram;

	say_many(f, 0, 3);
	strcpy((char *)ram + 0x340000, "OSRELEASE=6.1.0\nSYMBOL(prb)=");
	memcpy(ram + 0x341000, f->image.vmcoreinfo, 4096);
	*strstr((char *)ram + 0x341000, "(prb)=f") = 'x';
	read_all(f);
	expect_many(f, 0, 2);
	f->log = (struct klog){.mem = &f->image.mem};
	for (size_t at = 0x600000 + 4096; at < KLOG_IMAGE_SIZE; at += 4096)
		strcpy((char *)ram + at, "OSRELEASE=");
	memset(f->image.vmcoreinfo, 0, 4096);
	assert_int_equal(look(f, 0, KLOG_MAX_BYTES, 0), -ENOENT);
}

static size_t resident(const struct gmem *mem)
{
	static unsigned char there[(5ull << 30) / 4096];
	size_t n = 0;

	for (unsigned i = 0; i < mem->num_regions; i++) {
		assert_int_equal(mincore(mem->region[i].host, mem->region[i].size, there), 0);
		for (size_t p = 0; p < mem->region[i].size / 4096; p++)
			n += there[p] & 1;
	}
	return n;
}

static void test_untouched_memory_stays_untouched(void **state)
{
	struct klog log = {.mem = NULL};
	struct klog_page page;
	struct gmem mem;
	size_t before;

	(void)state;
	assert_int_equal(gmem_create(&mem, 5 * GIB, NULL), 0);
	log.mem = &mem;
	strcpy((char *)mem.region[0].host + 64 * MIB, "OSRELEASE=");
	strcpy((char *)mem.region[1].host + 64 * MIB, "OSRELEASE=");
	before = resident(&mem);
	assert_int_equal(klog_read(&log, &(struct klog_range){0, 100, 0}, &page), -ENOENT);
	klog_page_free(&page);
	assert_int_equal(resident(&mem), before);
	gmem_destroy(&mem);
}

#define T(name)	   cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define T_L5(name) cmocka_unit_test_setup_teardown(test_##name, setup_l5, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(messages_are_read),
		T_L5(messages_are_read),
		T(a_ring_that_wrapped_has_its_newest),
		T(text_is_whole_wherever_it_lies),
		T(pages_follow_each_other),
		T(the_newest_are_read_within_bounds),
		T(text_is_safe_for_a_terminal),
		T(torn_records_are_left_out),
		T(lengths_that_lie_end_where_the_block_does),
		T(lies_of_the_ring_are_survived),
		T(facts_that_are_missing_or_wrong_are_no_log),
		T(a_log_that_moves_is_found_again),
		T(after_a_kexec_it_is_the_new_kernels_log),
		T(what_is_left_of_a_log_hides_none),
		T(decoys_are_passed_over_and_bounded),
		cmocka_unit_test(test_untouched_memory_stays_untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
