// SPDX-License-Identifier: BSD-2-Clause
/* Where the default guest is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "boot/cmdline.h"
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

/* Whether the guest goes on with the system of one of the devices. */
static bool goes_on(const struct vm_config *config)
{
	size_t num = 0;

	for (size_t t = 0; num == 0 && config->types && config->types[t]; t++)
		if (config->types[t]->has_systems)
			config_devices(config, config->types[t], &num);
	return num > 0 && !config->initrds && !config->guest && !config->command &&
	       !(config->append && cmdline_has_word(config->append, "--"));
}

static int take(struct vm_config *config, const char *dir, struct error *e)
{
	_cleanup_free_ char *initrd = file_in(dir, "initrd"), *boot = file_in(dir, "initrd-boot"),
			    *kernel = file_in(dir, "vmlinuz");
	bool add = goes_on(config);

	if (!kernel || (!config->initrds && !initrd))
		return -ENOENT;
	if (add && !boot)
		return error_set(
			e, -ENODATA,
			"'%.200s' has no initrd-boot, without which the default guest "
			"starts no other system: make it anew with 'skep-mkguest', or give "
			"--guest or --kernel",
			dir);
	if ((!config->initrds && list_add(&config->initrds, initrd) < 0) ||
	    (add && list_add(&config->initrds, boot) < 0))
		return -ENOMEM;
	config->kernel = kernel;
	kernel = NULL;
	return 0;
}

static int take_home(struct vm_config *config, struct error *e)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	_cleanup_free_ char *dir = NULL;
	int r;

	if (data && *data == '/') /* a relative one is to be ignored (XDG base directories) */
		r = asprintf(&dir, "%s/skep/guest", data);
	else if (home && *home)
		r = asprintf(&dir, "%s/.local/share/skep/guest", home);
	else
		return -ENOENT;
	if (r < 0) {
		dir = NULL;
		return -ENOMEM;
	}
	return take(config, dir, e);
}

int cli_default_guest(struct vm_config *config, struct error *e)
{
	const char *dir = getenv("SKEP_GUEST_DIR");
	int r;

	if (config->kernel)
		return 0;
	if (dir && *dir) {
		r = take(config, dir, e);
		if (r != -ENOENT)
			return r;
		return error_set(
			e, -ENOENT,
			"SKEP_GUEST_DIR is '%.200s', which has no vmlinuz and initrd: make "
			"them with 'skep-mkguest', or give --kernel",
			dir);
	}
	r = take_home(config, e);
	if (r == -ENOENT)
		r = take(config, "/var/lib/skep/guest", e);
	if (r == -ENOENT)
		r = take(config, SKEP_DATADIR "/guest", e);
	if (r != -ENOENT)
		return r;
	return error_set(e, -ENOENT,
			 "no kernel is given and there is no default guest: make one with "
			 "'skep-mkguest' (tools/mkguest in the source tree), or give --kernel");
}
