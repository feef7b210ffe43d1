// SPDX-License-Identifier: BSD-2-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "balloon/balloon.h"
#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "virtio/state.h"

#define ALL  UINT64_MAX
#define RAM  (256 * MIB)
#define PAGE 4096u

/* Queues, as all features have them. */
enum { INFLATE, DEFLATE, STATS, REPORTING };

struct fixture {
	struct drv d;
	struct loop *loop;
	struct virtio_dev *dev;
	struct loop_hook hook;
	_Atomic unsigned turns;
	bool pinned;
};

static bool count_turn(struct loop_hook *hook)
{
	container_of(hook, struct fixture, hook)->turns++;
	return false;
}

static void up(struct fixture *f, const struct balloon_config *config)
{
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 8, NULL), 0);
	assert_int_equal(balloon_device_new(&f->dev, &f->d.mem, config, f->pinned, f->loop, NULL),
			 0);
	loop_add_hook(f->loop, &f->hook);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
}

static void down(struct fixture *f)
{
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
}

static struct fixture *start_pinned(const struct balloon_config *config, uint64_t features,
				    bool pinned)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	drv_init(&f->d, RAM);
	f->hook.fn = count_turn;
	f->pinned = pinned;
	up(f, config);
	drv_start(&f->d, features, 0);
	return f;
}

static struct fixture *start_with(const struct balloon_config *config, uint64_t features)
{
	return start_pinned(config, features, false);
}

static struct fixture *start(uint64_t features)
{
	return start_with(&(struct balloon_config){.report = true, .deflate_on_oom = true},
			  features);
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	free(f);
}

static void nothing(void *arg)
{
	(void)arg;
}

static bool is_broken(struct fixture *f)
{
	for (int i = 0; i < 3; i++)
		loop_call(f->loop, nothing, NULL);
	return drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void add(struct fixture *f, unsigned q, const struct drv_buf *bufs, unsigned n)
{
	assert_true(drv_add(&f->d.queue[q], bufs, n) >= 0);
	drv_kick_if_needed(&f->d.queue[q]);
}

static void request(struct fixture *f, unsigned q, const struct drv_buf *bufs, unsigned n)
{
	uint32_t id, len;

	add(f, q, bufs, n);
	drv_wait_used(&f->d.queue[q], &id, &len);
	assert_int_equal(len, 0);
}

static struct balloon_counters counters(const struct fixture *f)
{
	struct balloon_counters c;

	balloon_counters(f->dev, &c);
	return c;
}

/* Guest memory that is in use. */
static struct drv_buf used(struct fixture *f, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, PAGE), len, true};

	memset(drv_ptr(&f->d, buf.addr, len), 0xa5, len);
	return buf;
}

static unsigned count(struct fixture *f, struct drv_buf buf, uint8_t byte)
{
	const uint8_t *p = drv_ptr(&f->d, buf.addr, buf.len);
	unsigned n = 0;

	for (uint32_t i = 0; i < buf.len; i++)
		n += p[i] == byte;
	return n;
}

/* Makes an array of page numbers, `num` of them, for a device-readable buffer. */
static struct drv_buf pages(struct fixture *f, const uint32_t *pfn, unsigned num)
{
	struct drv_buf buf = {drv_alloc(&f->d, num * sizeof(*pfn), 4), num * sizeof(*pfn), false};

	memcpy(drv_ptr(&f->d, buf.addr, buf.len), pfn, buf.len);
	return buf;
}

static void test_reported_pages_go_back(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf a = used(f, 8 * PAGE), kept = used(f, PAGE), b = used(f, 4 * PAGE);

	(void)state;
	request(f, REPORTING, (struct drv_buf[]){a, b}, 2);
	assert_int_equal(count(f, a, 0), a.len);
	assert_int_equal(count(f, b, 0), b.len);
	assert_int_equal(count(f, kept, 0xa5), kept.len);
	assert_int_equal(counters(f).reported_bytes, a.len + b.len);
	assert_int_equal(counters(f).returned_bytes, a.len + b.len);
	end(f);
}

