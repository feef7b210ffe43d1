// SPDX-License-Identifier: BSD-2-Clause
/* What the guest knows: inodes that it looked up, and files that it has open. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "device.h"

#define ATTR_MASK (STATX_BASIC_STATS | STATX_MNT_ID)

static uint32_t *bucket(struct fs *fs, uint64_t dev, uint64_t ino, uint64_t mount)
{
	uint64_t hash = (ino ^ dev << 32 ^ mount << 48) * 0x9e3779b97f4a7c15u;

	return &fs->buckets[hash >> 32 & fs->bucket_mask];
}

static void set_root(struct fs *fs, const struct statx *st)
{
	fs->nodes[FUSE_ROOT_ID] = (struct fs_node){
		.lookups = 1,
		.dev = makedev(st->stx_dev_major, st->stx_dev_minor),
		.ino = st->stx_ino,
		.mount = st->stx_mnt_id,
		.fd = fs->share.root,
		.type = S_IFDIR,
	};
	fs->high_node = FUSE_ROOT_ID;
	fs->num_nodes = 1;
}

int fs_inodes_init(struct fs *fs, struct error *e)
{
	struct statx st;
	int r = fs_stat(fs->share.root, &st);

	if (r < 0)
		return error_set(e, r, "cannot look at the directory: %m");
	fs->max_nodes = fs->share.max_files;
	fs->max_handles = MIN(fs->share.max_files, FS_MAX_HANDLE);
	fs->bucket_mask = 1;
	while (fs->bucket_mask < fs->max_nodes)
		fs->bucket_mask = fs->bucket_mask << 1 | 1;
	fs->nodes = calloc((size_t)fs->max_nodes + 2, sizeof(*fs->nodes));
	fs->handles = calloc((size_t)fs->max_handles + 1, sizeof(*fs->handles));
	fs->buckets = calloc((size_t)fs->bucket_mask + 1, sizeof(*fs->buckets));
	if (!fs->nodes || !fs->handles || !fs->buckets)
		return error_set(e, -ENOMEM, "out of memory for %u files", fs->max_nodes);
	set_root(fs, &st);
	/* A path from elsewhere leads to the same place: it is found. */
	*bucket(fs, fs->nodes[1].dev, fs->nodes[1].ino, fs->nodes[1].mount) = FUSE_ROOT_ID;
	return 0;
}

void fs_inodes_free(struct fs *fs)
{
	free(fs->nodes);
	free(fs->handles);
	free(fs->buckets);
}

static struct fs_node *known(struct fs *fs, uint64_t id)
{
	return id && id <= fs->high_node && fs->nodes[id].lookups ? &fs->nodes[id] : NULL;
}

struct fs_node *fs_node(struct fs *fs, struct fs_request *rq, uint64_t id)
{
	struct fs_node *node;

	pthread_mutex_lock(&fs->lock);
	node = known(fs, id);
	if (node) {
		assert(rq->num_nodes < ARRAY_SIZE(rq->nodes));
		rq->nodes[rq->num_nodes++] = node;
		node->holders++;
	}
	pthread_mutex_unlock(&fs->lock);
	return node;
}

/* Frees the place of a node that nobody knows or holds; its descriptor, to be closed without the lock,
 * or -1. */
static int drop(struct fs *fs, struct fs_node *node)
{
	uint32_t id = (uint32_t)(node - fs->nodes);
	uint32_t *at = bucket(fs, node->dev, node->ino, node->mount);
	int fd = node->fd;

	if (node->lookups || node->holders)
		return -1;
	while (*at != id)
		at = &fs->nodes[*at].next;
	*at = node->next;
	*node = (struct fs_node){.fd = -1, .next = fs->free_node};
	fs->free_node = id;
	fs->num_nodes--;
	return fd;
}

static void close_dropped(int fd)
{
	if (fd >= 0)
		close(fd);
}

void fs_forget(struct fs *fs, uint64_t id, uint64_t lookups)
{
	struct fs_node *node;
	int fd = -1;

	pthread_mutex_lock(&fs->lock);
	node = id == FUSE_ROOT_ID ? NULL : known(fs, id);
	if (node) {
		node->lookups -= MIN(lookups, node->lookups);
		fd = drop(fs, node);
	}
	pthread_mutex_unlock(&fs->lock);
	close_dropped(fd);
}

void fs_forget_all(struct fs *fs)
{
	fs->mounted = fs->writeback = fs->submounts = fs->masks = fs->long_setxattr = false;
	for (uint32_t id = FUSE_ROOT_ID + 1; id <= fs->high_node; id++)
		fs_forget(fs, id, UINT64_MAX);
	for (uint32_t i = 1; i <= fs->high_handle; i++) {
		fs_close_handle(fs, i, false);
		fs_close_handle(fs, i, true);
	}
}

