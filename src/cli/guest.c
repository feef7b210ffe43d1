// SPDX-License-Identifier: BSD-2-Clause
/* Where the default guest is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "config/settings.h"
#include "run.h"

/* The directory's file, or NULL when it is not there. */
static char *file_in(const char *dir, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return NULL;
	if (access(path, F_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static bool take(struct vm_config *config, const char *dir)
{
	_cleanup_free_ char *initrd = file_in(dir, "initrd");
	char *kernel = file_in(dir, "vmlinuz");

	if (!kernel || (!config->initrds && (!initrd || list_add(&config->initrds, initrd) < 0))) {
		free(kernel);
		return false;
	}
	config->kernel = kernel;
	return true;
}

static bool take_home(struct vm_config *config)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	_cleanup_free_ char *dir = NULL;
	int r;

	if (data && *data == '/') /* a relative one is to be ignored (XDG base directories) */
		r = asprintf(&dir, "%s/skep/guest", data);
	else if (home && *home)
		r = asprintf(&dir, "%s/.local/share/skep/guest", home);
	else
		return false;
	if (r < 0) {
		dir = NULL;
		return false;
	}
	return take(config, dir);
}

int cli_default_guest(struct vm_config *config, struct error *e)
{
	const char *dir = getenv("SKEP_GUEST_DIR");

	if (config->kernel)
		return 0;
	if (dir && *dir) {
		if (take(config, dir))
			return 0;
		return error_set(
			e, -ENOENT,
			"SKEP_GUEST_DIR is '%.200s', which has no vmlinuz and initrd: make "
			"them with 'skep-mkguest', or give --kernel",
			dir);
	}
	if (take_home(config) || take(config, "/var/lib/skep/guest") ||
	    take(config, SKEP_DATADIR "/guest"))
		return 0;
	return error_set(e, -ENOENT,
			 "no kernel is given and there is no default guest: make one with "
			 "'skep-mkguest' (tools/mkguest in the source tree), or give --kernel");
}
