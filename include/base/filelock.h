// SPDX-License-Identifier: BSD-2-Clause
/* Who may use a file: other VMs and programs (locks), and the host's kernel. */
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
 * Locks an image against other VMs, QEMU's too, until file_unlock() or until nobody has the open
 * file description any more. A file that the host itself uses (file_host_use()) is refused,
 * too. -EBUSY with a message that names the holder and the remedy, after up to two seconds when
 * no process is seen to hold it; -ENOLCK when the file system has no locks.
 */
int file_lock(int fd, enum file_lock how, struct error *e);
void file_unlock(int fd);
/*
 * file_lock() of what was opened as `path`, and what fstat(2) says of it from then on. Where there
 * are no locks a warning says so. -ESTALE: the name is another file's by now, which should be
 * opened instead, at most FILE_OPEN_TRIES times.
 */
#define FILE_OPEN_TRIES 100u
int file_lock_named(int fd, const char *path, enum file_lock how, struct stat *ret,
		    struct error *e);
/* Pauses before another look at what may yet go away; false after two seconds. */
bool file_look_again(unsigned *looks);

/*
 * Whether the host's kernel uses the regular file `st`, behind a loop device (mounted, device
 * mapper) or as swap; with `to_read`, whether it may write there. -EBUSY with a message.
 */
int file_host_use(const struct stat *st, bool to_read, struct error *e);

#endif
