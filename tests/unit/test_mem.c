// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "mem.h"
#include "virtio/state.h"

#define RAM   (16 * MIB)
#define BLOCK (4 * MIB)
#define NUM   (MEM_MAX / BLOCK)

enum {
	PLUG = VIRTIO_MEM_REQ_PLUG,
	UNPLUG = VIRTIO_MEM_REQ_UNPLUG,
	ALL = VIRTIO_MEM_REQ_UNPLUG_ALL,
	STATE = VIRTIO_MEM_REQ_STATE,
	ACK = VIRTIO_MEM_RESP_ACK,
	NACK = VIRTIO_MEM_RESP_NACK,
	BUSY = VIRTIO_MEM_RESP_BUSY,
	ERROR = VIRTIO_MEM_RESP_ERROR,
};

/* The device's loop does not run: what it does is done by drv_pump(). */
struct fixture {
	struct drv d;
	struct mem_host host;
	struct loop *loop;
	struct virtio_dev *dev;
	gpa_t buffer;
	uint8_t *data;
};

static void up(struct fixture *f)
{
	assert_int_equal(loop_new(&f->loop, "test", LOOP_EPOLL, 0, NULL), 0);
	f->dev = mem_open(&f->host, &f->d, f->loop);
	assert_non_null(f->dev);
	drv_attach(&f->d, f->dev);
}

static void down(struct fixture *f)
{
	virtio_dev_free(f->dev);
	loop_free(f->loop);
}

/* A guest that is to have `blocks` blocks. */
static struct fixture *start(uint64_t blocks)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	drv_init(&f->d, RAM);
	up(f);
	f->buffer = drv_alloc(&f->d, 4096, 16);
	f->data = drv_ptr(&f->d, f->buffer, 4096);
	assert_int_equal(mem_set_size(f->dev, RAM + blocks * BLOCK, NULL), 0);
	drv_start(&f->d, UINT64_MAX, 0);
	return f;
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	free(f);
}

#define REQ  sizeof(struct virtio_mem_req)
#define RESP sizeof(struct virtio_mem_resp)

/* The answer's type, and what it says of the state above that. */
static unsigned ask(struct fixture *f, uint16_t type, uint64_t first, uint16_t num)
{
	struct virtio_mem_resp resp;
	uint32_t len = 0;

	mem_request(&f->d, f->data, type, first, num);
	assert_true(drv_add(&f->d.queue[0],
			    (struct drv_buf[]){{f->buffer, REQ, false},
					       {GPA(f->buffer.v + 64), RESP, true}},
			    2) >= 0);
	drv_kick(&f->d.queue[0]);
	drv_pump(&f->d);
	assert_true(drv_used(&f->d.queue[0], NULL, &len));
	assert_int_equal(len, RESP);
	memcpy(&resp, f->data + 64, sizeof(resp));
	return le16toh(resp.type) | (unsigned)le16toh(resp.u.state.state) << 8;
}

static uint8_t *host_of(const struct fixture *f, unsigned block)
{
	return f->d.mem.hotplug.host + block * BLOCK;
}

static struct mem_counters counters(const struct fixture *f)
{
	struct mem_counters c;

	mem_counters(f->dev, &c);
	return c;
}

static uint64_t config(struct fixture *f, size_t offset)
{
	uint32_t at = VIRTIO_MMIO_CONFIG + (uint32_t)offset;

	return drv_page32(&f->d, at) | (uint64_t)drv_page32(&f->d, at + 4) << 32;
}
#define CONFIG(f, member) config(f, offsetof(struct virtio_mem_config, member))

