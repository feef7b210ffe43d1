// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Locks are an agreement between programs; the host's kernel ignores them
 * when it mounts a file through a loop device, or swaps to it. A loop device shows its file's
 * device and inode to those who may open it; to others /sys shows a path, which is mostly right.
 * /proc/swaps shows paths.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/filelock.h"
#include "base/util.h"

static bool is_named(const char *path, const struct stat *file)
{
	struct stat st;

	return stat(path, &st) == 0 && is_same_file(&st, file);
}

/* Whether /dev/NAME, a loop device, is on the file; with `writes` it must be able to write. */
static bool loop_has(const char *name, const struct stat *file, bool writes)
{
	char path[64], text[4096];
	struct loop_info64 info;
	_cleanup_close_ int fd = -1;

	if (!read_text(text, sizeof(text), "/sys/block/%.20s/loop/backing_file", name))
		return false;
	snprintf(path, sizeof(path), "/dev/%.20s", name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0)
		return info.lo_device == file->st_dev && info.lo_inode == file->st_ino &&
		       !(writes && (info.lo_flags & LO_FLAGS_READ_ONLY));
	if (!is_named(text, file))
		return false;
	return !writes || !read_text(text, sizeof(text), "/sys/block/%.20s/ro", name) ||
	       text[0] == '0';
}

static bool find_loop(const struct stat *file, bool writes, char ret[32])
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		found = strncmp(entry->d_name, "loop", 4) == 0 &&
			loop_has(entry->d_name, file, writes);
		snprintf(ret, 32, "%.31s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A path in /proc ends at a blank, and has odd characters as \ooo. In place. */
static void decode_path(char *path)
{
	char *out = path;
	unsigned byte;

	for (; *path && *path != ' ' && *path != '\t'; path++)
		if (sscanf(path, "\\%3o", &byte) == 1) {
			*out++ = (char)byte;
			path += 3;
		} else {
			*out++ = *path;
		}
	*out = '\0';
}

static bool is_swap(const struct stat *file)
{
	FILE *swaps = fopen("/proc/swaps", "re");
	_cleanup_free_ char *line = NULL;
	bool found = false;
	size_t len = 0;

	while (swaps && !found && getline(&line, &len, swaps) > 0) {
		decode_path(line);
		found = line[0] == '/' && is_named(line, file);
	}
	if (swaps)
		fclose(swaps);
	return found;
}

int file_host_use(const struct stat *st, bool to_read, struct error *e)
{
	char loop[32];

	if (!S_ISREG(st->st_mode))
		return 0;
	if (find_loop(st, to_read, loop))
		return error_set(e, -EBUSY,
				 "is in use by this host as /dev/%s: unmount what is mounted from "
				 "that, and detach it (losetup -d /dev/%s)",
				 loop, loop);
	if (is_swap(st))
		return error_set(e, -EBUSY, "is in use by this host as swap: swapoff(8) it first");
	return 0;
}
