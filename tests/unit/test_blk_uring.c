// SPDX-License-Identifier: BSD-2-Clause
/* What the engines differ in: who writes, who discards, and guest RAM that is pinned for io_uring.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "blk_fixture.h"
#include "child.h"
#include "pages.h"

/* Whether io_uring has a worker in this process. */
static bool has_io_worker(void)
{
	char name[300], comm[32];
	bool found = false;
	const struct dirent *d;
	DIR *tasks = opendir("/proc/self/task");

	assert_non_null(tasks);
	while (!found && (d = readdir(tasks))) {
		FILE *file;

		snprintf(name, sizeof(name), "/proc/self/task/%s/comm", d->d_name);
		file = fopen(name, "r");
		found = file && fgets(comm, sizeof(comm), file) && !strncmp(comm, "iou-wrk", 7);
		if (file)
			fclose(file);
	}
	closedir(tasks);
	return found;
}

static bool knows_nowait(const char *path)
{
	struct iovec byte = {(char[]){0}, 1};
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool known = pwritev2(fd, &byte, 1, 0, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;

	close(fd);
	return known;
}

/* Gives its page after a while: who needs it waits. */
struct late_page {
	int fd;
	void *page;
	const _Atomic bool *resets; /* not before this */
};

static void *be_late(void *arg)
{
	const struct late_page *late = arg;
	bool is_write;

	assert_ptr_equal(pages_wait(late->fd, patience_ms(), &is_write), late->page);
	while (late->resets && !*late->resets)
		usleep(1000);
	usleep(20000);
	pages_give(late->fd, late->page, 0x77);
	return NULL;
}

/* A write whose data comes 20 ms late. */
static bool write_slowly(struct fixture *f, uint64_t sector)
{
	struct drv_buf buf = {GPA(f->disk.buffer.v + 2 * MIB), 4096, false};
	struct late_page late = {.page = drv_ptr(&f->disk.drv, buf.addr, 4096)};
	pthread_t thread;

	late.fd = pages_take(late.page, 4096);
	if (late.fd < 0)
		return false;
	assert_int_equal(pthread_create(&thread, NULL, be_late, &late), 0);
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_OUT, sector, &buf, 1), VIRTIO_BLK_S_OK);
	pthread_join(thread, NULL);
	close(late.fd);
	return true;
}

/* Writes that are short; false when one was slow, as on a busy machine. */
static bool write_quickly(struct fixture *f)
{
	uint64_t slowest = 0;

	for (unsigned i = 0; i < 200; i++) {
		uint64_t start = now_ns();

		assert_int_equal(disk_write(&f->disk, 8 * i, f->data, 4096), VIRTIO_BLK_S_OK);
		slowest = MAX(slowest, now_ns() - start);
	}
	return slowest < 4000000;
}

/* Those of rings that were closed end a little later. */
static void await_no_io_worker(void)
{
	while (has_io_worker())
		usleep(1000);
}

/* Where io_uring would have a worker do each write, they are done inline, until one is slow. */
static void test_writes_need_no_worker(void **state)
{
	struct fixture *f = *state;
	uint64_t end = patience_end();
	bool quick;

	if (knows_nowait(f->path)) {
		print_message("# io_uring needs no workers here\n");
		skip();
	}
	await_no_io_worker();
	up(f, MIB);
	memset(f->data, 0x5a, 4096);
	while (!(quick = write_quickly(f)) && now_ns() < end) {
		/* It had a worker, and a ring keeps its last one. */
		disk_close(&f->disk);
		await_no_io_worker();
		up(f, 0);
	}
	if (!quick) {
		print_message("# this machine is too busy to tell\n");
		skip();
	}
	assert_false(has_io_worker());
	end = patience_end();
	do {
		if (!write_slowly(f, 8))
			return;
		assert_int_equal(disk_write(&f->disk, 16, f->data, 4096), VIRTIO_BLK_S_OK);
		assert_true(now_ns() < end);
	} while (has_io_worker() != (f->engine == ENGINE_URING));
	assert_int_equal(disk_read(&f->disk, 8, f->data, 8192), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4096; i++)
		assert_true(f->data[i] == 0x77 && f->data[4096 + i] == 0x5a);
}

