// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/filelock.h"
#include "base/util.h"
#include "config/output.h"

/* Whether `path` is the file, too, which is then used as `what`. */
static int check_one(const struct stat *file, const char *path, const char *what, struct error *e)
{
	struct stat st;

	if (!path || stat(path, &st) < 0 || !is_same_file(&st, file))
		return 0;
	return error_set(e, -EUSAGE, "is also %s ('%s'): choose another file", what, path);
}

int output_check(int fd, const char *path, const struct vm_config *config, struct error *e)
{
	struct stat st;
	struct config_file file;
	int r = 0;

	if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		return 0;
	/* A standard descriptor may be another output, too. */
	for (size_t i = 0; r == 0 && config_file(config, i, &file); i++)
		if (path ? path != file.path : file.use != FILE_OUTPUT)
			r = check_one(&st, file.path, file.what, e);
	for (char **source = config->sources; r == 0 && source && *source; source++)
		r = check_one(&st, *source, "the configuration", e);
	return r;
}

static int take(int fd, const char *path, const struct vm_config *config, struct error *e)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(e, -errno, "cannot stat: %m");
	if (S_ISBLK(st.st_mode))
		return error_set(e, -ENOTSUP, "is a block device: choose a file");
	r = config ? output_check(fd, path, config, e) : 0;
	if (r < 0 || !S_ISREG(st.st_mode))
		return r;
	r = file_lock(fd, FILE_LOCK_OUTPUT, e);
	return r == -ENOLCK ? 0 : r; /* where there are no locks, nobody has one on an image */
}

int output_open(const char *path, int flags, mode_t mode, const struct vm_config *config,
		struct error *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC | flags, mode), r;

	if (fd < 0)
		return error_set(e, -errno, "%m");
	r = take(fd, path, config, e);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}
