// SPDX-License-Identifier: BSD-2-Clause
/* `skep disk`: images that no VM is using. Nothing here needs KVM, or changes an image's content,
 * unless the user asks for that. */
#ifndef SKEP_DISK_COMMAND_H
#define SKEP_DISK_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/progress.h"
#include "command.h"

enum disk_action { DISK_CREATE, DISK_INFO, DISK_COMPACT, DISK_RESIZE };

struct disk_command {
	enum disk_action action;
	const char *path; /* borrowed */
	uint64_t size;	  /* bytes, of create and resize */
	bool grow;	  /* resize: by `size`, not to it */
	bool force, preallocate, shrink, json;
};

/*
 * Carries the command out. What was done is said on `out`; `terminal`, if it is one, gets a
 * progress bar. A negative errno with a message that names the path; -EINVAL and -ERANGE are for
 * what was asked, not for what was found.
 */
int disk_command_run(const struct disk_command *command, FILE *out, FILE *terminal,
		     struct error *e);

/* Parses what follows `skep disk`. ret->path is borrowed from argv. */
int cli_parse_disk(int argc, char *const *argv, struct disk_command *ret, struct error *e);
extern const struct cli_verb disk_verbs[]; /* by enum disk_action; end with name == NULL */

/*
 * Creates an image of `size` bytes at `path`, in one step: there is the old file, or all of the new
 * one. `old`, or NULL, is the file that it replaces, with owner and mode. A negative errno with a
 * message that does not name the path.
 */
int disk_make(const char *path, uint64_t size, bool preallocate, const struct stat *old,
	      struct error *e);

/* Where data is: bytes of the file, as lseek(2) tells with SEEK_DATA and SEEK_HOLE. */
struct disk_range {
	uint64_t start, end;
};

/* Finds the next range in [from, end). 1, 0 when there is none, or a negative errno. */
typedef int (*disk_next)(int fd, uint64_t from, uint64_t end, struct disk_range *ret);

/* What is stored. A file system that cannot tell has data everywhere. */
int disk_next_data(int fd, uint64_t from, uint64_t end, struct disk_range *ret);
/* What is allocated but was never written, and reads as zeros; none where there is no FIEMAP. */
int disk_next_unwritten(int fd, uint64_t from, uint64_t end, struct disk_range *ret);

/* The sum of all ranges in [from, end), and of what is between them. */
struct disk_sum {
	uint64_t bytes, gaps, gap_bytes;
};
int disk_sum(int fd, disk_next next, uint64_t from, uint64_t end, struct disk_sum *ret);

/* Reads all ranges in [from, end) in pieces, the ends of each at multiples of `block` (a power of
 * two, at most 64 KiB) or of the whole. Stops when fn returns other than 0, and returns that. */
struct disk_reader {
	int fd;
	disk_next next;
	uint32_t block;
	struct progress *progress; /* begun with the sum of the ranges */
	uint64_t done;		   /* bytes, for the progress */
	int (*fn)(void *ctx, uint64_t at, const uint8_t *data, size_t len, struct error *e);
	void *ctx;
};
int disk_read_ranges(struct disk_reader *reader, uint64_t from, uint64_t end, struct error *e);

/*
 * Punches a hole for each run of whole blocks that read as zeros; the last block may be a partial
 * one. Content, size and (for the file's owner) modification time stay; to be ended at any moment
 * is safe. -EBUSY once the host has the file, by a loop device or as swap. *ret_freed is in bytes.
 */
int disk_compact(int fd, struct progress *progress, FILE *terminal, uint64_t *ret_freed,
		 struct error *e);

/* The block of the file's file system, in bytes: a power of two, 1 KiB to 64 KiB. */
uint32_t disk_block_size(int fd);

#endif