static void test_requests_get_their_answer(void **state)
{
	static const struct {
		unsigned type, first, num, answer;
	} steps[] = {
		{STATE, 0, NUM, ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8},
		{PLUG, 0, 1, ACK},
		{PLUG, 0, 1, ERROR},
		{PLUG, NUM - 2, 2, ACK},
		{PLUG, NUM - 3, 3, ERROR}, /* in part */
		{PLUG, 1, 6, NACK},	   /* more than it is to have */
		{PLUG, 1, 5, ACK},
		{PLUG, 7, 1, NACK},
		{STATE, 0, 6, ACK | VIRTIO_MEM_STATE_PLUGGED << 8},
		{STATE, 0, 7, ACK | VIRTIO_MEM_STATE_MIXED << 8},
		{STATE, 6, 20, ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8},
		{UNPLUG, 5, 2, ERROR},
		{UNPLUG, 8, 1, ERROR},
		{UNPLUG, 1, 5, ACK},
		{PLUG, NUM, 1, ERROR},
		{PLUG, NUM - 1, 2, ERROR},
		{PLUG, UINT32_MAX, 1, ERROR},
		{UNPLUG, 0, 0, ERROR},
		{UNPLUG, 0, UINT16_MAX, ERROR},
		{STATE, 0, UINT16_MAX, ERROR},
		{STATE + 1, 0, 1, ERROR},
		{UINT16_MAX, 0, 1, ERROR},
		{STATE, 1, NUM - 3, ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8},
		{ALL, 7, 7, ACK},
		{STATE, 0, NUM, ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8},
		{ALL, 0, 0, ACK},
	};
	struct fixture *f = start(8);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned answer =
			ask(f, (uint16_t)steps[i].type, steps[i].first, (uint16_t)steps[i].num);

		if (answer != steps[i].answer)
			fail_msg("step %zu: %#x, not %#x", i, answer, steps[i].answer);
		assert_int_equal(CONFIG(f, plugged_size), counters(f).plugged_bytes);
	}
	assert_int_equal(counters(f).returned_bytes, 8 * BLOCK);
	assert_int_equal(counters(f).size, RAM);
	end(f);
}

