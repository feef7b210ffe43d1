// SPDX-License-Identifier: BSD-2-Clause
/*
 * fsx FILE STEPS SEED: does to FILE what programs do to files, at random, in the way of the file system
 * exerciser of that name: reads and writes, mappings, holes, copies, other sizes; closes it and opens it
 * again. What the file should hold is kept in memory and is compared with what is read, and with the whole
 * at the end. The first difference ends it, with the steps before.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SIZE (256 * 1024)
#define MAX_STEP (64 * 1024)
#define KEPT	 40

static uint8_t good[MAX_SIZE], got[MAX_SIZE];
static size_t size;
static const char *path;
static int fd;
static uint64_t random_state;
static char done[KEPT][80]; /* the last steps */
static unsigned long step;
static size_t at, len, to; /* what it is about; `to`: of a copy or another size */

static size_t pick(size_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return below ? (size_t)(random_state >> 33) % below : 0;
}

static _Noreturn void fail(const char *what, size_t where)
{
	for (unsigned long i = step > KEPT ? step - KEPT : 0; i <= step; i++)
		printf("%s\n", done[i % KEPT]);
	printf("%s at %#zx: %s; the file should have %#zx bytes\n", what, where, strerror(errno),
	       size);
	exit(1);
}

static void need(bool ok, const char *what, size_t where)
{
	if (!ok)
		fail(what, where);
}

static void compare(const uint8_t *data, size_t n)
{
	errno = 0;
	for (size_t i = 0; i < n; i++)
		need(data[i] == good[at + i], "other data", at + i);
}

static void open_file(void)
{
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd >= 0, "open", 0);
}

static void check_size(void)
{
	struct stat st = {.st_size = -1};

	need(fstat(fd, &st) == 0 && (size_t)st.st_size == size, "another size", (size_t)st.st_size);
}

/* The file becomes longer, with zeros. */
static void grow(size_t end)
{
	if (end > size)
		memset(good + size, 0, end - size);
	size = end > size ? end : size;
}

static void fill(void)
{
	grow(at + len);
	for (size_t i = 0; i < len; i++)
		good[at + i] = (uint8_t)(step + i * 7);
}

static void read_file(void)
{
	size_t there = at >= size ? 0 : size - at < len ? size - at : len;

	need(pread(fd, got, len, (off_t)at) == (ssize_t)there, "read", at);
	compare(got, there);
}

static void write_file(void)
{
	fill();
	need(pwrite(fd, good + at, len, (off_t)at) == (ssize_t)len, "write", at);
}

static void map_file(bool writes)
{
	size_t skip = at % 4096;
	uint8_t *p;

	if (at + len > size)
		return;
	p = mmap(NULL, skip + len, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd,
		 (off_t)(at - skip));
	if (p == MAP_FAILED && errno == ENODEV)
		return; /* cache=never */
	need(p != MAP_FAILED, "mmap", at);
	compare(p + skip, len);
	if (writes) {
		fill();
		memcpy(p + skip, good + at, len);
	}
	need(munmap(p, skip + len) == 0, "munmap", at);
}

static void read_map(void)
{
	map_file(false);
}

static void write_map(void)
{
	map_file(true);
}

static void truncate_file(void)
{
	grow(to);
	size = to;
	need(ftruncate(fd, (off_t)to) == 0, "truncate", to);
}

/* A hole, zeros, or space. */
static void change_space(int mode)
{
	int r = fallocate(fd, mode, (off_t)at, (off_t)len);

	if (r < 0 && errno == EOPNOTSUPP)
		return;
	need(r == 0, "fallocate", at);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(at + len);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && at < size)
		memset(good + at, 0, size - at < len ? size - at : len);
}

static void punch(void)
{
	change_space(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void zero(void)
{
	change_space(FALLOC_FL_ZERO_RANGE);
}

static void zero_inside(void)
{
	change_space(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

static void allocate(void)
{
	change_space(0);
}

static void copy_part(void)
{
	off_t in = (off_t)at, out = (off_t)to;
	size_t left = len;

	if (at + len > size || (at < to + len && to < at + len))
		return;
	grow(to + len);
	memcpy(good + to, good + at, len);
	while (left) {
		ssize_t n = copy_file_range(fd, &in, fd, &out, left, 0);

		need(n > 0, "copy_file_range", (size_t)in);
		left -= (size_t)n;
	}
}

static void reopen(void)
{
	need(close(fd) == 0, "close", 0);
	open_file();
}

static void sync_file(void)
{
	need(fsync(fd) == 0, "fsync", 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{"read", read_file},
	{"write", write_file},
	{"mapped read", read_map},
	{"mapped write", write_map},
	{"size", truncate_file},
	{"punch", punch},
	{"zero", zero},
	{"zero, same size", zero_inside},
	{"allocate", allocate},
	{"copy", copy_part},
	{"reopen", reopen},
	{"fsync", sync_file},
	{"read", read_file},
	{"write", write_file},
};

static void one_step(void)
{
	size_t what = pick(sizeof(kinds) / sizeof(kinds[0]));

	at = pick(MAX_SIZE);
	len = 1 + pick(MAX_STEP < MAX_SIZE - at ? MAX_STEP : MAX_SIZE - at);
	to = pick(MAX_SIZE - len + 1);
	snprintf(done[step % KEPT], sizeof(done[0]), "%lu: %s %#zx, %#zx bytes (%#zx)", step,
		 kinds[what].name, at, len, to);
	kinds[what].run();
	check_size();
}

int main(int argc, char **argv)
{
	unsigned long steps;

	if (argc != 4)
		return 2;
	path = argv[1];
	steps = strtoul(argv[2], NULL, 0);
	random_state = strtoul(argv[3], NULL, 0);
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
	need(fd >= 0, "create", 0);
	for (; step < steps; step++)
		one_step();
	at = 0;
	len = MAX_SIZE;
	read_file();
	reopen();
	read_file();
	return 0;
}
