// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "kvm/bus.h"
#include "kvm/gmem.h"

static void test_slice_is_whole_or_nothing(void **state)
{
	struct gmem mem;
	void *p;

	(void)state;
	assert_int_equal(gmem_create(&mem, 4 * MIB, NULL), 0);
	assert_int_equal(gmem_slice(&mem, GPA(0), 4 * MIB, &p), 0);
	assert_ptr_equal(p, mem.region[0].host);
	assert_int_equal(gmem_slice(&mem, GPA(4 * MIB - 1), 1, &p), 0);
	assert_int_equal(gmem_slice(&mem, GPA(4 * MIB - 1), 2, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(4 * MIB), 0, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(UINT64_MAX), 2, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(1), SIZE_MAX, &p), -EFAULT);
	gmem_destroy(&mem);
}

static void test_ram_splits_around_the_hole(void **state)
{
	struct gmem mem;
	void *p;

	(void)state;
	assert_int_equal(gmem_create(&mem, 5 * GIB, NULL), 0);
	assert_int_equal(mem.num_regions, 2);
	assert_int_equal(gmem_low_end(&mem), GMEM_HOLE_START);
	assert_int_equal(gmem_size(&mem), 5 * GIB);
	assert_int_equal(gmem_end(&mem), GMEM_HOLE_END + 2 * GIB);
	assert_int_equal(gmem_slice(&mem, GPA(GMEM_HOLE_START - 1), 2, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(GMEM_HOLE_START), 1, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(GMEM_HOLE_END - 1), 1, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(GMEM_HOLE_END), 2 * GIB, &p), 0);
	assert_int_equal(gmem_slice(&mem, GPA(GMEM_HOLE_END), 2 * GIB + 1, &p), -EFAULT);
	for (unsigned i = 0; i < 2; i++)
		assert_true(IS_ALIGNED((uintptr_t)mem.region[i].host, 2 * MIB));
	gmem_destroy(&mem);
}

static void test_bad_sizes_are_refused(void **state)
{
	struct gmem mem;
	struct error e = {""};

	(void)state;
	assert_int_equal(gmem_create(&mem, 0, &e), -EINVAL);
	assert_int_equal(gmem_create(&mem, 2 * MIB + 1, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "4096"));
	assert_int_equal(gmem_create(&mem, 1ull << 60, &e), -ENOMEM);
	assert_non_null(strstr(e.msg, "--memory"));
}

