// SPDX-License-Identifier: BSD-2-Clause
/* What can be done with an open image, apart from I/O. */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/filelock.h"
#include "image.h"

int64_t blk_image_allocated(const struct blk_image *image)
{
	struct stat st;

	/* fstat(2) itself: glibc calls newfstatat, which a disk's sandbox does not allow. */
	if (image->device || syscall(SYS_fstat, image->fd, &st) < 0)
		return -1;
	return (int64_t)st.st_blocks * 512;
}

static int present_size(const struct blk_image *image, uint64_t *ret)
{
	struct stat st;

	if (image->device)
		return ioctl(image->fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
	if (fstat(image->fd, &st) < 0)
		return -errno;
	*ret = (uint64_t)st.st_size;
	return 0;
}

bool blk_image_reaches(const struct blk_image *image, uint64_t end)
{
	uint64_t size;

	return !image->device || (present_size(image, &size) == 0 && end <= size);
}

int blk_set_size(int fd, uint64_t size, struct error *e)
{
	if (size <= INT64_MAX && ftruncate(fd, (off_t)size) == 0)
		return 0;
	if (size > INT64_MAX || errno == EFBIG || errno == EINVAL)
		return error_set(e, -EFBIG,
				 "its file system has no files of %llu bytes, or there is a limit "
				 "on them (ulimit -f, LimitFSIZE= in systemd's unit)",
				 (unsigned long long)size);
	return error_set(e, -errno, "cannot set its size: %s", strerror(errno));
}

int blk_image_grow(const struct blk_image *image, uint64_t *size, struct error *e)
{
	uint64_t present;
	int r;

	if (image->ephemeral)
		return error_set(
			e, -ENOTSUP,
			"is ephemeral, and as large as its image was when the VM started: "
			"enlarge the image with `skep disk resize`, and start the VM anew");
	r = present_size(image, &present);
	if (r < 0)
		return error_set(e, r, "cannot ask its size: %s", strerror(-r));
	if (!*size)
		*size = present;
	if (*size % image->logical_block)
		return error_set(e, -EINVAL, "%llu bytes is not a multiple of its block of %u",
				 (unsigned long long)*size, image->logical_block);
	if (*size <= present)
		return 0;
	if (image->device)
		return error_set(e, -ENOSPC,
				 "is a block device of %llu bytes: enlarge that first, as with "
				 "lvextend",
				 (unsigned long long)present);
	if (image->readonly)
		return error_set(e, -EROFS,
				 "is read-only here: let somebody else enlarge its file, and give "
				 "no size");
	return blk_set_size(image->fd, *size, e);
}

void blk_image_close(struct blk_image *image)
{
	if (!image)
		return;
	if (image->written)
		munmap(image->written, blk_bitmap_size(image));
	blk_image_close(image->base);
	if (image->fd >= 0) {
		/* An io_uring may keep the file open for a while longer. */
		file_unlock(image->fd);
		close(image->fd);
	}
	free(image->path);
	free(image);
}
