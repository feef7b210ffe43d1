// SPDX-License-Identifier: BSD-2-Clause
/* Requests about open files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "device.h"

#define MAX_COPY (16 * MIB) /* of one request, which keeps others waiting */

/* The part of `n` buffers that begins at `offset`, and has `len` bytes; how many these are. */
static int slice(struct iovec *ret, const struct iovec *iov, unsigned n, size_t offset, size_t len)
{
	unsigned num = 0;

	for (unsigned i = 0; i < n && len; i++) {
		size_t skip = MIN(offset, iov[i].iov_len), take = MIN(len, iov[i].iov_len - skip);

		offset -= skip;
		len -= take;
		if (take)
			ret[num++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, take};
	}
	return (int)num;
}

int fs_open_flags(const struct fs *fs, uint32_t flags)
{
	int access = flags & O_ACCMODE;
	/* Others append as well, unless the guest is alone. Its O_DIRECT is about its own cache. */
	int more = O_TRUNC | O_SYNC | O_DSYNC | (fs->writeback ? 0 : O_APPEND);

	if (access == O_ACCMODE)
		return -EINVAL;
	if (fs->share.readonly && (access != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	if (fs->writeback && access == O_WRONLY)
		access = O_RDWR; /* a page is read before a part of it is written */
	return access | ((int)flags & more);
}

/* Whether a file that is being opened is as it was the last time. A change in the same tick of the clock
 * would go unnoticed, so a file must have been at rest. */
static bool is_unchanged(struct fs *fs, struct fs_node *node, int fd)
{
	int64_t now = (int64_t)(clock_ns(CLOCK_REALTIME) / NSEC_PER_SEC);
	struct statx st;
	bool same;

	if (fs_stat(fd, &st) < 0)
		return false;
	pthread_mutex_lock(&fs->lock);
	same = st.stx_ctime.tv_sec == node->seen_s && st.stx_ctime.tv_nsec == node->seen_ns;
	node->seen_s = st.stx_ctime.tv_sec + 1 < now ? st.stx_ctime.tv_sec : 0;
	node->seen_ns = st.stx_ctime.tv_nsec;
	pthread_mutex_unlock(&fs->lock);
	return same;
}

int fs_opened(struct fs *fs, struct fs_node *node, int fd, struct fuse_open_out *ret)
{
	bool keep = fs->share.cache == FS_CACHE_ALWAYS ||
		    (fs->share.cache == FS_CACHE_AUTO && node && is_unchanged(fs, node, fd));
	int64_t fh = fs_add_handle(fs, fd, false);

	if (fh < 0)
		return (int)fh;
	*ret = (struct fuse_open_out){
		.fh = (uint64_t)fh,
		.open_flags = keep				  ? FOPEN_KEEP_CACHE
			      : fs->share.cache == FS_CACHE_NEVER ? FOPEN_DIRECT_IO
								  : 0,
	};
	return 0;
}

FS_REQUEST(open_file)
{
	const struct fuse_open_in *in = rq->args;
	int flags = fs_open_flags(fs, in->flags), fd, r;

	if (flags < 0)
		return flags;
	if (S_ISDIR(rq->node->type))
		return -EISDIR;
	fs_kill_suid(fs, in->open_flags & FUSE_OPEN_KILL_SUIDGID);
	fd = fs_open(rq->node, flags);
	fs_kill_suid(fs, false);
	r = fd < 0 ? fd : fs_opened(fs, rq->node, fd, rq->out);
	return r < 0 ? r : (ssize_t)sizeof(struct fuse_open_out);
}

FS_REQUEST(read)
{
	const struct fuse_read_in *in = rq->args;
	const struct virtq_chain *chain = rq->chain;
	int fd = fs_handle(fs, rq, in->fh, false), num;
	ssize_t n;

	if (fd < 0)
		return fd;
	num = slice(rq->worker->data, chain->iov + chain->num_out, chain->num_in,
		    sizeof(struct fuse_out_header), MIN(MIN(in->size, rq->room), FS_MAX_DATA));
	n = preadv(fd, rq->worker->data, num, (off_t)in->offset);
	if (n < 0)
		return -errno;
	fs->read_bytes += n;
	rq->out = NULL; /* it is where it belongs */
	return n;
}

FS_REQUEST(write)
{
	const struct fuse_write_in *in = rq->args;
	const struct virtq_chain *chain = rq->chain;
	size_t before = sizeof(*rq->header) + sizeof(*in);
	int fd = fs_handle(fs, rq, in->fh, false), num;
	struct fuse_write_out *out = rq->out;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (in->size != chain->out_bytes - before || in->size > FS_MAX_DATA)
		return -EINVAL;
	num = slice(rq->worker->data, chain->iov, chain->num_out, before, in->size);
	fs_kill_suid(fs, in->write_flags & FUSE_WRITE_KILL_SUIDGID);
	n = pwritev(fd, rq->worker->data, num, (off_t)in->offset);
	fs_kill_suid(fs, false);
	if (n < 0)
		return -errno;
	fs->written_bytes += n;
	out->size = (uint32_t)n;
	return sizeof(*out);
}

FS_REQUEST(release)
{
	const struct fuse_release_in *in = rq->args;

	if (fs->share.locks && in->fh)
		fs_unlock_file(fs, in->fh);
	fs_close_handle(fs, in->fh, false);
	return 0;
}

/* Somebody closes the file: some file systems tell only then of errors. */
FS_REQUEST(flush)
{
	const struct fuse_flush_in *in = rq->args;
	int fd = fs_handle(fs, rq, in->fh, false);

	if (fs->share.locks && rq->node)
		fs_unlock_owner(fs, rq->node, in->lock_owner);
	if (fd < 0)
		return fd;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 || close(fd) < 0 ? -errno : 0;
}

FS_REQUEST(fsync)
{
	const struct fuse_fsync_in *in = rq->args;
	int fd = fs_handle(fs, rq, in->fh, false);

	if (fd < 0)
		return fd;
	return (in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd)) < 0 ? -errno
											: 0;
}

FS_REQUEST(fallocate)
{
	const struct fuse_fallocate_in *in = rq->args;
	int fd = fs_handle(fs, rq, in->fh, false);

	if (fd < 0)
		return fd;
	if (in->mode &
	    ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	return fallocate(fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno : 0;
}

FS_REQUEST(lseek)
{
	const struct fuse_lseek_in *in = rq->args;
	int fd = fs_handle(fs, rq, in->fh, false);
	struct fuse_lseek_out *out = rq->out;
	off_t at;

	if (fd < 0)
		return fd;
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	at = lseek(fd, (off_t)in->offset, (int)in->whence);
	if (at < 0)
		return -errno;
	out->offset = (uint64_t)at;
	return sizeof(*out);
}

FS_REQUEST(copy_file_range)
{
	const struct fuse_copy_file_range_in *in = rq->args;
	int from = fs_handle(fs, rq, in->fh_in, false), to = fs_handle(fs, rq, in->fh_out, false);
	off_t from_at = (off_t)in->off_in, to_at = (off_t)in->off_out;
	struct fuse_write_out *out = rq->out;
	ssize_t n;

	if (from < 0 || to < 0)
		return -EBADF;
	if (in->flags)
		return -EINVAL;
	n = copy_file_range(from, &from_at, to, &to_at, MIN(in->len, MAX_COPY), 0);
	if (n < 0)
		return -errno;
	fs->written_bytes += n;
	out->size = (uint32_t)n;
	return sizeof(*out);
}
