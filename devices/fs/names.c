// SPDX-License-Identifier: BSD-2-Clause
/* Requests about names in a directory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "device.h"

int fs_take_text(const struct fs_request *rq, size_t *at, const char **ret)
{
	const char *text = (const char *)rq->args + *at;
	size_t len = strnlen(text, rq->len - *at);

	if (len == rq->len - *at)
		return -EINVAL;
	*ret = text;
	*at += len + 1;
	return 0;
}

int fs_take_name(const struct fs_request *rq, size_t *at, const char **ret)
{
	int r = fs_take_text(rq, at, ret);

	if (r < 0)
		return r;
	if (strlen(*ret) > NAME_MAX)
		return -ENAMETOOLONG;
	if (!**ret || strchr(*ret, '/') || strcmp(*ret, ".") == 0 || strcmp(*ret, "..") == 0)
		return -EINVAL;
	return 0;
}

FS_REQUEST(lookup)
{
	struct fuse_entry_out *out = rq->out;
	const char *name;
	size_t at = 0;
	int r = fs_take_name(rq, &at, &name);

	if (r == 0)
		r = fs_look_up(fs, rq->node->fd, rq->node, name, out);
	if (r == -ENOENT && fs->share.cache == FS_CACHE_ALWAYS) {
		out->entry_valid =
			fs_validity(fs); /* node 0: so long nothing of that name is there */
		r = 0;
	}
	return r < 0 ? r : (ssize_t)sizeof(*out);
}

FS_REQUEST(readlink)
{
	ssize_t n = readlinkat(rq->node->fd, "", rq->out, MIN(rq->room, FS_MAX_REPLY));

	(void)fs;
	return n < 0 ? -errno : n;
}

/* What a new name is of. */
struct maker {
	const char *name, *target;
	mode_t mode;
	dev_t rdev;
};

/* The mode of what is new in the directory: where there are access control lists a default one takes the
 * place of the umask. */
static mode_t new_mode(const struct fs *fs, const struct fs_node *dir, mode_t mode, uint32_t mask)
{
	if (!fs->masks || getxattr(fs_path(dir->fd).text, "system.posix_acl_default", NULL, 0) > 0)
		return mode;
	return mode & ~(mask & 0777);
}

static int make(int dir, const struct maker *m)
{
	if (m->target)
		return symlinkat(m->target, dir, m->name);
	return S_ISDIR(m->mode) ? mkdirat(dir, m->name, m->mode & 07777)
				: mknodat(dir, m->name, m->mode, m->rdev);
}

/* Makes it as the guest's user, and looks it up. */
static ssize_t make_entry(struct fs *fs, struct fs_request *rq, const struct maker *m)
{
	int r = fs_act_as_user(fs, rq->header);

	if (r < 0)
		return r;
	r = make(rq->node->fd, m) < 0 ? -errno : 0;
	fs_act_as_self(fs);
	if (r == 0)
		r = fs_look_up(fs, rq->node->fd, rq->node, m->name, rq->out);
	return r < 0 ? r : (ssize_t)sizeof(struct fuse_entry_out);
}

FS_REQUEST(symlink)
{
	struct maker m = {.target = NULL};
	size_t at = 0;
	int r = fs_take_name(rq, &at, &m.name);

	if (r == 0)
		r = fs_take_text(rq, &at, &m.target);
	return r < 0 ? r : make_entry(fs, rq, &m);
}

/* Sockets and pipes are names for the guest's own; but a device would be the host's. */
FS_REQUEST(mknod)
{
	const struct fuse_mknod_in *in = rq->args;
	struct maker m = {.mode = new_mode(fs, rq->node, in->mode, in->umask)};
	size_t at = sizeof(*in);
	int r = fs_take_name(rq, &at, &m.name);
	bool whiteout = S_ISCHR(in->mode) && in->rdev == 0; /* an overlay's mark */

	if (r < 0)
		return r;
	if (S_ISBLK(in->mode) || (S_ISCHR(in->mode) && !whiteout))
		return -EPERM;
	if (S_ISDIR(in->mode))
		return -EINVAL;
	return make_entry(fs, rq, &m);
}

FS_REQUEST(mkdir)
{
	const struct fuse_mkdir_in *in = rq->args;
	mode_t mode = (in->mode & 07777) | S_IFDIR;
	struct maker m = {.mode = new_mode(fs, rq->node, mode, in->umask)};
	size_t at = sizeof(*in);
	int r = fs_take_name(rq, &at, &m.name);

	return r < 0 ? r : make_entry(fs, rq, &m);
}

