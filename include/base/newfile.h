// SPDX-License-Identifier: BSD-2-Clause
/*
 * A file that gets its name when it is whole: at that name is what was there, or all of this. Until
 * then it has no name at all (O_TMPFILE), so that nothing is left when skep is killed; where the
 * file system cannot do that, it has a temporary one.
 */
#ifndef SKEP_NEWFILE_H
#define SKEP_NEWFILE_H

#include <stdbool.h>
#include <sys/types.h>

#define NEW_FILE_PREFIX ".skep-new-" /* of temporary names */

struct new_file {
	int dir, fd;
	char name[64]; /* in `dir`, temporary; empty: none */
};

/* Makes it in the directory `dir`, a descriptor that is borrowed. A negative errno: there is nothing
 * to close. */
int new_file_open(struct new_file *ret, int dir, mode_t mode);
/* Gives it its name, in one step; `replace`: in place of the file that has it, else that is -EEXIST.
 * Syncs nothing. */
int new_file_publish(struct new_file *file, const char *name, bool replace);
/* Drops it, or what was published stays. The descriptor is closed, unless the caller took it and
 * left -1. */
void new_file_close(struct new_file *file);

#endif
