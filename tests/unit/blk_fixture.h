// SPDX-License-Identifier: BSD-2-Clause
/* A virtio-blk device on a regular file, from the driver's side; every test runs on both engines.
 */
#ifndef SKEP_BLK_FIXTURE_H
#define SKEP_BLK_FIXTURE_H

#include "disk_fixture.h"

/* One for each engine: what cmocka hands to every test. */
struct fixture {
	enum disk_engine engine;
	char *path;
	struct disk disk;
	uint8_t *data; /* DISK_BUFFER */
};

static inline struct disk_options options(const struct fixture *f)
{
	return (struct disk_options){.engine = f->engine};
}

static inline void up(struct fixture *f, uint64_t filled)
{
	struct disk_options o = options(f);

	if (filled)
		disk_fill(f->path, 0, filled);
	disk_up(&f->disk, f->path, &o);
}

static inline int setup(void **state)
{
	struct fixture *f = *state;

	f->path = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->disk.dev)
		disk_close(&f->disk);
	f->disk.dev = NULL;
	unlink(f->path);
	free(f->path);
	free(f->data);
	return 0;
}

static inline bool file_holds_fill(struct fixture *f, uint64_t offset, uint64_t len)
{
	FILE *file = fopen(f->path, "r");
	bool ok = file && fseek(file, (long)offset, SEEK_SET) == 0 &&
		  fread(f->data, 1, len, file) == len && disk_is_fill(f->data, offset, len);

	if (file)
		fclose(file);
	return ok;
}

static struct fixture on_uring = {.engine = ENGINE_URING}, on_sync = {.engine = ENGINE_SYNC};
static struct error no_uring;

static inline void test_no_uring(void **state)
{
	(void)state;
	print_message("# %s\n", no_uring.msg);
	skip();
}

#define TEST(name)                                                                                 \
	{"uring: " #name, test_##name, setup, teardown, &on_uring},                                \
	{                                                                                          \
		"sync: " #name, test_##name, setup, teardown, &on_sync                             \
	}

/* Skips what needs io_uring where there is none. */
static inline void skip_without_uring(struct CMUnitTest *tests, size_t n)
{
	struct loop *loop = NULL;

	if (loop_new(&loop, "probe", LOOP_URING, 8, &no_uring) < 0)
		for (size_t i = 0; i < n; i++)
			if (tests[i].initial_state == &on_uring)
				tests[i].test_func = test_no_uring;
	loop_free(loop);
}

#endif