static void test_addresses_that_are_no_block(void **state)
{
	struct fixture *f = start(8);
	const uint64_t base = f->d.mem.hotplug.base.v;
	const uint64_t bad[] = {0,
				base - BLOCK,
				base + 4096,
				base + BLOCK - 1,
				base + MEM_MAX,
				UINT64_MAX - BLOCK + 1,
				UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		for (uint16_t type = PLUG; type <= STATE; type++) {
			if (type == ALL)
				continue;
			/* Blocks from there on, as wrapping arithmetic has it. */
			f->d.mem.hotplug.base.v = bad[i];
			mem_request(&f->d, f->data, type, 0, 1);
			f->d.mem.hotplug.base.v = base;
			memcpy(f->data + 128, f->data, REQ);
			assert_true(drv_add(&f->d.queue[0],
					    (struct drv_buf[]){{GPA(f->buffer.v + 128), REQ, false},
							       {GPA(f->buffer.v + 64), RESP, true}},
					    2) >= 0);
			drv_kick(&f->d.queue[0]);
			drv_pump(&f->d);
			assert_true(drv_used(&f->d.queue[0], NULL, NULL));
			assert_int_equal(f->data[64], ERROR);
		}
	assert_int_equal(counters(f).plugged_bytes, 0);
	end(f);
}

/* What a device writes to a block that is taken away meanwhile goes, too. */
static void test_what_is_unplugged_goes_to_the_host(void **state)
{
	struct fixture *f = start(4);
	void *p;

	(void)state;
	assert_int_equal(ask(f, PLUG, 2, 3), ACK);
	for (unsigned i = 2; i < 5; i++)
		memset(host_of(f, i), 0xa5, BLOCK);
	assert_int_equal(gmem_slice(&f->d.mem, GPA(CONFIG(f, addr) + 3 * BLOCK), 64, &p), 0);
	assert_int_equal(ask(f, UNPLUG, 3, 1), ACK);
	assert_int_equal(gmem_slice(&f->d.mem, GPA(CONFIG(f, addr) + 3 * BLOCK), 64, &p), -EFAULT);
	assert_true(mem_is_zero(host_of(f, 3), BLOCK));
	assert_int_equal(host_of(f, 2)[BLOCK - 1], 0xa5);
	assert_int_equal(host_of(f, 4)[0], 0xa5);
	memset(host_of(f, 3), 0xa5, 4096);
	memset(host_of(f, NUM - 1), 0xa5, 4096);
	assert_int_equal(ask(f, UNPLUG, 2, 1), ACK);
	assert_true(mem_is_zero(host_of(f, 3), BLOCK));
	assert_true(mem_is_zero(host_of(f, NUM - 1), BLOCK));
	assert_int_equal(host_of(f, 4)[0], 0xa5);
	end(f);
}

/* Several blocks at once: all, or none, where the host refuses one. */
static void test_the_host_refuses(void **state)
{
	struct fixture *f = start(8);

	(void)state;
	for (unsigned i = 1; i <= 4; i++) {
		f->host.fails_in = i;
		assert_int_equal(ask(f, PLUG, 3, 4), NACK);
		assert_int_equal(counters(f).plugged_bytes, 0);
		assert_int_equal(ask(f, STATE, 0, NUM), ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8);
	}
	assert_int_equal(ask(f, PLUG, 3, 4), ACK);
	memset(host_of(f, 3), 0xa5, 4 * BLOCK);
	for (unsigned i = 1; i <= 8; i++) {
		f->host.fails_in = (i + 1) / 2;
		assert_int_equal(i % 2 ? ask(f, UNPLUG, 3, 4) : ask(f, ALL, 0, 0), BUSY);
		assert_int_equal(ask(f, STATE, 3, 4), ACK | VIRTIO_MEM_STATE_PLUGGED << 8);
		assert_int_equal(host_of(f, 3)[0], 0xa5);
		assert_int_equal(host_of(f, 6)[BLOCK - 1], 0xa5);
	}
	assert_int_equal(counters(f).plugged_bytes, 4 * BLOCK);
	assert_int_equal(counters(f).returned_bytes, 0);
	end(f);
}

static void test_sizes_that_are_asked_for(void **state)
{
	struct fixture *f = start(0);
	struct error e = {""};

	(void)state;
	drv_irqs(&f->d);
	assert_int_equal(mem_set_size(f->dev, RAM - 1, &e), -ERANGE);
	assert_string_equal(e.msg, "the guest's memory can be from 16 MiB, which it started with, "
				   "to 144 MiB");
	assert_int_equal(mem_set_size(f->dev, RAM + MEM_MAX + 1, &e), -ERANGE);
	assert_int_equal(mem_set_size(f->dev, UINT64_MAX, &e), -ERANGE);
	assert_int_equal(drv_irqs(&f->d), 0);
	assert_int_equal(mem_set_size(f->dev, RAM + MEM_MAX, &e), 0);
	assert_int_equal(CONFIG(f, requested_size), MEM_MAX);
	assert_int_equal(drv_irqs(&f->d), 1);
	assert_int_equal(mem_set_size(f->dev, RAM + 2 * BLOCK - 1, &e), 0);
	assert_int_equal(CONFIG(f, requested_size), BLOCK);
	assert_int_equal(counters(f).target, RAM + BLOCK);
	assert_int_equal(counters(f).max, RAM + MEM_MAX);
	/* Less than it has: that is the driver's to unplug. */
	assert_int_equal(ask(f, PLUG, 9, 1), ACK);
	assert_int_equal(mem_set_size(f->dev, RAM, &e), 0);
	assert_int_equal(counters(f).size, RAM + BLOCK);
	assert_int_equal(ask(f, PLUG, 0, 1), NACK);
	assert_int_equal(ask(f, UNPLUG, 9, 1), ACK);
	end(f);
}

static void test_the_configuration(void **state)
{
	struct fixture *f = start(3);

	(void)state;
	assert_int_equal(CONFIG(f, block_size), BLOCK);
	assert_int_equal(CONFIG(f, addr), f->d.mem.hotplug.base.v);
	assert_int_equal(CONFIG(f, region_size), MEM_MAX);
	assert_int_equal(CONFIG(f, usable_region_size), MEM_MAX);
	assert_int_equal(CONFIG(f, requested_size), 3 * BLOCK);
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG, 1);
	assert_int_equal(CONFIG(f, block_size), BLOCK);
	end(f);
}

static void test_broken_requests(void **state)
{
	static const struct {
		uint32_t out, in;
		bool swapped;
	} bad[] = {{REQ - 1, RESP, false},
		   {REQ, RESP - 1, false},
		   {0, RESP, false},
		   {REQ, 0, false},
		   {REQ, RESP, true}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fixture *f = start(4);
		struct drv_buf bufs[] = {{f->buffer, bad[i].out, false},
					 {GPA(f->buffer.v + 64), bad[i].in, true}};

		mem_request(&f->d, f->data, PLUG, 0, 1);
		if (bad[i].swapped) {
			bufs[0].write = true;
			bufs[1].write = false;
		}
		assert_true(drv_add(&f->d.queue[0], bufs, 2) >= 0);
		drv_kick(&f->d.queue[0]);
		drv_pump(&f->d);
		assert_true(drv_is_broken(&f->d));
		assert_int_equal(counters(f).plugged_bytes, 0);
		drv_start(&f->d, UINT64_MAX, 0);
		assert_int_equal(ask(f, PLUG, 0, 1), ACK);
		end(f);
	}
}

