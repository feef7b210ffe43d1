// SPDX-License-Identifier: BSD-2-Clause
/* Requests about open directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "device.h"

FS_REQUEST(opendir)
{
	struct fuse_open_out *out = rq->out;
	int fd = fs_open(rq->node, O_RDONLY | O_DIRECTORY);
	int64_t fh = fd < 0 ? fd : fs_add_handle(fs, fd, true);

	if (fh < 0)
		return fh;
	*out = (struct fuse_open_out){.fh = (uint64_t)fh};
	if (fs->share.cache == FS_CACHE_ALWAYS)
		out->open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
	return sizeof(*out);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A node goes with each entry, unless there is no place for it or it has just gone: the guest looks
 * such names up when it needs them. */
static void fill_entry(struct fs *fs, const struct fs_request *rq, int fd,
		       const struct dirent64 *from, struct fuse_entry_out *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (is_dots(from->d_name) || fs_is_nearly_full(fs) ||
	    fs_look_up(fs, fd, rq->node, from->d_name, ret) < 0)
		ret->attr = (struct fuse_attr){
			.ino = from->d_ino,
			.mode = (uint32_t)DTTOIF(from->d_type),
		};
}

/* Adds entries to the reply while there is room; the bytes of it. */
static ssize_t fill(struct fs *fs, const struct fs_request *rq, int fd, size_t room, size_t num,
		    bool plus)
{
	size_t before = plus ? sizeof(struct fuse_entry_out) : 0, used = 0;

	for (size_t at = 0; at < num;) {
		const struct dirent64 *from = (const void *)(rq->worker->entries + at);
		size_t len = strlen(from->d_name);
		size_t size = before + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len);
		struct fuse_dirent *to = (void *)((uint8_t *)rq->out + used + before);

		if (used + size > room)
			return used ? (ssize_t)used : -EINVAL;
		if (plus)
			fill_entry(fs, rq, fd, from, (void *)((uint8_t *)rq->out + used));
		memset(to, 0, size - before);
		*to = (struct fuse_dirent){
			.ino = from->d_ino,
			.off = (uint64_t)from->d_off,
			.namelen = (uint32_t)len,
			.type = from->d_type,
		};
		memcpy(to->name, from->d_name, len);
		used += size;
		at += from->d_reclen;
	}
	return (ssize_t)used;
}

static ssize_t read_entries(struct fs *fs, struct fs_request *rq, bool plus)
{
	const struct fuse_read_in *in = rq->args;
	size_t room = MIN(MIN(in->size, rq->room), FS_MAX_REPLY);
	int fd = fs_handle(fs, rq, in->fh, true);
	ssize_t n;

	if (fd < 0)
		return fd;
	if (lseek(fd, (off_t)in->offset, SEEK_SET) < 0)
		return -errno;
	n = getdents64(fd, rq->worker->entries, MIN(room, sizeof(rq->worker->entries)));
	return n < 0 ? -errno : fill(fs, rq, fd, room, (size_t)n, plus);
}

FS_REQUEST(readdir)
{
	return read_entries(fs, rq, false);
}

FS_REQUEST(readdirplus)
{
	return read_entries(fs, rq, true);
}

FS_REQUEST(releasedir)
{
	const struct fuse_release_in *in = rq->args;

	fs_close_handle(fs, in->fh, true);
	return 0;
}

FS_REQUEST(fsyncdir)
{
	const struct fuse_fsync_in *in = rq->args;
	int fd = fs_handle(fs, rq, in->fh, true);

	return fd < 0 ? fd : fsync(fd) < 0 ? -errno : 0;
}

/* Of a whole file system, which others of the host may use as well. */
FS_REQUEST(syncfs)
{
	int fd = fs_open(rq->node, O_RDONLY | O_DIRECTORY), r;

	(void)fs;
	if (fd < 0)
		return fd;
	r = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}
