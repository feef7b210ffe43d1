// SPDX-License-Identifier: BSD-2-Clause
/* What `skep disk` is made of; tests/cli/disk.sh has the whole on file systems of each kind. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/disk.h"
#include "disk.h"

#define SIZE (8 * MIB)

struct fixture {
	char *path;
	int fd;
};

static int setup(void **state)
{
	static struct fixture f;

	f.path = disk_file(SIZE);
	f.fd = open(f.path, O_RDWR | O_CLOEXEC);
	*state = &f;
	return f.fd < 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	unlink(f->path);
	free(f->path);
	return 0;
}

static void expect_range(struct fixture *f, disk_next next, uint64_t from, uint64_t end,
			 uint64_t start, uint64_t stop)
{
	struct disk_range range = {0, 0};

	assert_int_equal(next(f->fd, from, end, &range), stop > start);
	assert_int_equal(range.start, start);
	assert_int_equal(range.end, stop);
}

static void test_data_is_found(void **state)
{
	struct fixture *f = *state;
	struct disk_sum sum;

	expect_range(f, disk_next_data, 0, SIZE, 0, 0);
	disk_fill(f->path, MIB, MIB);
	disk_fill(f->path, 4 * MIB, 2 * MIB);
	expect_range(f, disk_next_data, 0, SIZE, MIB, 2 * MIB);
	expect_range(f, disk_next_data, MIB + 5, SIZE, MIB + 5, 2 * MIB);
	expect_range(f, disk_next_data, 2 * MIB, SIZE, 4 * MIB, 6 * MIB);
	expect_range(f, disk_next_data, 2 * MIB, 5 * MIB, 4 * MIB, 5 * MIB);
	expect_range(f, disk_next_data, 2 * MIB, 4 * MIB, 0, 0);
	expect_range(f, disk_next_data, 6 * MIB, SIZE, 0, 0);
	expect_range(f, disk_next_data, 6 * MIB, 6 * MIB, 0, 0);
	assert_int_equal(disk_sum(f->fd, disk_next_data, 0, SIZE, &sum), 0);
	assert_int_equal(sum.bytes, 3 * MIB);
	assert_int_equal(sum.gaps, 3);
	assert_int_equal(sum.gap_bytes, 5 * MIB);
	assert_int_equal(disk_sum(f->fd, disk_next_data, MIB, 2 * MIB, &sum), 0);
	assert_int_equal(sum.gaps, 0);
}

static void test_unwritten_blocks_are_found(void **state)
{
	struct fixture *f = *state;
	struct disk_sum sum;

	if (fallocate(f->fd, 0, 0, SIZE) < 0)
		skip();
	disk_fill(f->path, 2 * MIB, MIB);
	assert_int_equal(disk_sum(f->fd, disk_next_unwritten, 0, SIZE, &sum), 0);
	if (sum.bytes == 0) {
		print_message("# this file system does not tell what is unwritten\n");
		skip();
	}
	assert_int_equal(sum.bytes, SIZE - MIB);
	assert_int_equal(sum.gap_bytes, MIB);
	expect_range(f, disk_next_unwritten, 0, SIZE, 0, 2 * MIB);
	expect_range(f, disk_next_unwritten, MIB, SIZE, MIB, 2 * MIB);
	expect_range(f, disk_next_unwritten, 2 * MIB, SIZE, 3 * MIB, SIZE);
	expect_range(f, disk_next_unwritten, 2 * MIB, 4 * MIB, 3 * MIB, 4 * MIB);
	expect_range(f, disk_next_unwritten, 2 * MIB, 3 * MIB, 0, 0);

	/* More extents than one call returns. */
	for (uint64_t at = 0; at < SIZE; at += 32 * KIB)
		disk_fill(f->path, at, 16 * KIB);
	assert_int_equal(disk_sum(f->fd, disk_next_unwritten, 0, SIZE, &sum), 0);
	assert_int_equal(sum.bytes, (SIZE - MIB) / 2);
}

/* What fn was given. */
struct seen {
	uint64_t bytes, last, stop_at;
	uint32_t block;
	bool data;
};

static int see(void *ctx, uint64_t at, const uint8_t *data, size_t len, struct error *e)
{
	struct seen *s = ctx;

	(void)e;
	assert_true(at >= s->last);
	assert_in_range(len, 1, MIB);
	assert_true(IS_ALIGNED(at, s->block) || at == 5);
	s->data |= disk_is_fill(data, at, len);
	s->bytes += len;
	s->last = at + len;
	return s->last > s->stop_at ? 7 : 0;
}

