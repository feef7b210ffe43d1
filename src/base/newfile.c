// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/newfile.h"
#include "base/util.h"

static void choose_name(struct new_file *file)
{
	snprintf(file->name, sizeof(file->name), NEW_FILE_PREFIX "%d-%llx", (int)getpid(),
		 (unsigned long long)now_ns());
}

/* What was done to a name failed, or not: without a name there is nothing to remove. */
static int forget_name(struct new_file *file, int r)
{
	file->name[0] = '\0';
	return r < 0 ? -errno : 0;
}

static int link_nameless(const struct new_file *file, const char *to)
{
	char self[32];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", file->fd);
	return linkat(AT_FDCWD, self, file->dir, to, AT_SYMLINK_FOLLOW);
}

int new_file_open(struct new_file *ret, int dir, mode_t mode)
{
	*ret = (struct new_file){.dir = dir};
	ret->fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (ret->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)
		return -errno;
	choose_name(ret);
	ret->fd = openat(dir, ret->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode);
	return ret->fd < 0 ? forget_name(ret, -1) : 0;
}

int new_file_publish(struct new_file *file, const char *name, bool replace)
{
	if (!file->name[0] && !replace)
		return link_nameless(file, name) < 0 ? -errno : 0;
	if (!file->name[0]) {
		choose_name(file);
		if (link_nameless(file, file->name) < 0)
			return forget_name(file, -1);
	}
	if (renameat2(file->dir, file->name, file->dir, name, replace ? 0 : RENAME_NOREPLACE) == 0)
		return forget_name(file, 0);
	if (replace || errno != EINVAL)
		return -errno;
	/* The file system knows no RENAME_NOREPLACE. */
	return linkat(file->dir, file->name, file->dir, name, 0) < 0 ? -errno : 0;
}

void new_file_close(struct new_file *file)
{
	closep_(&file->fd);
	file->fd = -1;
	if (file->name[0])
		unlinkat(file->dir, file->name, 0);
	file->name[0] = '\0';
}