static int64_t num_files(const struct fs *fs)
{
	return fs->num_nodes + fs->num_handles;
}

bool fs_is_nearly_full(const struct fs *fs)
{
	return num_files(fs) > fs->max_nodes / 4 * 3;
}

static int too_many(const struct fs *fs)
{
	log_guest("share %s: the guest has %lld files open or looked up, and can have no more: "
		  "raise the limit of descriptors (ulimit -Hn, or LimitNOFILE= of a systemd unit)",
		  fs->share.tag, (long long)num_files(fs));
	return -ENFILE;
}

static bool is_full(const struct fs *fs)
{
	return num_files(fs) >= fs->max_nodes;
}

int fs_stat(int fd, struct statx *ret)
{
	*ret = (struct statx){.stx_mask = 0};
	return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, ATTR_MASK,
		     ret) < 0
		       ? -errno
		       : 0;
}

void fs_fill_attr(const struct statx *st, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		/* The kernel's encoding of 32 bits. */
		.rdev = (st->stx_rdev_minor & 0xff) | st->stx_rdev_major << 8 |
			(st->stx_rdev_minor & ~0xffu) << 12,
		.blksize = st->stx_blksize,
	};
}

uint64_t fs_validity(const struct fs *fs)
{
	static const uint64_t seconds[] = {
		[FS_CACHE_AUTO] = 1, [FS_CACHE_ALWAYS] = 86400, [FS_CACHE_NEVER] = 0};

	return seconds[fs->share.cache];
}

static struct fs_node *find(struct fs *fs, const struct fs_node *like)
{
	uint32_t id = *bucket(fs, like->dev, like->ino, like->mount);

	for (; id; id = fs->nodes[id].next) {
		struct fs_node *node = &fs->nodes[id];

		if (node->ino == like->ino && node->dev == like->dev && node->mount == like->mount)
			return node;
	}
	return NULL;
}

/* Takes over like->fd. */
static struct fs_node *add(struct fs *fs, const struct fs_node *like)
{
	uint32_t *head = bucket(fs, like->dev, like->ino, like->mount);
	uint32_t id = fs->free_node;
	struct fs_node *node;

	if (id)
		fs->free_node = fs->nodes[id].next;
	else
		id = ++fs->high_node;
	node = &fs->nodes[id];
	*node = *like;
	node->next = *head;
	*head = id;
	fs->num_nodes++;
	return node;
}

/* Whether it is of a file system that is the host's kernel: settings and secrets, and no files. */
static bool is_kernels(int fd)
{
	static const uint32_t kinds[] = {
		PROC_SUPER_MAGIC,   SYSFS_MAGIC,
		DEBUGFS_MAGIC,	    TRACEFS_MAGIC,
		SECURITYFS_MAGIC,   BPF_FS_MAGIC,
		CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
		SELINUX_MAGIC,	    SMACK_MAGIC,
		EFIVARFS_MAGIC,	    PSTOREFS_MAGIC,
		BINFMTFS_MAGIC,	    0x62656570 /* configfs */,
	};
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if ((uint32_t)st.f_type == kinds[i])
			return true;
	return false;
}

static bool is_hidden(const struct fs *fs, const struct fs_node *node)
{
	for (size_t i = 0; i < fs->share.num_hidden; i++)
		if (fs->share.hidden[i].dev == node->dev && fs->share.hidden[i].ino == node->ino)
			return true;
	return false;
}

/* Counts a lookup of what is like that; takes over like->fd. NULL: there are too many. */
static struct fs_node *count(struct fs *fs, const struct fs_node *like)
{
	struct fs_node *node;
	bool is_new;

	pthread_mutex_lock(&fs->lock);
	node = find(fs, like);
	is_new = !node && !is_full(fs);
	if (is_new)
		node = add(fs, like);
	if (node)
		node->lookups++;
	pthread_mutex_unlock(&fs->lock);
	if (!is_new)
		close(like->fd);
	return node;
}