/* Linux wants the region and its parts aligned; and there is room for all sizes. */
static void test_hotplug_memory_has_its_place(void **state)
{
	static const struct {
		uint64_t ram, bytes, base, size, block;
	} cases[] = {
		{256 * MIB, 2 * MIB, 4 * GIB, 128 * MIB, 4 * MIB},
		{1 * GIB, 1 * GIB, 4 * GIB, 1 * GIB, 4 * MIB},
		{1 * GIB, 7 * GIB, 4 * GIB, 7 * GIB, 32 * MIB},
		{4 * GIB, 4 * GIB, 6 * GIB, 4 * GIB, 16 * MIB},
		{6 * GIB, 129 * MIB, 8 * GIB, 256 * MIB, 4 * MIB},
		{64 * GIB, 1 * GIB, 66 * GIB, 2 * GIB, 8 * MIB},
		{2 * GIB, 1024 * GIB - 2 * GIB, 4 * GIB, 1024 * GIB, 4 * GIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = {""};
		struct gmem mem;

		/* ThreadSanitizer leaves no room for a terabyte. */
		if (SANITIZED && cases[i].bytes > 512 * GIB)
			continue;
		assert_int_equal(gmem_create(&mem, cases[i].ram, NULL), 0);
		if (gmem_add_hotplug(&mem, cases[i].bytes, &e) < 0)
			fail_msg("%s", e.msg);
		assert_int_equal(mem.hotplug.base.v, cases[i].base);
		assert_int_equal(mem.hotplug.size, cases[i].size);
		assert_int_equal(mem.hotplug.block, cases[i].block);
		assert_true(gmem_num_blocks(&mem) <= GMEM_MAX_BLOCKS);
		assert_int_equal(gmem_size(&mem), cases[i].ram);
		assert_int_equal(gmem_end(&mem), cases[i].base + cases[i].size);
		gmem_destroy(&mem);
	}
}

static void test_only_plugged_blocks_are_there(void **state)
{
	struct gmem mem;
	uint64_t base, block;
	void *p;

	(void)state;
	assert_int_equal(gmem_create(&mem, 4 * MIB, NULL), 0);
	assert_int_equal(gmem_add_hotplug(&mem, GIB, NULL), 0);
	base = mem.hotplug.base.v;
	block = mem.hotplug.block;
	assert_int_equal(gmem_slice(&mem, GPA(base), 0, &p), -EFAULT);
	gmem_set_plugged(&mem, 63, true);
	gmem_set_plugged(&mem, 64, true);
	assert_int_equal(gmem_slice(&mem, GPA(base + 63 * block), 2 * block, &p), 0);
	assert_ptr_equal(p, mem.hotplug.host + 63 * block);
	assert_int_equal(gmem_slice(&mem, GPA(base + 63 * block), 2 * block + 1, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(base + 63 * block - 1), 2, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(base + 65 * block - 1), 1, &p), 0);
	assert_int_equal(gmem_slice(&mem, GPA(base + 65 * block), 0, &p), -EFAULT);
	gmem_set_plugged(&mem, 255, true);
	assert_int_equal(gmem_slice(&mem, GPA(base + 256 * block - 1), 1, &p), 0);
	assert_int_equal(gmem_slice(&mem, GPA(base + 256 * block - 1), 2, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(base + 256 * block), 0, &p), -EFAULT);
	assert_int_equal(gmem_slice(&mem, GPA(base + 255 * block), SIZE_MAX, &p), -EFAULT);
	gmem_set_plugged(&mem, 64, false);
	assert_int_equal(gmem_slice(&mem, GPA(base + 63 * block), block, &p), 0);
	assert_int_equal(gmem_slice(&mem, GPA(base + 63 * block), block + 1, &p), -EFAULT);
	gmem_destroy(&mem);
}

struct probe {
	uint64_t offset;
	uint32_t len;
};

static void probe_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	*(struct probe *)ctx = (struct probe){offset, len};
	memset(data, 0x5a, len);
}

static void probe_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	(void)data;
	*(struct probe *)ctx = (struct probe){offset, len};
}

static void test_bus_finds_ranges(void **state)
{
	static const struct bus_ops ops = {probe_read, probe_write};
	struct bus bus = {.num_ranges = 0};
	struct probe a = {0}, b = {0};
	uint32_t v = 0;

	(void)state;
	assert_int_equal(bus_add(&bus, 0x3000, 0x1000, &ops, &b), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x1fff, 2, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x2fff, 2, &ops, &a), -EEXIST);

	bus_read(&bus, 0x1ffc, &v, 4);
	assert_int_equal(a.offset, 0xffc);
	assert_int_equal(v, 0x5a5a5a5a);
	bus_write(&bus, 0x3004, &v, 4);
	assert_int_equal(b.offset, 4);
	assert_int_equal(bus.unknown, 0);

	/* Nobody there, and an access that runs out of a range: all ones, counted. */
	bus_read(&bus, 0x2000, &v, 4);
	assert_int_equal(v, 0xffffffff);
	v = 0;
	bus_read(&bus, 0x1ffe, &v, 4);
	assert_int_equal(v, 0xffffffff);
	bus_write(&bus, UINT64_MAX - 1, &v, 4);
	assert_int_equal(bus.unknown, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slice_is_whole_or_nothing),
		cmocka_unit_test(test_ram_splits_around_the_hole),
		cmocka_unit_test(test_bad_sizes_are_refused),
		cmocka_unit_test(test_hotplug_memory_has_its_place),
		cmocka_unit_test(test_only_plugged_blocks_are_there),
		cmocka_unit_test(test_bus_finds_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
