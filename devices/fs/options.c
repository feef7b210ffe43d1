// SPDX-License-Identifier: BSD-2-Clause
/* The option --share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "config.h"

static const struct setting settings[] = {
	{"source", .arg = "DIR[:TAG]", STRING_FIELD(fs_config, source)},
	{"readonly", BOOL_FIELD(fs_config, readonly), .help = "the guest cannot change anything"},
	{"cache", CHOICE_FIELD(fs_config, cache, FS_CACHES),
	 .help = "what the guest may remember: what it reads, for a second or until it opens the "
		 "file again; all, when nobody else changes the directory; nothing (default: "
		 "auto)"},
	{"acl", BOOL_FIELD(fs_config, acl),
	 .help = "the guest sees and sets POSIX access control lists, and asks for each file's"},
	{"locks", BOOL_FIELD(fs_config, locks),
	 .help = "the guest's locks (fcntl, flock) are the host's, and other VMs', too"},
	{"queues", .arg = "N", COUNT_FIELD(fs_config, queues), .min = 1, .max = FS_MAX_QUEUES,
	 .help = "request queues, each with a thread, 1 to 16; guests use more than one from Linux "
		 "6.11 on (default: 1)"},
	{"hide", .arg = "PATH", LIST_FIELD(fs_config, hide), .max = FS_MAX_HIDDEN,
	 .help = "a file or directory of the host that the guest is not to find, by whatever name "
		 "(repeatable)"},
	{"flat", BOOL_FIELD(fs_config, flat),
	 .help = "let other file systems that are mounted there look like a part of it, as an "
		 "overlay in the guest needs it"},
	{.name = NULL},
};

/* Of a directory without a tag. */
static char *last_component(const char *dir)
{
	_cleanup_free_ char *real = NULL;
	size_t end = strlen(dir), start;

	while (end && dir[end - 1] == '/')
		end--;
	for (start = end; start && dir[start - 1] != '/';)
		start--;
	if (!end)
		return strdup("root");
	if (strncmp(dir + start, "..", end - start) != 0)
		return strndup(dir + start, end - start);
	real = realpath(dir, NULL);
	return real ? last_component(real) : strdup("");
}

int fs_split(const char *source, char **ret_dir, char tag[FS_TAG_MAX + 1], struct error *e)
{
	const char *colon = strrchr(source, ':');
	_cleanup_free_ char *dir = NULL, *name = NULL;

	if (colon && strchr(colon, '/'))
		colon = NULL;
	dir = strndup(source, colon ? (size_t)(colon - source) : strlen(source));
	name = !dir ? NULL : colon ? strdup(colon + 1) : last_component(dir);
	if (!name)
		return error_set(e, -ENOMEM, "out of memory");
	if (!dir[0] || !name[0])
		return error_set(e, -EINVAL,
				 "'%s': give a directory and a tag, like '/srv/data:data'", source);
	if (strlen(name) > FS_TAG_MAX)
		return error_set(e, -EINVAL,
				 "'%s': the tag '%s' is longer than %u bytes: give a shorter one, "
				 "'%s:TAG'",
				 source, name, FS_TAG_MAX, dir);
	strcpy(tag, name);
	*ret_dir = dir;
	dir = NULL;
	return 0;
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct fs_config *shares = configs;
	char tag[FS_MAX][FS_TAG_MAX + 1];

	for (size_t i = 0; i < num; i++) {
		_cleanup_free_ char *dir = NULL;
		int r = fs_split(shares[i].source, &dir, tag[i], e);

		if (r < 0)
			return r;
		for (size_t j = 0; j < i; j++)
			if (strcmp(tag[i], tag[j]) == 0)
				return error_set(
					e, -EINVAL,
					"'%s' and '%s' both have the tag '%s': give one of "
					"them another, '%s:TAG'",
					shares[j].source, shares[i].source, tag[i], dir);
	}
	return 0;
}

const struct device_options fs_options = {
	.name = "share",
	.plural = "shares",
	.what = "a shared directory",
	.max = FS_MAX,
	.is_directory = true,
	.option = {.arg = "DIR[:TAG][,OPTION...]",
		   .help = "share a directory of the host, which the guest mounts with 'mount -t "
			   "virtiofs TAG /mnt' (repeatable; default tag: the directory's name); "
			   "see below"},
	.size = sizeof(struct fs_config),
	.defaults = &(const struct fs_config){.queues = 1},
	.settings = settings,
	.check = check,
};
