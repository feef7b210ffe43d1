// SPDX-License-Identifier: BSD-2-Clause
/* Throw-away disks: what the guest sees, and what is left of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "blk_model.h"
#include "child.h"
#include "disk_fixture.h"

struct fixture {
	enum disk_engine engine;
	char *path;
	struct disk disk;
	uint8_t *data;
};

static struct disk_options options(const struct fixture *f)
{
	return (struct disk_options){.engine = f->engine, .ephemeral = true};
}

static int setup(void **state)
{
	struct fixture *f = *state;

	f->path = disk_file(SIZE);
	f->data = malloc(SIZE);
	f->disk.dev = NULL;
	disk_fill(f->path, 0, SIZE / 2);
	return 0;
}

static bool is_as_it_was(const struct fixture *f)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	bool same = pread_full(fd, f->data, SIZE, 0) == (ssize_t)SIZE &&
		    disk_is_fill(f->data, 0, SIZE / 2) && mem_is_zero(f->data + SIZE / 2, SIZE / 2);

	close(fd);
	return same;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->disk.dev)
		disk_close(&f->disk);
	assert_true(is_as_it_was(f));
	unlink(f->path);
	free(f->path);
	free(f->data);
	return 0;
}

static void up(struct fixture *f)
{
	struct disk_options o = options(f);

	disk_up(&f->disk, f->path, &o);
}

/* What is written is there, and around it is the image; but not for the next. */
static void test_writes_are_seen_and_forgotten(void **state)
{
	struct fixture *f = *state;
	uint8_t mine[3 * 512];

	memset(mine, 0xa5, sizeof(mine));
	up(f);
	assert_int_equal(f->disk.image->size, SIZE);
	assert_int_equal(disk_write(&f->disk, 101, mine, sizeof(mine)), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, 63, mine, 2 * 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_write(&f->disk, SIZE / 512 - 1, mine, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_flush(&f->disk), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 128 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 128 * KIB + 1);
	assert_true(disk_is_fill(f->data, 0, 63 * 512));
	assert_memory_equal(f->data + 63 * 512, mine, 2 * 512);
	assert_true(disk_is_fill(f->data + 65 * 512, 65 * 512, 36 * 512));
	assert_memory_equal(f->data + 101 * 512, mine, 3 * 512);
	assert_true(disk_is_fill(f->data + 104 * 512, 104 * 512, 152 * 512));
	assert_int_equal(disk_read(&f->disk, SIZE / 512 - 2, f->data, 1024), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, 512));
	assert_memory_equal(f->data + 512, mine, 512);
	disk_close(&f->disk);
	up(f);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 128 * KIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, 128 * KIB));
}

/* A reset is no new start. */
static void test_writes_survive_a_reset(void **state)
{
	struct fixture *f = *state;
	uint8_t mine[512];

	memset(mine, 0xa5, sizeof(mine));
	up(f);
	assert_int_equal(disk_write(&f->disk, 7, mine, sizeof(mine)), VIRTIO_BLK_S_OK);
	disk_restart(&f->disk);
	assert_int_equal(disk_read(&f->disk, 7, f->data, 512), VIRTIO_BLK_S_OK);
	assert_memory_equal(f->data, mine, 512);
}

/* Buffers of which none ends where a run of sectors does. */
static void test_runs_and_buffers(void **state)
{
	struct fixture *f = *state;
	uint8_t mine[512];
	struct drv_buf piece[40];
	uint8_t *at;
	uint32_t left = 64 * 512, n = 0;
	uint64_t b;

	memset(mine, 0xa5, sizeof(mine));
	up(f);
	b = f->disk.buffer.v;
	for (unsigned i = 0; i < 64; i++)
		if (i % 5 == 1 || i % 7 < 3)
			assert_int_equal(disk_write(&f->disk, i, mine, 512), VIRTIO_BLK_S_OK);
	for (uint64_t to = b; left; n++) {
		uint32_t len = MIN(left, 1 + 333 * (n % 6));

		piece[n] = (struct drv_buf){GPA(to), len, true};
		to += len;
		left -= len;
		assert_true(n + 1 < ARRAY_SIZE(piece) || !left);
		if (n == 38) {
			piece[++n] = (struct drv_buf){GPA(to), left, true};
			left = 0;
		}
	}
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, piece, n), VIRTIO_BLK_S_OK);
	assert_int_equal(f->disk.length, 64 * 512 + 1);
	at = drv_ptr(&f->disk.drv, GPA(b), 64 * 512);
	for (unsigned i = 0; i < 64; i++)
		if (i % 5 == 1 || i % 7 < 3)
			assert_memory_equal(at + i * 512, mine, 512);
		else
			assert_true(disk_is_fill(at + i * 512, i * 512, 512));
}