static void test_pieces_are_whole_blocks(void **state)
{
	struct fixture *f = *state;
	struct seen seen = {.block = 64 * KIB, .stop_at = UINT64_MAX};
	struct progress progress;
	struct disk_reader reader = {.fd = f->fd,
				     .next = disk_next_data,
				     .block = seen.block,
				     .progress = &progress,
				     .fn = see,
				     .ctx = &seen};

	/* 4 KiB in the middle of the first block, and all of the last MiB and a bit. */
	disk_fill(f->path, 32 * KIB, 4 * KIB);
	disk_fill(f->path, SIZE - MIB - 4 * KIB, MIB + 4 * KIB);
	progress_begin(&progress, NULL, SIZE, 0);
	assert_int_equal(disk_read_ranges(&reader, 0, SIZE, NULL), 0);
	assert_int_equal(seen.bytes, 64 * KIB + MIB + 64 * KIB);
	assert_int_equal(seen.last, SIZE);
	assert_int_equal(reader.done, seen.bytes);
	assert_true(seen.data);
	/* Not before and not after what was asked for. */
	seen.bytes = seen.last = 0;
	assert_int_equal(disk_read_ranges(&reader, 5, 64 * KIB, NULL), 0);
	assert_int_equal(seen.bytes, 64 * KIB - 5);
	/* fn ends it. */
	seen.bytes = seen.last = 0;
	seen.stop_at = 0;
	seen.data = false;
	assert_int_equal(disk_read_ranges(&reader, 0, SIZE, NULL), 7);
	assert_int_equal(seen.bytes, 64 * KIB);
	assert_false(seen.data); /* it began with a hole */
}

static int cut(void *ctx, uint64_t at, const uint8_t *data, size_t len, struct error *e)
{
	(void)at;
	(void)data;
	(void)len;
	(void)e;
	return ftruncate(*(int *)ctx, (off_t)(MIB + 100));
}

static void test_a_file_that_shrinks_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct progress progress;
	struct disk_reader reader = {.fd = f->fd,
				     .next = disk_next_data,
				     .block = 4096,
				     .progress = &progress,
				     .fn = cut,
				     .ctx = &f->fd};
	struct error e = {""};

	disk_fill(f->path, 0, SIZE);
	progress_begin(&progress, NULL, SIZE, 0);
	assert_int_equal(disk_read_ranges(&reader, 0, SIZE, &e), -EIO);
	assert_string_equal(e.msg, "ends at byte 1048676 now: something truncated it");
}

static void test_compact_counts_what_it_freed(void **state)
{
	struct fixture *f = *state;
	static uint8_t zeros[3 * MIB];
	struct progress progress;
	uint64_t freed, before;
	struct stat st;

	disk_fill(f->path, 0, 4 * MIB);
	assert_int_equal(pwrite(f->fd, zeros, sizeof(zeros), 512 * KIB), sizeof(zeros));
	assert_int_equal(ftruncate(f->fd, 3 * MIB + 100), 0);
	before = disk_allocated(f->path);
	assert_int_equal(disk_compact(f->fd, &progress, NULL, &freed, NULL), 0);
	assert_int_equal(before - disk_allocated(f->path), freed);
	assert_in_range(freed, 2 * MIB + 400 * KIB, 2 * MIB + 600 * KIB);
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal(st.st_size, 3 * MIB + 100);
}

/* As one that is attached while compact is at work, which locks do not keep out. */
static void test_compact_stops_at_a_loop_device(void **state)
{
	struct fixture *f = *state;
	static uint8_t zeros[MIB];
	struct progress progress;
	struct error e = {""};
	char command[128], device[32] = "";
	uint64_t freed, before;
	FILE *attach;

	assert_int_equal(pwrite(f->fd, zeros, sizeof(zeros), 0), sizeof(zeros));
	assert_int_equal(fsync(f->fd), 0);
	before = disk_allocated(f->path);
	snprintf(command, sizeof(command), "losetup -f --show %s 2>/dev/null", f->path);
	attach = popen(command, "r");
	assert_non_null(attach);
	if (fscanf(attach, "%31s", device) != 1) {
		pclose(attach);
		print_message("# no loop devices here\n");
		skip();
	}
	pclose(attach);
	assert_int_equal(disk_compact(f->fd, &progress, NULL, &freed, &e), -EBUSY);
	snprintf(command, sizeof(command), "losetup -d %s", device);
	assert_int_equal(system(command), 0);
	assert_non_null(strstr(e.msg, device));
	assert_int_equal(freed, 0);
	assert_int_equal(disk_allocated(f->path), before);
}