/* The worker is kept busy until the test lets it go. */
struct busy {
	struct loop_work work;
	sem_t end;
};

static void be_busy(struct loop_work *work)
{
	sem_wait(&container_of(work, struct busy, work)->end);
}

/* While the guest reads, the sync engine's discards are its worker's: here one that never comes to
 * an end before the reads do. */
static void test_reads_pass_discards(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct busy busy = {.work.fn = be_busy};
	struct virtio_blk_discard_write_zeroes *range;
	struct drv_buf buf = {.len = sizeof(*range)};
	struct loop *worker;
	uint8_t status;
	int head;

	up(f, SIZE);
	worker = blk_device_worker(d->dev);
	assert_int_equal(worker != NULL, f->engine == ENGINE_SYNC);
	if (!worker)
		return;
	sem_init(&busy.end, 0, 0);
	loop_post(worker, &busy.work);
	assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
	buf.addr = GPA(d->buffer.v + 4 * MIB);
	range = drv_ptr(&d->drv, buf.addr, sizeof(*range));
	*range = (struct virtio_blk_discard_write_zeroes){0, MIB / BLK_SECTOR, 0};
	head = disk_send(d, 0, VIRTIO_BLK_T_DISCARD, 0, &buf, 1);
	assert_true(head >= 0);
	disk_kick(d, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(disk_read(d, 8 * i, f->data, 4096), VIRTIO_BLK_S_OK);
		assert_true(disk_is_fill(f->data, 4096 * i, 4096));
	}
	sem_post(&busy.end);
	assert_int_equal(disk_reap(d, 0, &status, NULL), head);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
	assert_int_equal(disk_read(d, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(mem_is_zero(f->data, MIB));
	sem_destroy(&busy.end);
}

/* A reset waits for what the worker has begun. */
static void test_reset_waits_for_the_worker(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;

	up(f, SIZE);
	for (unsigned round = 0; round < 20; round++) {
		struct virtio_blk_discard_write_zeroes *range;
		struct drv_buf buf = {GPA(d->buffer.v + 4 * MIB), sizeof(*range), false};

		assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
		range = drv_ptr(&d->drv, buf.addr, sizeof(*range));
		*range = (struct virtio_blk_discard_write_zeroes){MIB / BLK_SECTOR,
								  SECTORS - MIB / BLK_SECTOR, 0};
		assert_true(disk_send(d, 0, VIRTIO_BLK_T_DISCARD, 0, &buf, 1) >= 0);
		disk_kick(d, 0);
		disk_restart(d);
	}
	assert_int_equal(disk_read(d, 0, f->data, MIB), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(f->data, 0, MIB));
}

/* A sync may take minutes, and has nothing to do with the guest's memory. The next one waits for
 * it.
 */
static void test_reset_does_not_wait_for_a_sync(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct busy busy = {.work.fn = be_busy};

	up(f, 0);
	if (!blk_device_worker(d->dev))
		return;
	sem_init(&busy.end, 0, 0);
	loop_post(blk_device_worker(d->dev), &busy.work);
	for (unsigned round = 0; round < 3; round++) {
		assert_true(disk_send(d, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0) >= 0);
		disk_kick(d, 0);
		assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
		disk_restart(d);
	}
	sem_post(&busy.end);
	assert_int_equal(disk_flush(d), VIRTIO_BLK_S_OK);
	sem_destroy(&busy.end);
}

/* Writes of 2 GiB each in a queue, of which the first one's data lets wait until the driver resets
 * the device: then it is not the driver who says how long that takes. */
static void test_reset_cancels_what_is_queued(void **state)
{
	struct fixture *f = *state;
	struct disk *d = &f->disk;
	struct drv_buf bufs[254];
	_Atomic bool resets = false;
	struct late_page late = {.resets = &resets};
	pthread_t thread;

	assert_int_equal(truncate(f->path, (off_t)(4 * GIB)), 0);
	up(f, 0);
	late.page = drv_ptr(&d->drv, d->buffer, 4096);
	late.fd = pages_take(late.page, 4096);
	if (late.fd < 0)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(bufs); i++)
		bufs[i] = (struct drv_buf){d->buffer, DISK_BUFFER, false};
	for (unsigned i = 0; i < 16; i++)
		assert_true(disk_send(d, 0, VIRTIO_BLK_T_OUT, i * 8192, bufs, ARRAY_SIZE(bufs)) >=
			    0);
	assert_int_equal(pthread_create(&thread, NULL, be_late, &late), 0);
	disk_kick(d, 0);
	usleep(50000);
	resets = true;
	drv_reset(&d->drv);
	pthread_join(thread, NULL);
	close(late.fd);
	print_message("# %llu KiB were written\n",
		      (unsigned long long)disk_allocated(f->path) / KIB);
	assert_true(disk_allocated(f->path) <= 16 * MIB);
	drv_start(&d->drv, d->features, 0);
	assert_int_equal(disk_read(d, 0, f->data, 4096), VIRTIO_BLK_S_OK);
}

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
	uint64_t rings = f->engine == ENGINE_URING ? 2 : 0;

	/* A ring that was closed lets go of its pages a little later. */
	while (pinned_bytes())
		usleep(1000);
	pinned_up(f, 2);
	assert_int_equal(pinned_bytes(), rings * DISK_RAM);
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
	assert_true(fixed ? mem_is_zero(page, 4096) : disk_is_fill(page, 0, 4096));
	/* Of two pieces: as always. */
	two[1] = (struct drv_buf){GPA(f->disk.buffer.v + 4096), 4096, true};
	two[0].len = 512;
	assert_int_equal(disk_do(&f->disk, VIRTIO_BLK_T_IN, 0, two, 2), VIRTIO_BLK_S_OK);
	assert_true(disk_is_fill(page, 0, 512));
	assert_true(disk_is_fill(page + 4096, 512, 4096));
}

