// SPDX-License-Identifier: BSD-2-Clause
/* What the engines differ in: guest RAM that is pinned for io_uring. */
#include <sys/mman.h>

#include "blk_fixture.h"

/* Bytes that this process has pinned, as /proc/self/status has it. */
static uint64_t pinned_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmPin: %llu", &kib) != 1)
		;
	fclose(f);
	return kib * KIB;
}

static void pinned_up(struct fixture *f, unsigned queues)
{
	struct disk_options o = options(f);
	struct error e = {""};

	o.pin = true;
	o.queues = queues;
	disk_fill(f->path, 0, MIB);
	if (disk_open(&f->disk, f->path, &o, &e) == -ENOMEM) {
		f->disk.dev = NULL;
		print_message("# %s\n", e.msg);
		skip();
	}
	disk_start(&f->disk);
}

static void test_pinned_memory(void **state)
{
	struct fixture *f = *state;
	uint64_t before = pinned_bytes(), rings = f->engine == ENGINE_URING ? 2 : 0;

	pinned_up(f, 2);
	assert_int_equal(pinned_bytes() - before, rings * DISK_RAM);
	for (unsigned q = 0; q < 2; q++) {
		uint8_t status;

		memset(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB);
		assert_true(disk_send(&f->disk, q, VIRTIO_BLK_T_IN, 0,
				      &(struct drv_buf){f->disk.buffer, MIB, true}, 1) >= 0);
		disk_kick(&f->disk, q);
		disk_reap(&f->disk, q, &status, NULL);
		assert_int_equal(status, VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(drv_ptr(&f->disk.drv, f->disk.buffer, MIB), 0, MIB));
	}
	memset(f->data, 0x5a, 8192);
	assert_int_equal(disk_write(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	memset(f->data, 0, 8192);
	assert_int_equal(disk_read(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	for (int i = 0; i < 8192; i++)
		assert_int_equal(f->data[i], 0x5a);
}

/* What shows which requests go by fixed buffers: those find the pages that were pinned, whatever is
 * mapped there now. */
static void test_pinned_pages_are_used(void **state)
{
	struct fixture *f = *state;
	bool fixed = f->engine == ENGINE_URING;
	struct drv_buf two[2];
	uint8_t *page;

	pinned_up(f, 1);
	page = drv_ptr(&f->disk.drv, f->disk.buffer, 8192);
	assert_ptr_equal(mmap(page, 8192, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 page);
	two[0] = (struct drv_buf){f->disk.buffer, 4096, true};
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, two, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 4097);
	assert_true(fixed ? disk_is_zero(page, 4096) : disk_is_fill(page, 0, 4096));
	/* Of two pieces: as always. */
	two[1] = (struct drv_buf){GPA(f->disk.buffer.v + 4096), 4096, true};
	two[0].len = 512;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, two, 2), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(page, 0, 512));
	assert_true(disk_is_fill(page + 4096, 512, 4096));
}

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(pinned_memory),
		TEST(pinned_pages_are_used),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk_uring", tests, NULL, NULL);
}