static void test_block_sizes(void **state)
{
	struct fixture *f = *state;
	uint32_t block = disk_block_size(f->fd);

	assert_in_range(block, KIB, 64 * KIB);
	assert_true(IS_ALIGNED(64 * KIB, block));
	assert_int_equal(disk_block_size(-1), 4096);
}

/* The bar */

static void test_lines_fit(void **state)
{
	char line[160];

	(void)state;
	progress_line(line, sizeof(line), 80, GIB, 4 * GIB, 5 * NSEC_PER_SEC);
	assert_string_equal(line, "[##########..............................] "
				  " 25 %  1 GiB of 4 GiB, 15 s left");
	progress_line(line, sizeof(line), 80, 0, 4 * GIB, 5 * NSEC_PER_SEC);
	assert_string_equal(line, "[........................................] "
				  "  0 %  0 B of 4 GiB");
	progress_line(line, sizeof(line), 80, GIB, GIB, NSEC_PER_SEC);
	assert_non_null(strstr(line, "###] 100 %  1 GiB of 1 GiB, 0 s left"));
	progress_line(line, sizeof(line), 80, 2 * GIB, GIB, NSEC_PER_SEC); /* it grew */
	assert_non_null(strstr(line, "###] 100 %"));
	progress_line(line, sizeof(line), 80, 0, 0, NSEC_PER_SEC);
	assert_non_null(strstr(line, "###] 100 %"));
	for (unsigned columns = 0; columns < 200; columns++) {
		progress_line(line, sizeof(line), columns, 123456789, 1ull << 62, UINT64_MAX / 2);
		assert_true(strlen(line) < MAX(columns, 1u));
	}
}

static void test_the_bar_waits_and_goes_away(void **state)
{
	struct winsize size = {.ws_row = 24, .ws_col = 60};
	const uint64_t start = 1000 * NSEC_PER_SEC;
	struct progress p;
	char text[512];
	int user, terminal;
	ssize_t n;
	FILE *out;

	(void)state;
	assert_int_equal(openpty(&user, &terminal, NULL, NULL, &size), 0);
	assert_int_equal(fcntl(user, F_SETFL, O_NONBLOCK), 0);
	out = fdopen(terminal, "w");
	progress_begin(&p, out, 100, start);
	progress_show(&p, 10, start);
	progress_show(&p, 20, start + PROGRESS_DELAY_NS - 1);
	progress_end(&p);
	assert_int_equal(read(user, text, sizeof(text)), -1);

	progress_show(&p, 50, start + PROGRESS_DELAY_NS);
	progress_show(&p, 51, start + PROGRESS_DELAY_NS + 1); /* too soon after */
	n = read(user, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text,
			    "\r[#############.............]  50 %  50 B of 100 B, 2 s left\033[K");
	progress_show(&p, 75, start + PROGRESS_DELAY_NS + PROGRESS_PERIOD_NS);
	n = read(user, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, " 75 %"));
	progress_end(&p);
	progress_end(&p);
	n = read(user, text, sizeof(text) - 1);
	assert_int_equal(n, 4);
	assert_memory_equal(text, "\r\033[K", 4);
	fclose(out);
	close(user);
}

static void test_no_bar_but_on_a_terminal(void **state)
{
	char text[16];
	int pipes[2];
	struct progress p;
	FILE *out;

	(void)state;
	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	out = fdopen(pipes[1], "w");
	progress_begin(&p, out, 100, 0);
	progress_show(&p, 50, 100 * NSEC_PER_SEC);
	progress_end(&p);
	fclose(out);
	assert_int_equal(read(pipes[0], text, sizeof(text)), 0);
	close(pipes[0]);
	progress_begin(&p, NULL, 100, 0);
	progress_show(&p, 50, 100 * NSEC_PER_SEC);
	assert_false(p.drawn);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_data_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unwritten_blocks_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pieces_are_whole_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_shrinks_meanwhile, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_compact_counts_what_it_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact_stops_at_a_loop_device, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_block_sizes, setup, teardown),
		cmocka_unit_test(test_lines_fit),
		cmocka_unit_test(test_the_bar_waits_and_goes_away),
		cmocka_unit_test(test_no_bar_but_on_a_terminal),
	};

	return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
