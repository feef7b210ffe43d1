// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Locks belong to the open file description (F_OFD_SETLK): they end with
 * its last descriptor, however the process ends, and two opens of one file in one process exclude
 * each other too. They are on the same bytes as QEMU's, so that each respects the other's:
 *
 * byte 100 + P    held by users of permission P byte 200 + P      held by those who let no others
 * use permission P P              0 read, 1 write, 2 write what is there already, 3 resize
 *
 * QEMU takes shared locks there and then checks whether another lock excludes what it wants. Here a
 * writer locks all bytes exclusively, in one step. A reader takes shared locks on the bytes that
 * keep writers out, and then checks for a writer that QEMU let in.
 *
 * The kernel does not say who holds such a lock. So a holder also has an old-style lock (F_SETLK)
 * on another byte, which excludes nobody, but whose process the kernel tells. Where there is none
 * (QEMU), the fdinfo of a descriptor shows its locks to those who may look into the process.
 *
 * When a process is killed, its io_uring keeps the image and the lock for a moment longer. So a
 * lock without a visible holder is waited for.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/filelock.h"
#include "base/log.h"
#include "base/util.h"

#define USES	   100
#define KEEPS_OUT  200
#define NAME	   300 /* tells who has one of the others */
#define WRITE	   1
#define RESIZE	   3
#define PATIENCE   200u /* looks */
#define LOOK_NS	   10000000
#define COMM_LEN   16u
#define FDINFO_MAX 4096u

struct holder {
	pid_t pid; /* 0: nobody that can be seen */
	char comm[COMM_LEN];
};

static struct flock range(short type, int from, int to)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = to - from + 1};
}

/* Whether somebody holds a lock on one of these bytes, which is then in *lock. */
static bool held(int fd, int from, int to, struct flock *lock)
{
	*lock = range(F_WRLCK, from, to);
	return fcntl(fd, F_OFD_GETLK, lock) == 0 && lock->l_type != F_UNLCK;
}

/* 0; -EAGAIN with what is in the way; or another errno, when locks do not work here. */
static int try_lock(int fd, enum file_lock how, struct flock *other)
{
	struct flock lock = range(F_WRLCK, USES, KEEPS_OUT + RESIZE);

	if (how == FILE_LOCK_LOOK)
		return held(fd, USES, KEEPS_OUT + RESIZE, other) ? -EAGAIN : 0;
	if (how == FILE_LOCK_READ)
		lock = range(F_RDLCK, KEEPS_OUT + WRITE, KEEPS_OUT + RESIZE);
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		/* It may be gone by now, and then there is nobody to name. */
		*other = lock;
		fcntl(fd, F_OFD_GETLK, other);
		return -EAGAIN;
	}
	if (how == FILE_LOCK_READ && held(fd, USES + WRITE, USES + RESIZE, other)) {
		file_unlock(fd);
		return -EAGAIN;
	}
	return 0;
}

/* It ends when the process closes any descriptor of the file; then no message can name the holder.
 * */
static void leave_name(int fd, enum file_lock how)
{
	struct flock lock = range(how == FILE_LOCK_READ ? F_RDLCK : F_WRLCK, NAME, NAME);

	fcntl(fd, F_SETLK, &lock);
}

void file_unlock(int fd)
{
	struct flock lock = range(F_UNLCK, USES, KEEPS_OUT + RESIZE);

	fcntl(fd, F_OFD_SETLK, &lock);
}

/* Whether a process's fdinfo of a descriptor has such a lock. */
static bool shows_lock(const char *pid, const char *fd)
{
	char text[FDINFO_MAX + 1], *save, *line;

	read_text(text, sizeof(text), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		long long first, last;
		int got = sscanf(line, "lock:%*d: OFDLCK %*s %*s %*d %*s %lld %lld", &first, &last);

		/* A lock to the end of the file shows EOF as its end. */
		if (got >= 1 && first <= KEEPS_OUT + RESIZE && (got == 1 || last >= USES))
			return true;
	}
	return false;
}

/* Whether the process has `file` open with a lock on it. */
static bool process_holds(const char *pid, const struct stat *file)
{
	char path[sizeof("/proc//fd") + 20];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		struct stat st;

		found = fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
			st.st_ino == file->st_ino && st.st_dev == file->st_dev &&
			shows_lock(pid, entry->d_name);
	}
	closedir(dir);
	return found;
}

