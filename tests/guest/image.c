// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's side of the block tests: makes images and looks into them.
 *
 *   image fill FILE SECTORS            pattern IMAGE_SEED, all of it
 *
 *   image check FILE FROM COUNT SEED   status 1 and the first wrong byte, unless that is there
 *
 *   image zeros FILE FROM COUNT        the same for zeros
 *
 *   image blk FILE QUEUES              what the test "blk" leaves behind, every sector
 *
 *   image begun FILE                  prints the last round that "crash" began: crash_areas.h
 *   image crash FILE ACKED RUN [lost]  what it may leave behind; "lost": after a power failure, when
 *                                     sectors are of different times
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk_areas.h"
#include "crash_areas.h"
#include "lib/pattern.h"

#define MAX(a, b) ((a) > (b) ? (a) : (b))

static const char *path;
static int fd;

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (!*text || *end)
		errx(2, "%s: not a number", text);
	return v;
}

static void read_sector(uint64_t sector, uint8_t *buf)
{
	ssize_t n = pread(fd, buf, PATTERN_SECTOR, (off_t)(sector * PATTERN_SECTOR));

	if (n != PATTERN_SECTOR)
		err(2, "%s: sector %llu", path, (unsigned long long)sector);
}

static void expect_pattern(uint64_t sector, uint64_t seed)
{
	uint8_t buf[PATTERN_SECTOR];
	size_t at;

	read_sector(sector, buf);
	at = pattern_check(buf, sizeof(buf), seed, sector);
	if (at != sizeof(buf))
		errx(1, "%s: sector %llu does not hold pattern %llu from byte %zu on", path,
		     (unsigned long long)sector, (unsigned long long)seed, at);
}

static void expect_zeros(uint64_t sector)
{
	static const uint8_t zeros[PATTERN_SECTOR];
	uint8_t buf[PATTERN_SECTOR];

	read_sector(sector, buf);
	if (memcmp(buf, zeros, sizeof(buf)) != 0)
		errx(1, "%s: sector %llu is not zero", path, (unsigned long long)sector);
}

static void fill(uint64_t sectors)
{
	uint8_t buf[128 * PATTERN_SECTOR];

	for (uint64_t s = 0; s < sectors; s += 128) {
		size_t n = sectors - s < 128 ? (size_t)(sectors - s) : 128;

		pattern_fill(buf, n * PATTERN_SECTOR, IMAGE_SEED, s);
		if (write(fd, buf, n * PATTERN_SECTOR) != (ssize_t)(n * PATTERN_SECTOR))
			err(2, "%s", path);
	}
}

static bool inside(uint64_t sector, uint64_t from, uint64_t count)
{
	return sector >= from && sector - from < count;
}

static void expect_blk(uint64_t queues)
{
	struct stat st;

	if (fstat(fd, &st))
		err(2, "%s", path);
	for (uint64_t s = 0; s < (uint64_t)st.st_size / PATTERN_SECTOR; s++) {
		if (inside(s, DISCARD_AREA, DISCARD_SECTORS))
			continue; /* anything is allowed; the runner counts blocks */
		if (inside(s, ZERO_AREA, ZERO_SECTORS) || inside(s, UNMAP_AREA, UNMAP_SECTORS) ||
		    s == ODD_AREA)
			expect_zeros(s);
		else if (inside(s, WRITE_AREA, WRITE_SECTORS) || s == FRAME_AREA ||
			 inside(s, PARALLEL_AREA, 16 * queues))
			expect_pattern(s, WRITE_SEED);
		else
			expect_pattern(s, IMAGE_SEED);
	}
}

static bool in_round(uint64_t run, uint64_t round, unsigned slot)
{
	for (unsigned i = 0; i < CRASH_WRITES; i++)
		if (crash_slot(run, round, i) == slot)
			return true;
	return false;
}

/* The round that the sector holds, or -1. */
static int round_of(const uint8_t *buf, uint64_t sector)
{
	for (int round = 0; round <= (int)CRASH_MAX_ROUND; round++)
		if (pattern_check(buf, PATTERN_SECTOR, CRASH_SEED((unsigned)round), sector) ==
		    PATTERN_SECTOR)
			return round;
	return -1;
}

static uint64_t begun(void)
{
	uint8_t buf[PATTERN_SECTOR];
	int round;

	read_sector(CRASH_BEGUN, buf);
	round = round_of(buf, CRASH_BEGUN);
	if (round < 0)
		errx(1, "%s: sector %u holds no round", path, CRASH_BEGUN);
	return (uint64_t)round;
}

/* Each sector of each slot holds the last round that was acknowledged, or a later one that was
 * begun. */
static void expect_crash(uint64_t acked, uint64_t run, bool lost)
{
	uint64_t end = lost ? CRASH_MAX_ROUND : begun();

	if (acked > end)
		errx(1, "%s: round %llu was acknowledged, and the last that began is %llu", path,
		     (unsigned long long)acked, (unsigned long long)end);
	for (unsigned slot = 0; slot < CRASH_SLOTS; slot++) {
		uint64_t last = acked;

		while (last && !in_round(run, last, slot))
			last--;
		for (unsigned i = 0; i < CRASH_SLOT_SECTORS; i++) {
			uint64_t sector = slot * CRASH_SLOT_SECTORS + i, round = last;
			uint8_t buf[PATTERN_SECTOR];

			read_sector(sector, buf);
			while (pattern_check(buf, sizeof(buf), CRASH_SEED(round), sector) !=
			       sizeof(buf)) {
				round = MAX(round, acked) + 1;
				while (round <= end && !in_round(run, round, slot))
					round++;
				if (round > end)
					errx(1,
					     "%s: sector %llu holds round %d (-1: none whole), "
					     "neither %llu nor one after %llu",
					     path, (unsigned long long)sector,
					     round_of(buf, sector), (unsigned long long)last,
					     (unsigned long long)acked);
			}
		}
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	path = argc > 2 ? argv[2] : "";
	fd = open(path, !strcmp(what, "fill") ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0644);
	if (fd < 0)
		err(2, "%s", path);
	if (argc == 4 && !strcmp(what, "fill"))
		fill(number(argv[3]));
	else if (argc == 6 && !strcmp(what, "check"))
		for (uint64_t i = 0; i < number(argv[4]); i++)
			expect_pattern(number(argv[3]) + i, number(argv[5]));
	else if (argc == 5 && !strcmp(what, "zeros"))
		for (uint64_t i = 0; i < number(argv[4]); i++)
			expect_zeros(number(argv[3]) + i);
	else if (argc == 4 && !strcmp(what, "blk"))
		expect_blk(number(argv[3]));
	else if ((argc == 5 || argc == 6) && !strcmp(what, "crash"))
		expect_crash(number(argv[3]), number(argv[4]),
			     argc == 6 && !strcmp(argv[5], "lost"));
	else if (argc == 3 && !strcmp(what, "begun"))
		printf("%llu\n", (unsigned long long)begun());
	else
		errx(2, "usage: image fill|check|zeros|blk|begun|crash FILE ...");
	return 0;
}
