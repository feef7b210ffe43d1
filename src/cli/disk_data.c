// SPDX-License-Identifier: BSD-2-Clause
/* Files of disks: where data is, holes for what of it is zero, and new ones. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/filelock.h"
#include "base/newfile.h"
#include "base/util.h"
#include "blk/blk.h"
#include "disk.h"

#define PIECE MIB

int disk_next_data(int fd, uint64_t from, uint64_t end, struct disk_range *ret)
{
	off_t data, hole;

	if (from >= end)
		return 0;
	data = lseek(fd, (off_t)from, SEEK_DATA);
	if (data < 0 && errno == EINVAL) { /* not known there */
		*ret = (struct disk_range){from, end};
		return 1;
	}
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	if ((uint64_t)data >= end)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*ret = (struct disk_range){(uint64_t)data, MIN((uint64_t)hole, end)};
	return 1;
}

int disk_next_unwritten(int fd, uint64_t from, uint64_t end, struct disk_range *ret)
{
	union {
		struct fiemap map;
		uint8_t space[sizeof(struct fiemap) + 64 * sizeof(struct fiemap_extent)];
	} u;

	while (from < end) {
		u.map = (struct fiemap){
			.fm_start = from,
			.fm_length = end - from,
			.fm_flags = FIEMAP_FLAG_SYNC,
			.fm_extent_count = 64,
		};
		if (ioctl(fd, FS_IOC_FIEMAP, &u.map) < 0)
			return errno == EOPNOTSUPP || errno == ENOTTY ? 0 : -errno;
		if (u.map.fm_mapped_extents == 0)
			return 0;
		for (uint32_t i = 0; i < u.map.fm_mapped_extents; i++) {
			const struct fiemap_extent *x = &u.map.fm_extents[i];
			uint64_t start = MAX(x->fe_logical, from);
			uint64_t stop = MIN(x->fe_logical + x->fe_length, end);

			if (stop > start && (x->fe_flags & FIEMAP_EXTENT_UNWRITTEN)) {
				*ret = (struct disk_range){start, stop};
				return 1;
			}
			if (stop <= from || (x->fe_flags & FIEMAP_EXTENT_LAST))
				return 0;
			from = stop;
		}
	}
	return 0;
}

int disk_sum(int fd, disk_next next, uint64_t from, uint64_t end, struct disk_sum *ret)
{
	struct disk_range range;
	int r;

	*ret = (struct disk_sum){0};
	while ((r = next(fd, from, end, &range)) > 0) {
		ret->bytes += range.end - range.start;
		ret->gaps += range.start > from;
		ret->gap_bytes += range.start - from;
		from = range.end;
	}
	if (r == 0 && end > from) {
		ret->gaps++;
		ret->gap_bytes += end - from;
	}
	return r;
}

static int read_range(struct disk_reader *reader, struct disk_range range, uint8_t *buf,
		      struct error *e)
{
	for (uint64_t at = range.start, next; at < range.end; at = next) {
		size_t len;
		ssize_t n;
		int r;

		/* The first piece may begin where no other does. */
		next = MIN(ALIGN_DOWN(at, PIECE) + PIECE, range.end);
		len = (size_t)(next - at);
		n = pread_full(reader->fd, buf, len, at);
		if (n < 0)
			return error_set(e, (int)n, "cannot read at byte %llu: %m",
					 (unsigned long long)at);
		if ((size_t)n < len)
			return error_set(e, -EIO, "ends at byte %llu now: something truncated it",
					 (unsigned long long)(at + (size_t)n));
		r = reader->fn(reader->ctx, at, buf, len, e);
		if (r != 0)
			return r;
		reader->done += len;
		progress_show(reader->progress, reader->done, now_ns());
	}
	return 0;
}

int disk_read_ranges(struct disk_reader *reader, uint64_t from, uint64_t end, struct error *e)
{
	_cleanup_free_ uint8_t *buf = aligned_alloc(4096, PIECE);
	uint64_t at = from;
	int r;

	if (!buf)
		return error_set(e, -ENOMEM, "out of memory");
	for (;;) {
		struct disk_range range;

		r = reader->next(reader->fd, at, end, &range);
		if (r < 0)
			return error_set(e, r, "cannot find its data: %m");
		if (r == 0)
			return 0;
		range.start = MAX(ALIGN_DOWN(range.start, reader->block), at);
		range.end = MIN(ALIGN_UP(range.end, reader->block), end);
		at = range.end;
		r = read_range(reader, range, buf, e);
		if (r != 0)
			return r;
	}
}

uint32_t disk_block_size(int fd)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0 || fs.f_frsize < KIB || fs.f_frsize > 64 * KIB ||
	    !IS_ALIGNED((uint64_t)1 << 16, fs.f_frsize))
		return 4096;
	return (uint32_t)fs.f_frsize;
}

/* compact */

static int punch(int fd, uint64_t at, uint64_t len, struct error *e)
{
	int r;

	do
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
			      (off_t)len);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	if (errno == EOPNOTSUPP)
		return error_set(
			e, -errno,
			"its file system does not support holes: move it to ext4, XFS, btrfs or "
			"tmpfs (cp --sparse=always)");
	return error_set(e, -errno, "cannot punch a hole at byte %llu: %m", (unsigned long long)at);
}