static enum disk_engine limited_engine;

static int at_the_limit_on_processes(const char *path)
{
	static uint8_t data[64 * KIB];
	struct disk_options o = {.engine = limited_engine};
	struct rlimit limit = {1, 1};
	struct error e = {""};
	uid_t nobody = 100000 + (uid_t)getpid();
	struct disk d;

	disk_up(&d, path, &o);
	CHECK(geteuid() != 0 || setresuid(nobody, nobody, nobody) == 0); /* root has no limit */
	CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
	memset(data, 0x5a, sizeof(data));
	CHECK(disk_write(&d, 0, data, sizeof(data)) == VIRTIO_BLK_S_OK);
	CHECK(disk_flush(&d) == VIRTIO_BLK_S_OK);
	CHECK(disk_range(&d, VIRTIO_BLK_T_DISCARD, 0, 8, 0) == VIRTIO_BLK_S_OK);
	CHECK(disk_range(&d, VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 0) == VIRTIO_BLK_S_OK);
	CHECK(disk_read(&d, 0, data, sizeof(data)) == VIRTIO_BLK_S_OK);
	CHECK(mem_is_zero(data, 8 * KIB) && data[8 * KIB] == 0x5a);
	disk_close(&d);
	return 0;
}

/* Where the kernel cannot make io_uring's workers, no request fails for want of one. */
static void test_requests_succeed_without_workers(void **state)
{
	struct fixture *f = *state;

	limited_engine = f->engine;
	assert_int_equal(in_child(at_the_limit_on_processes, f->path), 0);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		TEST(writes_need_no_worker),
		TEST(reads_pass_discards),
		TEST(reset_waits_for_the_worker),
		TEST(reset_does_not_wait_for_a_sync),
		TEST(reset_cancels_what_is_queued),
		TEST(pinned_memory),
		TEST(requests_succeed_without_workers),
		TEST(pinned_pages_are_used),
	};

	skip_without_uring(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests_name("blk_uring", tests, NULL, NULL);
}
