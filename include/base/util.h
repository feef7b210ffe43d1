// SPDX-License-Identifier: BSD-2-Clause
/* Small helpers that every room uses. */
#ifndef SKEP_UTIL_H
#define SKEP_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct stat;

#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)			((a) < (b) ? (a) : (b))
#define MAX(a, b)			((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)			(((x) + ((a)-1)) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a)		((x) & ~((__typeof__(x))(a)-1))
#define IS_ALIGNED(x, a)		(((x) & ((__typeof__(x))(a)-1)) == 0)
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

#define NSEC_PER_SEC 1000000000ull

static inline void freep_(void *p)
{
	free(*(void **)p);
}
static inline void closep_(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_free_	__attribute__((cleanup(freep_)))
#define _cleanup_close_ __attribute__((cleanup(closep_)))

/* Reads or writes exactly `len` bytes unless end of file comes first; returns the bytes moved or a
 * negative errno. Restarts on EINTR and on short transfers. */
ssize_t read_full(int fd, void *buf, size_t len);
ssize_t write_full(int fd, const void *buf, size_t len);
ssize_t pread_full(int fd, void *buf, size_t len, uint64_t offset);
ssize_t pwrite_full(int fd, const void *buf, size_t len, uint64_t offset);

/* A small file of /proc or /sys, whose path is what printf(3) makes of it: what is in it, cut to
 * `len`, without a newline at its end. False, and an empty text, where it cannot be read. */
__attribute__((format(printf, 3, 4))) bool read_text(char *ret, size_t len, const char *path, ...);

/* Whether all `len` bytes are zero (true for 0 bytes). Any alignment. Each byte is read once, so
 * even while others write there, true means that every byte was zero when it was read. */
bool mem_is_zero(const void *buf, size_t len);

/* Cuts the middle out of a text that is longer than `max` bytes (8 or more), so that the beginning
 * of a path and the end of a reason stay. */
void shorten(char *text, size_t max);

/* For people, to three digits or so: "512 B", "1.5 GiB", "20 GiB". */
#define FORMAT_BYTES 16u
char *format_bytes(uint64_t bytes, char ret[FORMAT_BYTES]); /* returns ret */
/* The same, as text that lives as long as the block. */
#define BYTES_TEXT(bytes) format_bytes((bytes), (char[FORMAT_BYTES]){""})

/*
 * Makes text from a guest, a file or another process safe for a terminal, and one line: each byte
 * becomes "?" of control characters (ASCII and C1, as UTF-8 or alone), of characters that change
 * the direction of writing, and of what is not UTF-8.
 */
void text_clean(char *text);
/* Prints a line of such text, and the newline. */
__attribute__((format(printf, 2, 3))) void print_line(FILE *out, const char *fmt, ...);

/* A number from the queue/ directory in /sys of a block device or, for a partition, of its whole
 * device; 0 when it is not there. */
uint64_t block_queue_limit(dev_t dev, const char *name);

/* "a directory", "a pipe": for messages. */
const char *file_kind(mode_t mode);

/* Whether these are of one file, or of one block device, whatever their names. */
bool is_same_file(const struct stat *a, const struct stat *b);

/* Opens the terminal or pipe behind `fd` once more, so that it has a description of its own that
 * does not block: those of a user's shell are others' too. `flags` are open(2)'s. -1 where it is
 * something else, or another user's. */
int open_again(int fd, int flags);

/* Empties a regular file; another kind, or -1, is left as it is. 0 or a negative errno. */
int empty_file(int fd);

/* The process's descriptors beyond the standard streams, in an array that the caller frees: how
 * many, or a negative errno, as where /proc is missing. */
int open_descriptors(int **ret);

/* A clock in nanoseconds. */
uint64_t clock_ns(clockid_t clock);
static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

#endif