static void test_only_whole_pages_go_back(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf a = used(f, 4 * PAGE), part = {GPA(a.addr.v + 100), 3 * PAGE, true};

	(void)state;
	request(f, REPORTING, &part, 1);
	assert_int_equal(count(f, a, 0), 2 * PAGE);
	assert_int_equal(count(f, a, 0xa5), 2 * PAGE);
	assert_int_equal(counters(f).returned_bytes, 2 * PAGE);
	part = (struct drv_buf){GPA(a.addr.v + 1), PAGE, true};
	request(f, REPORTING, &part, 1);
	assert_int_equal(counters(f).returned_bytes, 2 * PAGE);
	end(f);
}

/* A chain may have all of RAM, many times over: others have their turn meanwhile. */
static void test_a_long_report_takes_turns(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf all[8], last = used(f, PAGE);

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		all[i] = (struct drv_buf){last.addr, (uint32_t)(RAM - last.addr.v), true};
	f->turns = 0;
	request(f, REPORTING, all, 8);
	assert_true(f->turns >= 8 * (RAM - 16 * MIB) / (64 * MIB));
	assert_int_equal(count(f, last, 0), PAGE);
	assert_int_equal(counters(f).reported_bytes, 8 * (int64_t)all[0].len);
	end(f);
}

static void test_reset_in_a_long_report(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf all[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		all[i] = (struct drv_buf){GPA(16 * MIB), RAM - 16 * MIB, true};
	for (unsigned i = 0; i < 20; i++) {
		struct drv_buf one = used(f, PAGE);

		add(f, REPORTING, all, 8);
		drv_start(&f->d, ALL, 0);
		request(f, REPORTING, &one, 1);
		assert_int_equal(count(f, one, 0), PAGE);
	}
	end(f);
}

static void test_poisoned_pages_stay(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf a = used(f, PAGE);

	(void)state;
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG + 12, 0xa5a5a5a5);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 12), 0xa5a5a5a5);
	request(f, REPORTING, &a, 1);
	assert_int_equal(count(f, a, 0xa5), PAGE);
	assert_int_equal(counters(f).returned_bytes, 0);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 12), 0);
	request(f, REPORTING, &a, 1);
	assert_int_equal(count(f, a, 0), PAGE);
	end(f);
}

static void test_inflated_pages_go_back(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf a = used(f, 16 * PAGE);
	uint32_t p = (uint32_t)(a.addr.v / PAGE);
	/* Upwards, alone, downwards, twice, and what is no RAM. */
	const uint32_t pfn[] = {
		p,     p + 1, p + 2,	  p + 5,      p + 9,  p + 8,
		p + 7, p + 7, UINT32_MAX, RAM / PAGE, p + 15, 0xc0000,
	};
	struct drv_buf list = pages(f, pfn, ARRAY_SIZE(pfn));

	(void)state;
	request(f, INFLATE, &list, 1);
	for (unsigned i = 0; i < 16; i++) {
		struct drv_buf page = {GPA(a.addr.v + i * PAGE), PAGE, true};
		bool gone = i <= 2 || i == 5 || (i >= 7 && i <= 9) || i == 15;

		assert_int_equal(count(f, page, gone ? 0 : 0xa5), PAGE);
	}
	assert_int_equal(counters(f).inflated_bytes, 9 * PAGE);
	request(f, DEFLATE, &list, 1);
	assert_false(is_broken(f));
	end(f);
}

static void test_page_numbers_in_pieces(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf a = used(f, 4 * PAGE);
	uint32_t p = (uint32_t)(a.addr.v / PAGE);
	struct drv_buf one = pages(f, &(uint32_t){p}, 1), two = pages(f, &(uint32_t){p + 3}, 1);
	struct drv_buf none = {one.addr, 3, false}, odd = {two.addr, 4, false};

	(void)state;
	request(f, INFLATE, (struct drv_buf[]){one, none, odd}, 3);
	assert_int_equal(count(f, a, 0), 2 * PAGE);
	assert_int_equal(counters(f).inflated_bytes, 2 * PAGE);
	end(f);
}

static void test_many_page_numbers_take_turns(void **state)
{
	struct fixture *f = start(ALL);
	uint32_t num = MIB / 4;
	struct drv_buf list = {drv_alloc(&f->d, MIB, 4), MIB, false};
	uint32_t *pfn = drv_ptr(&f->d, list.addr, MIB);

	(void)state;
	for (uint32_t i = 0; i < num; i++)
		pfn[i] = (uint32_t)(32 * MIB / PAGE) + i % 16384;
	f->turns = 0;
	request(f, INFLATE, &list, 1);
	assert_true(f->turns >= num / 4096 - 1);
	assert_int_equal(counters(f).inflated_bytes, (int64_t)num * PAGE);
	end(f);
}

