// SPDX-License-Identifier: BSD-2-Clause
/*
 * A directory of files that can be made again: where it is, who may write there, how entries are
 * added and removed. The caller knows what is in them, and verifies it.
 */
#ifndef SKEP_CACHE_H
#define SKEP_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/newfile.h"

#define CACHE_MAX_FILES 16u
#define CACHE_MAX_BYTES (1ull << 30)
#define CACHE_MAX_NAMES 128u

/* Every entry's name begins with this; other files in the directory are left alone. */
#define CACHE_PREFIX "kernel-"

struct cache {
	int dir_fd;
	char path[512]; /* for messages */
};

/*
 * Opens $XDG_CACHE_HOME/skep, for root /var/cache/skep, else ~/.cache/skep, and makes it when it is
 * not there. -EPERM when someone else could have written to it; any error comes with a message.
 */
int cache_open(struct cache *ret, struct error *e);
void cache_close(struct cache *cache);

/*
 * An entry to read: 0 and the descriptor, which the caller closes; -ENOENT, or -EPERM when it is
 * not a regular file that only this user (or root) can write.
 */
int cache_find(const struct cache *cache, const char *name, int *ret_fd);

/* Gives a file that was made in cache->dir_fd its name, in place of what has that name; removes old
 * entries over the limits above. */
int cache_publish(const struct cache *cache, struct new_file *file, const char *name);

/* One more name for an entry; best effort. */
void cache_link(const struct cache *cache, const char *name, const char *alias);
/* -ENOENT is no error. */
void cache_remove(const struct cache *cache, const char *name);

#endif
