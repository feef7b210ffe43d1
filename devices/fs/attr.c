// SPDX-License-Identifier: BSD-2-Clause
/* Requests about attributes, the file system's too. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "device.h"

static ssize_t reply_attr(const struct fs *fs, struct fs_request *rq)
{
	struct fuse_attr_out *out = rq->out;
	struct statx st;
	int r = fs_stat(rq->node->fd, &st);

	if (r < 0)
		return r;
	out->attr_valid = fs_validity(fs);
	fs_fill_attr(&st, &out->attr);
	return sizeof(*out);
}

FS_REQUEST(getattr)
{
	return reply_attr(fs, rq);
}

static int set_owner(const struct fs_node *node, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno
											 : 0;
}

static int set_mode(const struct fs_node *node, const struct fuse_setattr_in *in)
{
	if (node->type == S_IFLNK)
		return -EOPNOTSUPP;
	return chmod(fs_path(node->fd).text, in->mode & 07777) < 0 ? -errno : 0;
}

static int set_size(struct fs *fs, struct fs_request *rq, const struct fuse_setattr_in *in)
{
	const struct fs_node *node = rq->node;
	int fd = in->valid & FATTR_FH ? fs_handle(fs, rq, in->fh, false) : -1, r;
	bool own = fd < 0;

	if (node->type != S_IFREG)
		return -EINVAL;
	if (own)
		fd = fs_open(node, O_WRONLY);
	if (fd < 0)
		return fd;
	fs_kill_suid(fs, in->valid & FATTR_KILL_SUIDGID);
	r = ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
	fs_kill_suid(fs, false);
	if (own)
		close(fd);
	return r;
}

static struct timespec new_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t s, uint32_t ns)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = MIN(ns, 999999999u)};
}

static int set_times(const struct fs_node *node, const struct fuse_setattr_in *in)
{
	const struct timespec times[2] = {
		new_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		new_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	/* AT_EMPTY_PATH is of Linux 5.8. */
	return utimensat(node->fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* A new owner takes set-user-ID away, so the mode comes after. A chown() to nobody new still counts as a
 * change. */
FS_REQUEST(setattr)
{
	const struct fuse_setattr_in *in = rq->args;
	int r = 0;

	if (in->valid & (FATTR_UID | FATTR_GID) ||
	    !(in->valid & (FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME)))
		r = set_owner(rq->node, in);
	if (r == 0 && in->valid & FATTR_MODE)
		r = set_mode(rq->node, in);
	if (r == 0 && in->valid & FATTR_SIZE)
		r = set_size(fs, rq, in);
	if (r == 0 && in->valid & (FATTR_ATIME | FATTR_MTIME))
		r = set_times(rq->node, in);
	return r < 0 ? r : reply_attr(fs, rq);
}

FS_REQUEST(statfs)
{
	struct fuse_kstatfs *out = rq->out;
	struct statfs st;

	(void)fs;
	if (fstatfs(rq->node->fd, &st) < 0)
		return -errno;
	*out = (struct fuse_kstatfs){
		.blocks = st.f_blocks,
		.bfree = st.f_bfree,
		.bavail = st.f_bavail,
		.files = st.f_files,
		.ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namelen,
		.frsize = (uint32_t)st.f_frsize,
	};
	return sizeof(*out);
}

/* Attributes that are the guest's to see and set: not the host's labels. */
static bool is_for_guest(const struct fs *fs, const char *name)
{
	if (strcmp(name, "system.posix_acl_access") == 0 ||
	    strcmp(name, "system.posix_acl_default") == 0)
		return fs->share.acl;
	return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

/* Its answer has `n` bytes, if the guest has room for as many. */
static ssize_t reply_sized(const struct fs_request *rq, uint32_t size, size_t n)
{
	struct fuse_getxattr_out *out = rq->out;

	if (size == 0) {
		*out = (struct fuse_getxattr_out){.size = (uint32_t)n};
		return sizeof(*out);
	}
	return n > size || n > rq->room ? -ERANGE : (ssize_t)n;
}

FS_REQUEST(getxattr)
{
	const struct fuse_getxattr_in *in = rq->args;
	size_t at = sizeof(*in);
	const char *name;
	int r = fs_take_text(rq, &at, &name);
	ssize_t n;

	if (r < 0)
		return r;
	if (!is_for_guest(fs, name))
		return -EOPNOTSUPP;
	n = getxattr(fs_path(rq->node->fd).text, name, rq->out, FS_MAX_REPLY);
	return n < 0 ? -errno : reply_sized(rq, in->size, (size_t)n);
}

FS_REQUEST(listxattr)
{
	const struct fuse_getxattr_in *in = rq->args;
	ssize_t n = listxattr(fs_path(rq->node->fd).text, rq->out, FS_MAX_REPLY);
	char *list = rq->out;
	size_t kept = 0, len;

	if (n < 0)
		return -errno;
	for (size_t at = 0; at < (size_t)n; at += len) {
		len = strnlen(list + at, (size_t)n - at) + 1;
		if (at + len > (size_t)n || !is_for_guest(fs, list + at))
			continue;
		memmove(list + kept, list + at, len);
		kept += len;
	}
	return reply_sized(rq, in->size, kept);
}

FS_REQUEST(setxattr)
{
	const struct fuse_setxattr_in *in = rq->args; /* its second half only where agreed */
	size_t at = fs->long_setxattr ? sizeof(*in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	const char *name, *value = rq->args;
	int r = rq->len < at ? -EINVAL : fs_take_text(rq, &at, &name);

	if (r < 0)
		return r;
	if (in->size != rq->len - at)
		return -EINVAL;
	if (!is_for_guest(fs, name))
		return -EOPNOTSUPP;
	/* A list by who is not in the file's group takes its set-group-ID bit away. */
	if (fs->long_setxattr && in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		r = fs_act_as_user(fs, rq->header);
	if (r == 0 &&
	    setxattr(fs_path(rq->node->fd).text, name, value + at, in->size, (int)in->flags) < 0)
		r = -errno;
	fs_act_as_self(fs);
	return r;
}

FS_REQUEST(removexattr)
{
	const char *name;
	size_t at = 0;
	int r = fs_take_text(rq, &at, &name);

	if (r < 0)
		return r;
	if (!is_for_guest(fs, name))
		return -EOPNOTSUPP;
	return removexattr(fs_path(rq->node->fd).text, name) < 0 ? -errno : 0;
}