/* Nobody who heeds locks writes there, but the host may have attached a loop device since. */
static int check_host(int fd, struct error *e)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? error_set(e, -errno, "cannot stat: %m")
				  : file_host_use(&st, false, e);
}

/* Zeros are punched as soon as they are read, so that nothing is lost or left undone when compact
 * ends early. A last, partial block goes as a whole: nothing reads past the end. */
static int punch_zeros(void *ctx, uint64_t at, const uint8_t *data, size_t len, struct error *e)
{
	const struct disk_reader *reader = ctx;
	size_t block = reader->block;
	bool punched = false;

	for (size_t start = 0, end; start < len; start = end + block) {
		for (end = start; end < len; end += block)
			if (!mem_is_zero(data + end, MIN(block, len - end)))
				break;
		if (end > start) {
			int r = punched ? 0 : check_host(reader->fd, e);

			if (r == 0)
				r = punch(reader->fd, at + start, end - start, e);
			if (r < 0)
				return r;
			punched = true;
		}
	}
	return 0;
}

int disk_compact(int fd, struct progress *progress, FILE *terminal, uint64_t *ret_freed,
		 struct error *e)
{
	static const disk_next kinds[] = {disk_next_data, disk_next_unwritten};
	struct disk_reader reader = {.fd = fd, .block = disk_block_size(fd), .progress = progress};
	struct stat before, after;
	uint64_t total = 0, size;
	int r = 0;

	/* What was written is on disk and accounted for, and delayed allocation is over. */
	if (fsync(fd) < 0 || fstat(fd, &before) < 0)
		return error_set(e, -errno, "cannot sync: %m");
	size = (uint64_t)before.st_size;
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r >= 0; i++) {
		struct disk_sum sum;

		r = disk_sum(fd, kinds[i], 0, size, &sum);
		total += sum.bytes;
	}
	if (r < 0)
		return error_set(e, r, "cannot find its data: %m");
	reader.fn = punch_zeros;
	reader.ctx = &reader;
	progress_begin(progress, terminal, total, now_ns());
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r >= 0; i++) {
		reader.next = kinds[i];
		r = disk_read_ranges(&reader, 0, size, e);
	}
	progress_end(progress);
	/* The time is that of the content, which is the same; but only the owner may set it. */
	futimens(fd, (struct timespec[]){{.tv_nsec = UTIME_OMIT}, before.st_mtim});
	if (fsync(fd) < 0 && r >= 0)
		r = error_set(e, -errno, "cannot sync: %m");
	if (fstat(fd, &after) == 0)
		*ret_freed = (uint64_t)MAX(before.st_blocks - after.st_blocks, 0) * 512;
	return r;
}

/* make */

static int preallocate(int fd, uint64_t size, struct error *e)
{
	struct statvfs fs = {0};

	if (fallocate(fd, 0, 0, (off_t)size) == 0)
		return 0;
	if (errno == EOPNOTSUPP)
		return error_set(e, -errno,
				 "its file system cannot preallocate: leave out --preallocate");
	if (errno != ENOSPC)
		return error_set(e, -errno, "cannot preallocate: %m");
	fstatvfs(fd, &fs);
	return error_set(e, -ENOSPC,
			 "its file system has room for %s only: free some, or leave --preallocate "
			 "out",
			 BYTES_TEXT((uint64_t)fs.f_bavail * fs.f_frsize));
}

static const struct open_failure make_failure = {
	.action = "create the file",
	.missing = "there is no such directory: make it first (mkdir -p), or correct the path",
	.denied = "permission denied: change the mode or owner of its directory",
};

int disk_make(const char *path, uint64_t size, bool allocate, const struct stat *old,
	      struct error *e)
{
	_cleanup_free_ char *copy = strdup(path), *copy2 = strdup(path);
	_cleanup_close_ int dir = -1;
	struct new_file file;
	int r;

	if (!copy || !copy2)
		return error_set(e, -ENOMEM, "out of memory");
	dir = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : new_file_open(&file, dir, 0666);
	if (r < 0)
		return error_open(e, -r, &make_failure);
	r = blk_set_size(file.fd, size, e);
	if (r == 0 && allocate)
		r = preallocate(file.fd, size, e);
	/* First the owner: chown(2) clears bits of the mode. */
	if (r == 0 && old &&
	    ((fchown(file.fd, old->st_uid, old->st_gid) < 0 && errno != EPERM) ||
	     fchmod(file.fd, old->st_mode & 07777) < 0))
		r = error_set(e, -errno, "cannot set owner and mode: %m");
	if (r == 0 && fsync(file.fd) < 0)
		r = error_set(e, -errno, "cannot sync: %m");
	if (r == 0) {
		r = new_file_publish(&file, basename(copy2), old);
		if (r < 0)
			error_open(e, -r, &make_failure);
	}
	new_file_close(&file);
	return r;
}