static uint64_t allocated(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fsync(f->disk.image->fd), 0);
	assert_int_equal(fstat(f->disk.image->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void test_discards_give_back_and_read_as_zeros(void **state)
{
	struct fixture *f = *state;

	up(f);
	if (!f->disk.image->discard)
		skip();
	memset(f->data, 0xa5, 4 * MIB);
	assert_int_equal(disk_write(&f->disk, 0, f->data, 4 * MIB), VIRTIO_BLK_S_OK);
	if (f->disk.image->base)
		assert_in_range(allocated(f), 4 * MIB, 4 * MIB + 64 * KIB);
	/* Half of what was written, and as much of the image. */
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 4096, 8192, 0),
			 VIRTIO_BLK_S_OK);
	if (f->disk.image->base)
		assert_in_range(allocated(f), 2 * MIB, 2 * MIB + 64 * KIB);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 16385, 77, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_range(&f->disk, VIRTIO_BLK_T_WRITE_ZEROES, 16473, 2, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(&f->disk, 0, f->data, 8 * MIB), VIRTIO_BLK_S_OK);
	for (size_t i = 0; i < 2 * MIB; i++)
		assert_int_equal(f->data[i], 0xa5);
	assert_true(mem_is_zero(f->data + 2 * MIB, 4 * MIB));
	assert_true(disk_is_fill(f->data + 6 * MIB, 6 * MIB, 2 * MIB));
	assert_int_equal(disk_read(&f->disk, 16384, f->data, 128 * 512), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 8 * MIB, 512));
	assert_true(mem_is_zero(f->data + 512, 77 * 512));
	assert_true(disk_is_fill(f->data + 78 * 512, 8 * MIB + 78 * 512, 11 * 512));
	assert_true(mem_is_zero(f->data + 89 * 512, 2 * 512));
	assert_true(disk_is_fill(f->data + 91 * 512, 8 * MIB + 91 * 512, 37 * 512));
}

/* Several at once, each its own; and nobody writes under them. */
static void test_many_share_an_image(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	struct error e = {""};
	struct disk other[3];
	bool cloned;
	uint8_t mine[512];

	up(f);
	cloned = !f->disk.image->base;
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++)
		disk_up(&other[i], f->path, &o);
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++) {
		memset(mine, (int)i, sizeof(mine));
		assert_int_equal(disk_write(&other[i], 9, mine, 512), VIRTIO_BLK_S_OK);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++) {
		memset(mine, (int)i, sizeof(mine));
		assert_int_equal(disk_read(&other[i], 9, f->data, 512), VIRTIO_BLK_S_OK);
		assert_memory_equal(f->data, mine, 512);
		disk_close(&other[i]);
	}
	assert_int_equal(disk_read(&f->disk, 9, f->data, 512), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 9 * 512, 512));
	o.ephemeral = false;
	if (cloned)
		return;
	assert_int_equal(disk_open(&other[0], f->path, &o, &e), -EBUSY);
	disk_close(&f->disk);
	disk_up(&other[0], f->path, &o);
	o.ephemeral = true;
	assert_int_equal(disk_open(&f->disk, f->path, &o, &e), -EBUSY);
	f->disk.dev = NULL;
	disk_close(&other[0]);
}

/* Neighbours in the bitmap, written by several threads at once. */
static void test_queues_share_the_bitmap(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	uint8_t *memory;

	o.queues = 4;
	disk_up(&f->disk, f->path, &o);
	memory = drv_ptr(&f->disk.drv, f->disk.buffer, MIB);
	for (unsigned round = 0; round < 30; round++) {
		uint64_t base = round * 1024;

		memset(memory, 0x40 + (int)round, 512 * 512);
		for (unsigned i = 0; i < 512; i++) {
			struct drv_buf out = {GPA(f->disk.buffer.v + i * 512), 512, false};

			assert_true(disk_send(&f->disk, i % 4, VIRTIO_BLK_T_OUT, base + i, &out,
					      1) >= 0);
		}
		for (unsigned q = 0; q < 4; q++)
			disk_kick(&f->disk, q);
		for (unsigned i = 0; i < 512; i++) {
			uint8_t status;

			disk_reap(&f->disk, i % 4, &status, NULL);
			assert_int_equal(status, VIRTIO_BLK_S_OK);
		}
		assert_int_equal(disk_read(&f->disk, base, f->data, MIB / 2), VIRTIO_BLK_S_OK);
		for (unsigned i = 0; i < 512 * 512; i++)
			assert_int_equal(f->data[i], 0x40 + round);
		assert_true(disk_is_fill(f->data + 512 * 512, (base + 512) * 512, 512 * 512));
	}
}