/* A disk's io_uring knows the pages by where they are: others in their place would be lost writes. */
static void test_pinned_pages_stay(void **state)
{
	struct fixture *f = start_pinned(&(struct balloon_config){.report = true}, ALL, true);
	struct drv_buf a = used(f, PAGE);
	struct drv_buf list = pages(f, &(uint32_t){(uint32_t)(a.addr.v / PAGE)}, 1);

	(void)state;
	assert_false(drv_device_features(&f->d) & 1ull << VIRTIO_BALLOON_F_REPORTING);
	request(f, INFLATE, &list, 1); /* nobody asked for it */
	assert_int_equal(count(f, a, 0xa5), PAGE);
	assert_int_equal(counters(f).returned_bytes, 0);
	end(f);
}

struct stats {
	struct virtio_balloon_stat s[3];
};

static struct drv_buf stats(struct fixture *f, uint64_t free_memory)
{
	struct stats all = {{{VIRTIO_BALLOON_S_MEMFREE, free_memory},
			     {VIRTIO_BALLOON_S_MAJFLT, UINT64_MAX},
			     {99, 1}}};
	struct drv_buf buf = {drv_alloc(&f->d, sizeof(all), 8), sizeof(all), false};

	memcpy(drv_ptr(&f->d, buf.addr, sizeof(all)), &all, sizeof(all));
	return buf;
}

static void ask(void *arg)
{
	balloon_ask_for_stats(arg);
}

static void test_statistics(void **state)
{
	struct fixture *f = start(ALL);
	int64_t got[VIRTIO_BALLOON_S_NR];
	uint32_t id, len;
	struct drv_buf a = stats(f, 12 * MIB), b = stats(f, 13 * MIB);

	(void)state;
	assert_int_equal(balloon_stats(f->dev, got), -1);
	assert_int_equal(got[VIRTIO_BALLOON_S_MEMFREE], -1);
	loop_call(f->loop, ask, f->dev); /* before there is a buffer */
	request(f, STATS, &a, 1);
	assert_true(balloon_stats(f->dev, got) >= 0);
	assert_int_equal(got[VIRTIO_BALLOON_S_MEMFREE], 12 * MIB);
	assert_int_equal(got[VIRTIO_BALLOON_S_MAJFLT], INT64_MAX);
	assert_int_equal(got[VIRTIO_BALLOON_S_MEMTOT], -1);
	add(f, STATS, &b, 1);
	loop_call(f->loop, nothing, NULL);
	assert_false(drv_used(&f->d.queue[STATS], &id, &len));
	loop_call(f->loop, ask, f->dev);
	drv_wait_used(&f->d.queue[STATS], &id, &len);
	assert_true(balloon_stats(f->dev, got) >= 0);
	assert_int_equal(got[VIRTIO_BALLOON_S_MEMFREE], 13 * MIB);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(balloon_stats(f->dev, got), -1);
	end(f);
}

static void test_statistics_in_time(void **state)
{
	struct fixture *f = start_with(&(struct balloon_config){.stats_ns = 1000000}, ALL);

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct drv_buf a = stats(f, MIB);

		request(f, STATS, &a, 1); /* nobody asks but the clock */
	}
	end(f);
}

/* As the specification counts the queues, and as Linux does. */
static void test_queues_with_and_without_gaps(void **state)
{
	static const uint64_t stats_bit = 1ull << VIRTIO_BALLOON_F_STATS_VQ;

	(void)state;
	for (unsigned q = STATS; q <= 4; q++) {
		struct fixture *f = start(q == STATS ? ALL & ~stats_bit : ALL);
		struct drv_buf a = used(f, PAGE);

		request(f, q, &a, 1);
		assert_int_equal(count(f, a, 0), PAGE);
		end(f);
	}
}