int fs_enter(struct fs *fs, int fd, const struct fs_node *parent, struct fuse_entry_out *ret)
{
	struct fs_node like = {.fd = fd}, *node;
	struct statx st;
	int r = fs_stat(fd, &st);

	if (r < 0) {
		close(fd);
		return r;
	}
	like.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	like.ino = st.stx_ino;
	like.mount = st.stx_mnt_id;
	like.type = st.stx_mode & S_IFMT;
	like.closed = (like.mount != parent->mount || like.dev != parent->dev) && is_kernels(fd);
	if (is_hidden(fs, &like)) {
		close(fd);
		return -ENOENT;
	}
	node = count(fs, &like);
	if (!node)
		return too_many(fs);
	*ret = (struct fuse_entry_out){
		.nodeid = (uint64_t)(node - fs->nodes),
		.entry_valid = fs_validity(fs),
		.attr_valid = fs_validity(fs),
	};
	fs_fill_attr(&st, &ret->attr);
	if (fs->submounts && S_ISDIR(like.type) && !like.closed && like.mount != parent->mount)
		ret->attr.flags |= FUSE_ATTR_SUBMOUNT;
	return 0;
}

int fs_look_up(struct fs *fs, int dir, const struct fs_node *parent, const char *name,
	       struct fuse_entry_out *ret)
{
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == EMFILE ? too_many(fs) : -errno;
	return fs_enter(fs, fd, parent, ret);
}

/* Handles */

int64_t fs_add_handle(struct fs *fs, int fd, bool is_dir)
{
	uint32_t i = 0;

	pthread_mutex_lock(&fs->lock);
	if (!is_full(fs) && fs->num_handles < fs->max_handles) {
		i = fs->free_handle;
		if (i)
			fs->free_handle = fs->handles[i].next;
		else
			i = ++fs->high_handle;
		fs->handles[i] = (struct fs_handle){.fd = fd, .is_open = true, .is_dir = is_dir};
		fs->num_handles++;
	}
	pthread_mutex_unlock(&fs->lock);
	if (i)
		return i;
	close(fd);
	return too_many(fs);
}

static struct fs_handle *opened(struct fs *fs, uint64_t fh, bool is_dir)
{
	struct fs_handle *handle = fh && fh <= fs->high_handle ? &fs->handles[fh] : NULL;

	return handle && handle->is_open && handle->is_dir == is_dir ? handle : NULL;
}

int fs_handle(struct fs *fs, struct fs_request *rq, uint64_t fh, bool is_dir)
{
	struct fs_handle *handle;
	int fd = -EBADF;

	pthread_mutex_lock(&fs->lock);
	handle = opened(fs, fh, is_dir);
	if (handle) {
		assert(rq->num_handles < ARRAY_SIZE(rq->handles));
		rq->handles[rq->num_handles++] = handle;
		handle->holders++;
		fd = handle->fd;
	}
	pthread_mutex_unlock(&fs->lock);
	return fd;
}

/* As drop(). */
static int drop_handle(struct fs *fs, struct fs_handle *handle)
{
	int fd = handle->fd;

	if (handle->is_open || handle->holders)
		return -1;
	*handle = (struct fs_handle){.fd = -1, .next = fs->free_handle};
	fs->free_handle = (uint32_t)(handle - fs->handles);
	fs->num_handles--;
	return fd;
}

void fs_close_handle(struct fs *fs, uint64_t fh, bool is_dir)
{
	struct fs_handle *handle;
	int fd = -1;

	pthread_mutex_lock(&fs->lock);
	handle = opened(fs, fh, is_dir);
	if (handle) {
		handle->is_open = false;
		fd = drop_handle(fs, handle);
	}
	pthread_mutex_unlock(&fs->lock);
	close_dropped(fd);
}

void fs_let_go(struct fs *fs, struct fs_request *rq)
{
	int fd[ARRAY_SIZE(rq->nodes) + ARRAY_SIZE(rq->handles)];
	unsigned n = 0;

	pthread_mutex_lock(&fs->lock);
	for (unsigned i = 0; i < rq->num_nodes; i++) {
		rq->nodes[i]->holders--;
		fd[n++] = drop(fs, rq->nodes[i]);
	}
	for (unsigned i = 0; i < rq->num_handles; i++) {
		rq->handles[i]->holders--;
		fd[n++] = drop_handle(fs, rq->handles[i]);
	}
	pthread_mutex_unlock(&fs->lock);
	while (n)
		close_dropped(fd[--n]);
}

struct fs_path fs_path(int fd)
{
	struct fs_path ret;

	snprintf(ret.text, sizeof(ret.text), "/proc/self/fd/%d", fd);
	return ret;
}

int fs_open(const struct fs_node *node, int flags)
{
	struct fs_path path = fs_path(node->fd);
	int fd;

	if (node->closed)
		return -EACCES;
	/* A device, a pipe or a socket is the guest's own, by its numbers or name. */
	if (!S_ISREG(node->type) && !S_ISDIR(node->type))
		return node->type == S_IFLNK ? -ELOOP : -ENXIO;
	fd = open(path.text, flags | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}