static void find_holder(int fd, const struct flock *other, struct holder *ret)
{
	struct dirent *entry;
	struct flock name;
	struct stat file;
	DIR *proc;

	*ret = (struct holder){0};
	if (other->l_type != F_UNLCK && other->l_pid > 0) {
		/* Another program's old-style lock. */
		ret->pid = other->l_pid;
	} else if (held(fd, NAME, NAME, &name) && name.l_pid > 0) {
		ret->pid = name.l_pid;
	} else if (fstat(fd, &file) == 0 && (proc = opendir("/proc"))) {
		while (!ret->pid && (entry = readdir(proc)))
			if (*entry->d_name >= '1' && *entry->d_name <= '9' &&
			    process_holds(entry->d_name, &file))
				ret->pid = (pid_t)strtol(entry->d_name, NULL, 10);
		closedir(proc);
	}
	if (ret->pid)
		read_text(ret->comm, sizeof(ret->comm), "/proc/%d/comm", (int)ret->pid);
}

static int refuse(enum file_lock how, const struct flock *other, const struct holder *holder,
		  struct error *e)
{
	const char * or = how == FILE_LOCK_OUTPUT ? "or choose another file"
			  : how == FILE_LOCK_WRITE && other->l_type == F_RDLCK
				  ? "or add `,readonly` or `,ephemeral` if it only reads"
				  : "or give this VM a copy";

	if (!holder->pid)
		return error_set(e, -EBUSY,
				 "is in use by a process that is not visible from here, of another "
				 "user or in another container: find it with `fuser -v` as root on "
				 "the host; stop it, %s",
				 or);
	if (holder->pid == getpid())
		return error_set(e, -EBUSY,
				 "is given twice, but only one user may write to it; "
				 "leave one out, or add `,readonly` to both");
	return error_set(e, -EBUSY, "is in use by process %d%s%s%s: stop it, %s", (int)holder->pid,
			 holder->comm[0] ? " (" : "", holder->comm, holder->comm[0] ? ")" : "", or);
}

/* Gives the lock up if the host itself uses the file; locks do not show that. */
static int lock_from_host(int fd, enum file_lock how, struct error *e)
{
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : file_host_use(&st, how == FILE_LOCK_READ, e);

	if (r < 0)
		file_unlock(fd);
	else
		leave_name(fd, how);
	return r;
}

bool file_look_again(unsigned *looks)
{
	static const struct timespec pause = {.tv_nsec = LOOK_NS};

	return (*looks)++ < PATIENCE && (nanosleep(&pause, NULL), true);
}

int file_lock(int fd, enum file_lock how, struct error *e)
{
	struct flock other = {.l_type = F_UNLCK};
	struct holder holder = {0};
	unsigned looks = 0;
	int r, unlocked;

	do {
		unlocked = try_lock(fd, how, &other);
		if (unlocked == -EAGAIN) {
			find_holder(fd, &other, &holder);
			r = refuse(how, &other, &holder, e);
		} else {
			r = how == FILE_LOCK_LOOK ? 0 : lock_from_host(fd, how, e);
		}
	} while (r == -EBUSY && !holder.pid && file_look_again(&looks));
	if (r < 0 || unlocked == 0)
		return r;
	return error_set(e, -ENOLCK, "cannot be locked (%s)", strerror(-unlocked));
}

int file_lock_named(int fd, const char *path, enum file_lock how, struct stat *ret, struct error *e)
{
	struct error why = {""};
	int r = file_lock(fd, how, &why);
	struct stat named;

	if (r == -ENOLCK)
		log_warn("'%s': %s: make sure that nobody else %s it", path, why.msg,
			 how == FILE_LOCK_READ ? "writes" : "uses");
	else if (r < 0)
		return error_set(e, r, "%s", why.msg);
	if (fstat(fd, ret) < 0)
		return error_set(e, -errno, "cannot stat: %m");
	if (stat(path, &named) < 0 || !is_same_file(ret, &named))
		return error_set(e, -ESTALE, "was replaced while it was being opened: try again");
	return 0;
}