static void test_queues_of_features_that_are_declined(void **state)
{
	struct fixture *f = start(ALL & ~(1ull << VIRTIO_BALLOON_F_REPORTING));

	(void)state;
	drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, 3);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, STATS);
	assert_int_not_equal(drv_read32(&f->d, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	end(f);
}

static void test_size(void **state)
{
	struct fixture *f = start_with(&(struct balloon_config){.size = 3 * PAGE + 1}, ALL);

	(void)state;
	assert_false(drv_device_features(&f->d) & 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	assert_false(drv_device_features(&f->d) & 1ull << VIRTIO_BALLOON_F_REPORTING);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 3);
	drv_irqs(&f->d);
	balloon_set_size(f->dev, 5 * PAGE);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 5);
	assert_int_equal(drv_irqs(&f->d), 1);
	balloon_set_size(f->dev, UINT64_MAX);
	assert_int_equal(counters(f).target, RAM - MIB);
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG, 7); /* not the driver's */
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG + 4, 7);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), (RAM - MIB) / PAGE);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 4), 7);
	assert_int_equal(counters(f).size, 7 * PAGE);
	drv_reset(&f->d);
	assert_int_equal(counters(f).size, 0);
	assert_int_equal(counters(f).target, RAM - MIB);
	end(f);
}

static void test_broken_drivers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = start(ALL);
		struct drv_buf a = used(f, PAGE), b = stats(f, 1);
		struct drv_buf readable = {a.addr, a.len, false};
		const struct {
			unsigned queue;
			struct drv_buf buf;
		} wrong[] = {{INFLATE, a}, {REPORTING, readable}, {STATS, a}, {STATS, b}};

		if (i == 3)
			add(f, STATS, &b, 1); /* and then a second one */
		add(f, wrong[i].queue, &wrong[i].buf, 1);
		assert_true(is_broken(f));
		assert_int_equal(count(f, a, 0xa5), PAGE);
		drv_start(&f->d, ALL, 0);
		request(f, REPORTING, &a, 1);
		end(f);
	}
}

/* Saved while it holds the buffer of statistics, and in the middle of a report. */
static void test_another_device_goes_on(void **state)
{
	const struct balloon_config config = {.report = true, .deflate_on_oom = true};
	struct fixture *f = start(ALL);
	struct drv_buf a = stats(f, 12 * MIB), all[8];
	static struct virtio_state saved;
	int64_t got[VIRTIO_BALLOON_S_NR];
	struct error e = {""};
	uint32_t id, len;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		all[i] = (struct drv_buf){GPA(16 * MIB), RAM - 16 * MIB, true};
	balloon_set_size(f->dev, 4 * PAGE);
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG + 4, 3);
	add(f, STATS, &a, 1);
	add(f, REPORTING, all, 8);
	loop_call(f->loop, nothing, NULL);
	virtio_dev_pause(f->dev);
	if (virtio_dev_save(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	down(f);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(f, &config);
	saved.own[3] = 0xff;
	assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), -EINVAL);
	if (!strstr(e.msg, "larger than memory"))
		fail_msg("%s", e.msg);
	saved.own[3] = 0;
	if (virtio_dev_restore(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(counters(f).target, 4 * PAGE);
	assert_int_equal(counters(f).size, 3 * PAGE);
	drv_wait_used(&f->d.queue[REPORTING], &id, &len);
	loop_call(f->loop, ask, f->dev);
	drv_wait_used(&f->d.queue[STATS], &id, &len);
	assert_true(balloon_stats(f->dev, got) >= 0);
	assert_int_equal(got[VIRTIO_BALLOON_S_MEMFREE], 12 * MIB);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reported_pages_go_back),
		cmocka_unit_test(test_only_whole_pages_go_back),
		cmocka_unit_test(test_a_long_report_takes_turns),
		cmocka_unit_test(test_reset_in_a_long_report),
		cmocka_unit_test(test_poisoned_pages_stay),
		cmocka_unit_test(test_inflated_pages_go_back),
		cmocka_unit_test(test_page_numbers_in_pieces),
		cmocka_unit_test(test_many_page_numbers_take_turns),
		cmocka_unit_test(test_pinned_pages_stay),
		cmocka_unit_test(test_statistics),
		cmocka_unit_test(test_statistics_in_time),
		cmocka_unit_test(test_queues_with_and_without_gaps),
		cmocka_unit_test(test_queues_of_features_that_are_declined),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_broken_drivers),
		cmocka_unit_test(test_another_device_goes_on),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