static void test_model(void **state)
{
	struct fixture *f = *state;
	const char *n = getenv("SKEP_BLK_MODEL_REQUESTS"), *wrong;

	up(f);
	wrong = blk_model(&(struct blk_model_run){
		.disk = &f->disk,
		.path = f->path,
		.requests = n ? (unsigned)strtoul(n, NULL, 10) : 8000,
		.depth = 48,
		.seed = 20261124,
		.odd_buffers = true,
		.align = 1,
		.ephemeral = true,
	});
	if (wrong)
		fail_msg("%s", wrong);
}

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Runs in a process and mount namespace of its own: TMPDIR is a tmpfs of 1 MiB, which cannot clone.
 */
static int in_a_small_directory(struct fixture *f)
{
	char dir[] = "/tmp/skep-test-XXXXXX";
	struct disk_options o = options(f);
	struct error e = {""};

	if (own_mounts())
		return 77;
	CHECK(mkdtemp(dir) && mount("none", dir, "tmpfs", 0, "size=1m") == 0);
	CHECK(setenv("TMPDIR", dir, 1) == 0);
	CHECK(disk_open(&f->disk, f->path, &o, &e) == 0);
	disk_start(&f->disk);
	CHECK(entries(dir) == 2); /* . and .. */
	if (f->disk.image->base) {
		uint8_t status = VIRTIO_BLK_S_OK;
		uint64_t at;

		/* Until it is full; what was written till then stays. */
		memset(f->data, 0xa5, 64 * KIB);
		for (at = 0; at < 4 * MIB && status == VIRTIO_BLK_S_OK; at += 64 * KIB)
			status = disk_write(&f->disk, at / 512, f->data, 64 * KIB);
		CHECK(status == VIRTIO_BLK_S_IOERR);
		CHECK(at >= 512 * KIB && at <= 2 * MIB);
		CHECK(disk_read(&f->disk, 0, f->data, 512 * KIB) == VIRTIO_BLK_S_OK);
		CHECK(f->data[512 * KIB - 1] == 0xa5);
		CHECK(disk_read(&f->disk, 8192, f->data, MIB) == VIRTIO_BLK_S_OK);
		CHECK(disk_is_fill(f->data, 4 * MIB, MIB));
		/* Discards make room. */
		CHECK(disk_range(&f->disk, VIRTIO_BLK_T_DISCARD, 0, 2048, 0) == VIRTIO_BLK_S_OK);
		CHECK(disk_write(&f->disk, 0, f->data, 64 * KIB) == VIRTIO_BLK_S_OK);
	}
	disk_close(&f->disk);
	/* An io_uring may have the file for a while longer. */
	CHECK(umount2(dir, MNT_DETACH) == 0);
	CHECK(rmdir(dir) == 0);
	return 0;
}

static void test_an_overlay_that_is_full(void **state)
{
	struct fixture *f = *state;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	if (!pid)
		_exit(in_a_small_directory(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("# no mount namespace of its own\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* The image's file system may clone it, and then needs no other directory. */
static void test_no_directory_to_write_in(void **state)
{
	struct fixture *f = *state;
	struct disk_options o = options(f);
	const char *before = getenv("TMPDIR");
	_cleanup_free_ char *kept = before ? strdup(before) : NULL;
	struct error e = {""};
	int r;

	assert_int_equal(setenv("TMPDIR", "/nonexistent/dir", 1), 0);
	r = disk_open(&f->disk, f->path, &o, &e);
	if (kept)
		setenv("TMPDIR", kept, 1);
	else
		unsetenv("TMPDIR");
	if (r == 0) {
		assert_null(f->disk.image->base);
		disk_start(&f->disk);
		return;
	}
	f->disk.dev = NULL;
	assert_int_equal(r, -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/dir"));
	assert_non_null(strstr(e.msg, "TMPDIR"));
}

#define TEST(name)                                                                                 \
	{"uring: " #name, test_##name, setup, teardown, &uring},                                   \
	{                                                                                          \
		"sync: " #name, test_##name, setup, teardown, &sync                                \
	}

static void test_no_uring(void **state)
{
	(void)state;
	skip();
}

int main(void)
{
	struct loop *loop = NULL;
	static struct fixture uring = {.engine = ENGINE_URING}, sync = {.engine = ENGINE_SYNC};
	struct CMUnitTest tests[] = {
		TEST(writes_are_seen_and_forgotten),
		TEST(writes_survive_a_reset),
		TEST(runs_and_buffers),
		TEST(discards_give_back_and_read_as_zeros),
		TEST(many_share_an_image),
		TEST(queues_share_the_bitmap),
		TEST(model),
		TEST(an_overlay_that_is_full),
		TEST(no_directory_to_write_in),
	};

	if (loop_new(&loop, "probe", LOOP_URING, 8, NULL) < 0)
		for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
			if (tests[i].initial_state == &uring)
				tests[i].test_func = test_no_uring;
	loop_free(loop);
	return cmocka_run_group_tests_name("blk_overlay", tests, NULL, NULL);
}
