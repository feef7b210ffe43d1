// SPDX-License-Identifier: BSD-2-Clause
/* Who may use a file: locks against other VMs and programs, and uses by the host's kernel. */
#ifndef SKEP_FILELOCK_H
#define SKEP_FILELOCK_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"

enum file_lock {
	FILE_LOCK_READ,	  /* to read: nobody writes; `fd` is open for reading */
	FILE_LOCK_WRITE,  /* to write: nobody else reads or writes; `fd` is open for writing */
	FILE_LOCK_OUTPUT, /* the same, for a file that is not an image */
	FILE_LOCK_LOOK,	  /* takes no lock; fails where FILE_LOCK_WRITE would */
};

/*
 * Locks an image against other VMs, QEMU's too, until file_unlock() or until the open file
 * description is gone. A file that the host itself uses (file_host_use()) is refused, too. -EBUSY
 * with a message that names the holder and the remedy, after up to two seconds if no process is
 * seen to hold it; -ENOLCK when the file system has no locks.
 */
int file_lock(int fd, enum file_lock how, struct error *e);
void file_unlock(int fd);
/*
 * Locks what was opened as `path`, and then gets its fstat(2). A file system without locks costs a
 * warning. -ESTALE: the name is another file's by now; open that one instead, at most
 * FILE_OPEN_TRIES times.
 */
#define FILE_OPEN_TRIES 100u
int file_lock_named(int fd, const char *path, enum file_lock how, struct stat *ret,
		    struct error *e);
/* Pauses before another look at what may go away by itself; false after two seconds. */
bool file_look_again(unsigned *looks);

/*
 * Whether the host's kernel uses the regular file `st`, behind a loop device (mounted, device
 * mapper) or as swap; with `to_read`, whether it may write there. -EBUSY with a message.
 */
int file_host_use(const struct stat *st, bool to_read, struct error *e);

#endif