static void test_requests_in_pieces(void **state)
{
	struct fixture *f = start(4);
	struct drv_buf bufs[REQ + RESP];

	(void)state;
	mem_request(&f->d, f->data, PLUG, 1, 2);
	for (unsigned i = 0; i < REQ + RESP; i++)
		bufs[i] = (struct drv_buf){GPA(f->buffer.v + i), 1, i >= REQ};
	assert_true(drv_add(&f->d.queue[0], bufs, REQ + RESP) >= 0);
	drv_kick(&f->d.queue[0]);
	drv_pump(&f->d);
	assert_true(drv_used(&f->d.queue[0], NULL, NULL));
	assert_int_equal(f->data[REQ], ACK);
	assert_int_equal(counters(f).plugged_bytes, 2 * BLOCK);
	end(f);
}

static void test_a_reset_leaves_the_memory(void **state)
{
	struct fixture *f = start(4);

	(void)state;
	assert_int_equal(ask(f, PLUG, 1, 2), ACK);
	memset(host_of(f, 1), 0xa5, BLOCK);
	drv_reset(&f->d);
	assert_int_equal(CONFIG(f, plugged_size), 2 * BLOCK);
	assert_int_equal(CONFIG(f, requested_size), 4 * BLOCK);
	assert_int_equal(host_of(f, 1)[0], 0xa5);
	drv_start(&f->d, UINT64_MAX, 0);
	assert_int_equal(ask(f, STATE, 1, 2), ACK | VIRTIO_MEM_STATE_PLUGGED << 8);
	end(f);
}

static void save(struct fixture *f, struct virtio_state *ret)
{
	virtio_dev_pause(f->dev);
	assert_int_equal(virtio_dev_save(f->dev, ret, NULL), 0);
}

static void replace(struct fixture *f)
{
	down(f);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(f);
}

static void test_saved_memory_is_there_again(void **state)
{
	struct fixture *f = start(6);
	struct virtio_state saved;
	struct error e = {""};

	(void)state;
	assert_int_equal(ask(f, PLUG, 1, 2), ACK);
	assert_int_equal(ask(f, PLUG, NUM - 1, 1), ACK);
	save(f, &saved);
	replace(f);
	if (virtio_dev_restore(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(counters(f).plugged_bytes, 3 * BLOCK);
	assert_int_equal(CONFIG(f, requested_size), 6 * BLOCK);
	assert_int_equal(ask(f, STATE, 1, 2), ACK | VIRTIO_MEM_STATE_PLUGGED << 8);
	assert_int_equal(ask(f, STATE, NUM - 1, 1), ACK | VIRTIO_MEM_STATE_PLUGGED << 8);
	assert_int_equal(ask(f, STATE, 3, NUM - 4), ACK | VIRTIO_MEM_STATE_UNPLUGGED << 8);
	end(f);
}

static void test_states_that_no_vm_has(void **state)
{
	static const struct {
		uint64_t requested, plugged[4];
		const char *why;
	} bad[] = {
		{MEM_MAX + BLOCK, {0}, "asks for memory"},
		{BLOCK - 1, {0}, "asks for memory"},
		{UINT64_MAX, {0}, "asks for memory"},
		{0, {1ull << NUM}, "has more memory"},
		{0, {0, 0, 0, 1ull << 63}, "has more memory"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fixture *f = start(6);
		struct virtio_state saved;
		struct error e = {""};

		save(f, &saved);
		memcpy(saved.own, &bad[i].requested, 8);
		memcpy(saved.own + 8, bad[i].plugged, 32);
		replace(f);
		assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), -EINVAL);
		if (!strstr(e.msg, bad[i].why))
			fail_msg("not '%s' but: %s", bad[i].why, e.msg);
		assert_int_equal(counters(f).plugged_bytes, 0);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_get_their_answer),
		cmocka_unit_test(test_addresses_that_are_no_block),
		cmocka_unit_test(test_what_is_unplugged_goes_to_the_host),
		cmocka_unit_test(test_the_host_refuses),
		cmocka_unit_test(test_sizes_that_are_asked_for),
		cmocka_unit_test(test_the_configuration),
		cmocka_unit_test(test_broken_requests),
		cmocka_unit_test(test_requests_in_pieces),
		cmocka_unit_test(test_a_reset_leaves_the_memory),
		cmocka_unit_test(test_saved_memory_is_there_again),
		cmocka_unit_test(test_states_that_no_vm_has),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
