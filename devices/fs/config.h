// SPDX-License-Identifier: BSD-2-Clause
/* What a shared directory is to be. */
#ifndef SKEP_FS_CONFIG_H
#define SKEP_FS_CONFIG_H

#include "base/error.h"
#include "config/device_options.h"

#define FS_MAX	      16u /* in a VM */
#define FS_MAX_HIDDEN 64u
#define FS_MAX_QUEUES 16u
#define FS_TAG_MAX    36u /* virtio 1.3, section 5.11.4 */

#define FS_CACHES(X)                                                                               \
	X(FS_CACHE_AUTO, "auto") X(FS_CACHE_ALWAYS, "always") X(FS_CACHE_NEVER, "never")
enum fs_cache { FS_CACHES(CHOICE_VALUE) };

struct fs_config {
	char *source; /* DIR or DIR:TAG */
	bool readonly;
	bool flat;
	bool acl, locks;
	char **hide;	/* ends with NULL; NULL: nothing */
	unsigned cache; /* enum fs_cache */
	unsigned queues;
};

extern const struct device_options fs_options;

/* The directory, to be freed, and the tag: the last component of the directory's path, where none is
 * given. -EINVAL with a message when there is none, or it is too long. */
int fs_split(const char *source, char **ret_dir, char tag[FS_TAG_MAX + 1], struct error *e);

#endif
