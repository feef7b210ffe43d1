// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/runtime.h"
#include "base/util.h"

#define OF_SESSIONS "/run/user/"

static const char *parent(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	bool given = dir && *dir;

	if (geteuid() == 0 && (!given || strncmp(dir, OF_SESSIONS, strlen(OF_SESSIONS)) == 0))
		return "/run";
	return given ? dir : NULL;
}

char *runtime_directory(bool make, struct error *e)
{
	const char *in = parent();
	struct stat st;
	char *dir = NULL;

	if (!in) {
		error_set(e, -ENOENT, "there is no runtime directory (XDG_RUNTIME_DIR is not set)");
		return NULL;
	}
	if (asprintf(&dir, "%s/skep", in) < 0) {
		error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
		error_set(e, -errno, "cannot make the runtime directory '%s': %m", dir);
	else if (stat(dir, &st) < 0)
		error_set(e, -errno, "the runtime directory '%s': %m", dir);
	else if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		error_set(e, -EPERM, "others may write to the runtime directory '%s'", dir);
	else
		return dir;
	free(dir);
	return NULL;
}

char *runtime_socket(const char *vm)
{
	_cleanup_free_ char *dir =
		!*vm || *vm == '.' || strchr(vm, '/') ? NULL : runtime_directory(false, NULL);
	char *path = NULL;

	if (dir && asprintf(&path, "%s/%s/" RUNTIME_SOCKET, dir, vm) < 0)
		return NULL;
	if (path && access(path, F_OK) == 0)
		return path;
	free(path);
	return strdup(vm);
}
