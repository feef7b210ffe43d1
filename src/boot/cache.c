// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Entries are loaded as kernels, so they must come from this user or from root: owner and mode
 * of the directory and of each entry are checked on the open descriptors. (An ACL that lets others
 * write shows in the group bits.)
 *
 * Entries get their names when they are whole (base/newfile.h), so that a reader sees all or
 * nothing; what a killed writer leaves is removed by the next clean-up. Nothing is synced: readers
 * verify an entry, so one that a power failure has damaged is made again.
 *
 * The time of an entry is that of its last use, to within a day.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "cache.h"

#define DAY   (24 * 60 * 60)
#define STALE (60 * 60) /* seconds after which a temporary file has no writer any more */

/* Only this user or root can have written it. */
static bool is_ours(const struct stat *st)
{
	return (st->st_uid == geteuid() || st->st_uid == 0) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int cache_path(char *buf, size_t size)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && *xdg == '/') /* a relative one is to be ignored (XDG base directories) */
		n = snprintf(buf, size, "%s/skep", xdg);
	else if (geteuid() == 0)
		n = snprintf(buf, size, "/var/cache/skep");
	else if (home && *home == '/')
		n = snprintf(buf, size, "%s/.cache/skep", home);
	else
		return -ENOENT;
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* The directory and the one it is in: ~/.cache need not be there yet. */
static int make_directory(const char *path)
{
	char parent[512];
	char *slash;

	if (!mkdir(path, 0700) || errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return -errno;
	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	*slash = '\0';
	if ((mkdir(parent, 0700) && errno != EEXIST) || (mkdir(path, 0700) && errno != EEXIST))
		return -errno;
	return 0;
}

int cache_open(struct cache *ret, struct error *e)
{
	struct stat st;
	int r;

	ret->dir_fd = -1;
	r = cache_path(ret->path, sizeof(ret->path));
	if (r)
		return error_set(e, r,
				 "there is no place for a cache: set XDG_CACHE_HOME or HOME to an "
				 "absolute path");
	ret->dir_fd = open(ret->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (ret->dir_fd < 0 && errno == ENOENT) {
		r = make_directory(ret->path);
		if (r)
			return error_set(e, r, "%s: cannot be created: %m", ret->path);
		ret->dir_fd = open(ret->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (ret->dir_fd < 0)
		return error_set(e, -errno, "%s: %m", ret->path);
	if (fstat(ret->dir_fd, &st) || !is_ours(&st)) {
		cache_close(ret);
		return error_set(
			e, -EPERM,
			"%s: not used, because others can write to it (owner %u, mode %o): "
			"remove it, or chown and chmod 700 it",
			ret->path, (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
	}
	return 0;
}

void cache_close(struct cache *cache)
{
	if (cache && cache->dir_fd >= 0) {
		close(cache->dir_fd);
		cache->dir_fd = -1;
	}
}

int cache_find(const struct cache *cache, const char *name, int *ret_fd)
{
	struct stat st;
	int fd;

	fd = openat(cache->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : -EPERM;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !is_ours(&st)) {
		close(fd);
		return -EPERM;
	}
	if (time(NULL) - st.st_mtime > DAY)
		futimens(fd, NULL);
	*ret_fd = fd;
	return 0;
}

/* ----- limits ----- */

struct entry {
	char name[NAME_MAX + 1];
	struct stat st;
};

/* Newest first, the names of one file side by side. */
static int compare_entries(const void *va, const void *vb)
{
	const struct entry *a = va, *b = vb;

	if (a->st.st_mtim.tv_sec != b->st.st_mtim.tv_sec)
		return a->st.st_mtim.tv_sec < b->st.st_mtim.tv_sec ? 1 : -1;
	if (a->st.st_mtim.tv_nsec != b->st.st_mtim.tv_nsec)
		return a->st.st_mtim.tv_nsec < b->st.st_mtim.tv_nsec ? 1 : -1;
	return (a->st.st_ino < b->st.st_ino) - (a->st.st_ino > b->st.st_ino);
}

/* Removes stale temporary files, and returns the entries, as many as fit. */
static size_t list_entries(DIR *dir, struct entry *list, size_t max)
{
	time_t now = time(NULL);
	struct dirent *d;
	size_t n = 0;

	while (n < max && (d = readdir(dir))) {
		struct entry *entry = &list[n];

		if (fstatat(dirfd(dir), d->d_name, &entry->st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(entry->st.st_mode))
			continue;
		snprintf(entry->name, sizeof(entry->name), "%s", d->d_name);
		if (!strncmp(entry->name, CACHE_PREFIX, strlen(CACHE_PREFIX)))
			n++;
		else if (!strncmp(entry->name, NEW_FILE_PREFIX, strlen(NEW_FILE_PREFIX)) &&
			 now - entry->st.st_mtime > STALE)
			unlinkat(dirfd(dir), entry->name, 0);
	}
	return n;
}

static void remove_old(const struct cache *cache)
{
	int fd = openat(cache->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct entry *list = NULL;
	size_t n = 0, files = 0;
	uint64_t bytes = 0;

	if (dir)
		list = calloc(4 * CACHE_MAX_NAMES, sizeof(*list));
	if (list)
		n = list_entries(dir, list, 4 * CACHE_MAX_NAMES);
	qsort(list, n, sizeof(*list), compare_entries);
	for (size_t i = 0; i < n; i++) {
		if (!i || list[i].st.st_ino != list[i - 1].st.st_ino) {
			files++;
			bytes += (uint64_t)list[i].st.st_blocks * 512;
		}
		if (i >= CACHE_MAX_NAMES || files > CACHE_MAX_FILES || bytes > CACHE_MAX_BYTES)
			cache_remove(cache, list[i].name);
	}
	free(list);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

int cache_publish(const struct cache *cache, struct new_file *file, const char *name)
{
	int r = new_file_publish(file, name, true);

	if (r == 0)
		remove_old(cache);
	return r;
}

void cache_link(const struct cache *cache, const char *name, const char *alias)
{
	cache_remove(cache, alias);
	(void)!linkat(cache->dir_fd, name, cache->dir_fd, alias, 0);
}

void cache_remove(const struct cache *cache, const char *name)
{
	unlinkat(cache->dir_fd, name, 0);
}
