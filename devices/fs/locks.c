// SPDX-License-Identifier: BSD-2-Clause
/*
 * Locks that other VMs and the host see.
 *
 * DOC: Theory of operation. flock() is of an open file, and so is the host's on its descriptor. POSIX locks
 * are of a process: each that has some on an inode gets a descriptor of its own, with the host's locks of
 * open files (F_OFD_SETLK), until it closes the file (FLUSH). The guest's own locks of open files look the
 * same, and end with the file by which they were set (RELEASE). No thread waits for a lock: wait.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "device.h"

static bool is_of(const struct fs_owner *o, const struct fs_node *node, uint64_t owner)
{
	return o->owner == owner && o->ino == node->ino && o->dev == node->dev &&
	       o->mount == node->mount;
}

/* Under the lock: its link, which leads to NULL if it has none. */
static struct fs_owner **find(struct fs *fs, const struct fs_node *node, uint64_t owner)
{
	struct fs_owner **at = &fs->owners;

	while (*at && !is_of(*at, node, owner))
		at = &(*at)->next;
	return at;
}

/* The handle of a process, or 0. */
static uint64_t handle_of(struct fs *fs, const struct fs_node *node, uint64_t owner)
{
	struct fs_owner *o;
	uint64_t fh;

	pthread_mutex_lock(&fs->lock);
	o = *find(fs, node, owner);
	fh = o ? o->fh : 0;
	pthread_mutex_unlock(&fs->lock);
	return fh;
}

/* Takes `fh` over. Another thread may have been faster. */
static int add_owner(struct fs *fs, const struct fs_node *node, const struct fuse_lk_in *in,
		     uint64_t fh)
{
	struct fs_owner *o = malloc(sizeof(*o)), **at;
	int r = -ENOLCK;

	pthread_mutex_lock(&fs->lock);
	at = find(fs, node, in->owner);
	if (o && !*at && fs->num_owners < FS_MAX_OWNERS) {
		*o = (struct fs_owner){NULL,	    in->owner, node->dev, node->ino,
				       node->mount, fh,	       in->fh};
		*at = o;
		fs->num_owners++;
		r = 1;
	} else if (*at) {
		r = 0;
	}
	pthread_mutex_unlock(&fs->lock);
	if (r <= 0) {
		free(o);
		fs_close_handle(fs, fh, false);
	}
	return r;
}

static int make_owner(struct fs *fs, const struct fs_node *node, const struct fuse_lk_in *in)
{
	int fd = fs->share.readonly ? -EROFS : fs_open(node, O_RDWR);
	int64_t fh;

	if (fd < 0)
		fd = fs_open(node, O_RDONLY);
	fh = fd < 0 ? fd : fs_add_handle(fs, fd, false);
	return fh < 0 ? (int)fh : add_owner(fs, node, in, (uint64_t)fh);
}

static void free_owners(struct fs *fs, struct fs_owner *o)
{
	struct fs_owner *next;

	for (; o; o = next) {
		next = o->next;
		fs_close_handle(fs, o->fh, false);
		free(o);
	}
}

void fs_unlock_owner(struct fs *fs, const struct fs_node *node, uint64_t owner)
{
	struct fs_owner **at, *o;

	pthread_mutex_lock(&fs->lock);
	at = find(fs, node, owner);
	o = *at;
	if (o) {
		*at = o->next;
		o->next = NULL;
		fs->num_owners--;
	}
	pthread_mutex_unlock(&fs->lock);
	free_owners(fs, o);
}

void fs_unlock_file(struct fs *fs, uint64_t fh)
{
	struct fs_owner **at, *o, *gone = NULL;

	pthread_mutex_lock(&fs->lock);
	for (at = &fs->owners; *at;) {
		o = *at;
		if (fh && o->via != fh) {
			at = &o->next;
			continue;
		}
		*at = o->next;
		o->next = gone;
		gone = o;
		fs->num_owners--;
	}
	pthread_mutex_unlock(&fs->lock);
	free_owners(fs, gone);
}

void fs_leave(struct fs *fs)
{
	fs_forget_all(fs);
	fs_unlock_file(fs, 0);
}

static int set_flock(struct fs *fs, struct fs_request *rq, const struct fuse_lk_in *in)
{
	int fd = fs_handle(fs, rq, in->fh, false);
	int how = in->lk.type == F_UNLCK ? LOCK_UN : in->lk.type == F_RDLCK ? LOCK_SH : LOCK_EX;

	if (fd < 0)
		return fd;
	return flock(fd, how | LOCK_NB) < 0 ? -errno : 0;
}

static bool to_host(const struct fuse_lk_in *in, struct flock *ret)
{
	const struct fuse_file_lock *lk = &in->lk;

	if (lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK)
		return false;
	if (lk->start > lk->end || lk->end > INT64_MAX)
		return false;
	*ret = (struct flock){
		.l_type = (short)lk->type, .l_whence = SEEK_SET, .l_start = (off_t)lk->start};
	if (lk->end != INT64_MAX) /* which is the end of any file */
		ret->l_len = (off_t)(lk->end - lk->start + 1);
	return true;
}

static int set_lock(struct fs *fs, struct fs_request *rq)
{
	const struct fuse_lk_in *in = rq->args;
	struct flock lock;
	int r = 0, fd;

	if (!fs->share.locks)
		return -ENOSYS;
	if (!to_host(in, &lock))
		return -EINVAL;
	if (in->lk_flags & FUSE_LK_FLOCK)
		return set_flock(fs, rq, in);
	if (!handle_of(fs, rq->node, in->owner)) {
		if (lock.l_type == F_UNLCK)
			return 0;
		r = make_owner(fs, rq->node, in);
	}
	if (r < 0)
		return r;
	fd = fs_handle(fs, rq, handle_of(fs, rq->node, in->owner), false);
	if (fd < 0)
		return fd;
	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

FS_REQUEST(setlk)
{
	return set_lock(fs, rq);
}

FS_REQUEST(setlkw)
{
	int r = set_lock(fs, rq);

	if (r != -EAGAIN)
		return r;
	return rq->worker->num_waiting < FS_MAX_WAITING ? FS_WAITS : -ENOLCK;
}

FS_REQUEST(getlk)
{
	const struct fuse_lk_in *in = rq->args;
	struct fuse_lk_out *out = rq->out;
	struct flock lock;
	uint64_t fh;
	int fd;

	if (!fs->share.locks)
		return -ENOSYS;
	if (!to_host(in, &lock) || lock.l_type == F_UNLCK)
		return -EINVAL;
	fh = handle_of(fs, rq->node, in->owner);
	fd = fs_handle(fs, rq, fh ? fh : in->fh, false);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	out->lk = (struct fuse_file_lock){
		.type = (uint32_t)lock.l_type,
		.start = (uint64_t)lock.l_start,
		.end = lock.l_len ? (uint64_t)(lock.l_start + lock.l_len - 1) : INT64_MAX};
	return sizeof(*out);
}