static ssize_t unlink_name(const struct fs_request *rq, int flags)
{
	const char *name;
	size_t at = 0;
	int r = fs_take_name(rq, &at, &name);

	return r < 0 || unlinkat(rq->node->fd, name, flags) == 0 ? r : -errno;
}

FS_REQUEST(unlink)
{
	(void)fs;
	return unlink_name(rq, 0);
}

FS_REQUEST(rmdir)
{
	(void)fs;
	return unlink_name(rq, AT_REMOVEDIR);
}

static ssize_t rename_to(struct fs *fs, struct fs_request *rq, uint64_t dir, uint32_t flags,
			 size_t at)
{
	const struct fs_node *to = fs_node(fs, rq, dir);
	const char *old, *new;
	int r = fs_take_name(rq, &at, &old);

	if (r == 0)
		r = fs_take_name(rq, &at, &new);
	if (r < 0)
		return r;
	if (!to)
		return -ESTALE;
	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	return renameat2(rq->node->fd, old, to->fd, new, flags) < 0 ? -errno : 0;
}

FS_REQUEST(rename)
{
	const struct fuse_rename_in *in = rq->args;

	return rename_to(fs, rq, in->newdir, 0, sizeof(*in));
}

FS_REQUEST(rename2)
{
	const struct fuse_rename2_in *in = rq->args;

	return rename_to(fs, rq, in->newdir, in->flags, sizeof(*in));
}

FS_REQUEST(link)
{
	const struct fuse_link_in *in = rq->args;
	const struct fs_node *old = fs_node(fs, rq, in->oldnodeid);
	struct fs_path path = fs_path(old ? old->fd : -1);
	size_t at = sizeof(*in);
	const char *name;
	int r = fs_take_name(rq, &at, &name);

	if (r < 0)
		return r;
	if (!old)
		return -ESTALE;
	if (linkat(AT_FDCWD, path.text, rq->node->fd, name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	r = fs_look_up(fs, rq->node->fd, rq->node, name, rq->out);
	return r < 0 ? r : (ssize_t)sizeof(struct fuse_entry_out);
}

/* Makes and opens the file, which is not there; *entry is what it is then. */
static int create_new(struct fs *fs, const struct fs_request *rq, const char *name, int flags,
		      struct fuse_entry_out *entry)
{
	const struct fuse_create_in *in = rq->args;
	mode_t mode = new_mode(fs, rq->node, in->mode & 07777, in->umask);
	int r = fs_act_as_user(fs, rq->header), fd, again;

	if (r < 0)
		return r;
	fd = openat(rq->node->fd, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	r = -errno;
	fs_act_as_self(fs);
	if (fd < 0)
		return r;
	again = open(fs_path(fd).text, O_PATH | O_CLOEXEC);
	r = again < 0 ? -errno : fs_enter(fs, again, rq->node, entry);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* One that was made meanwhile, by somebody else. */
static int open_found(struct fs *fs, struct fs_request *rq, const char *name, int flags,
		      struct fuse_entry_out *entry)
{
	int r = fs_look_up(fs, rq->node->fd, rq->node, name, entry), fd;
	const struct fs_node *node;

	if (r < 0)
		return r;
	node = fs_node(fs, rq, entry->nodeid);
	fd = node ? fs_open(node, flags) : -ESTALE;
	if (fd < 0)
		fs_forget(fs, entry->nodeid, 1);
	return fd;
}

FS_REQUEST(create)
{
	const struct fuse_create_in *in = rq->args;
	struct fuse_entry_out *entry = rq->out;
	struct fuse_open_out *opened = (void *)(entry + 1);
	size_t at = sizeof(*in);
	int flags = fs_open_flags(fs, in->flags), fd, r;
	const char *name;

	r = flags < 0 ? flags : fs_take_name(rq, &at, &name);
	if (r < 0)
		return r;
	fd = create_new(fs, rq, name, flags, entry);
	if (fd == -EEXIST && !(in->flags & O_EXCL))
		fd = open_found(fs, rq, name, flags, entry);
	if (fd < 0)
		return fd;
	r = fs_opened(fs, fs_node(fs, rq, entry->nodeid), fd, opened);
	if (r < 0)
		fs_forget(fs, entry->nodeid, 1);
	return r < 0 ? r : (ssize_t)(sizeof(*entry) + sizeof(*opened));
}
