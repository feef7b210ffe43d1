// SPDX-License-Identifier: BSD-2-Clause
/*
 * --cloud-init: the files of a directory as an ISO 9660 image with the label CIDATA, where cloud-init
 * looks for them (its data source NoCloud).
 *
 * The image is a file in memory, which no one else sees, and which is gone when skep is. A program
 * that is made for it writes it, to its standard output.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/util.h"
#include "run.h"

static const char *const files[] = {"meta-data", "user-data", "network-config", "vendor-data"};
#define NEEDED 2u /* of them */

/* All take the same arguments. */
static char *const programs[] = {"genisoimage", "xorrisofs", "mkisofs"};

static int write_image(char **paths, int image, struct error *e)
{
	char *argv[ARRAY_SIZE(files) + 10] = {NULL,	"-quiet",  "-volid",
					      "CIDATA", "-joliet", "-rock"};
	struct stat st;
	size_t n = 6;
	int r = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (access(paths[i], F_OK) == 0)
			argv[n++] = paths[i];
	for (size_t i = 0; r == -ENOENT && i < ARRAY_SIZE(programs); i++) {
		argv[0] = programs[i];
		r = child_run(argv, image, -1, e);
	}
	if (r == -ENOENT)
		return error_set(e, r,
				 "--cloud-init takes genisoimage or xorriso, and neither is "
				 "installed: apt-get install genisoimage");
	if (r == 0 && (fstat(image, &st) < 0 || st.st_size == 0))
		r = error_set(e, -EIO, "it wrote nothing");
	return r < 0 ? error_prefix(e, r, "--cloud-init: %s failed", argv[0]) : 0;
}

static int add_image(struct vm_config *config, int image, struct error *e)
{
	const struct device_options *const *type = config->types;
	char text[64];

	while (*type && !(*type)->has_systems)
		type++;
	snprintf(text, sizeof(text), "/proc/self/fd/%d,readonly,serial=cidata", image);
	return *type ? config_parse_device(config, *type, text, e) : -EINVAL;
}

int cli_add_seed(struct vm_config *config, int *ret, struct error *e)
{
	char *paths[ARRAY_SIZE(files)] = {NULL};
	int r = 0;

	*ret = -1;
	if (!config->cloud_init)
		return 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
		if (asprintf(&paths[i], "%s/%s", config->cloud_init, files[i]) < 0) {
			paths[i] = NULL;
			r = -ENOMEM;
		} else if (access(paths[i], R_OK) < 0 && (i < NEEDED || errno != ENOENT)) {
			r = error_set(e, -errno, "--cloud-init: '%s': %s%s", paths[i],
				      strerror(errno),
				      errno == ENOENT ? ": make it, it may be empty" : "");
		}
	}
	if (r == 0) {
		*ret = memfd_create("cloud-init", MFD_CLOEXEC);
		r = *ret < 0 ? error_set(e, -errno, "memfd_create: %s", strerror(errno))
			     : write_image(paths, *ret, e);
	}
	if (r == 0)
		r = add_image(config, *ret, e);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		free(paths[i]);
	return r;
}
