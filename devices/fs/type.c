// SPDX-License-Identifier: BSD-2-Clause
/* The shared directory as a device of a VM. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "config/config.h"
#include "device.h"
#include "sandbox/sandbox.h"
#include "virtio/type.h"

#define OTHER_FILES 1024u	   /* descriptors that are not the guest's files */
#define MAX_FILES   (1024u * 1024) /* of all shares */

/* What a VM has from open() to close(). */
struct place {
	struct fs_share share; /* root: -1 once it is the device's */
};

static int open_directory(const char *dir, struct error *e)
{
	static const struct open_failure say = {.action = "share",
						.missing = "there is no such directory"};
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOTDIR)
		return error_set(e, -ENOTDIR, "it is not a directory");
	if (fd < 0)
		return error_open(e, errno, &say);
	if (access(fs_path(fd).text, R_OK | X_OK) < 0) {
		int err = errno;

		close(fd);
		if (err == ENOENT)
			return error_set(e, -ENOENT, "there is no /proc, which sharing needs");
		return error_open(e, err, &say);
	}
	return fd;
}

/* All shares together may have what the limit leaves. */
static unsigned max_files(const struct device_host *host)
{
	struct rlimit limit = {.rlim_cur = 1024};
	size_t shares;

	getrlimit(RLIMIT_NOFILE, &limit);
	config_devices(host->config, &fs_options, &shares);
	limit.rlim_cur -= MIN(limit.rlim_cur / 2, OTHER_FILES);
	return MAX((unsigned)(MIN(limit.rlim_cur, MAX_FILES) / MAX(shares, 1u)), 16u);
}

/* By what it is, so that no other name leads there. */
static void hide(struct fs_share *share, const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0)
		share->hidden[share->num_hidden++] = (struct fs_hidden){st.st_dev, st.st_ino};
}

static int open_place(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct fs_config *config = d->config;
	_cleanup_free_ char *dir = NULL;
	struct place *place = calloc(1, sizeof(*place));
	int r;

	if (!place)
		return error_set(e, -ENOMEM, "out of memory");
	d->own = place;
	place->share = (struct fs_share){.root = -1,
					 .readonly = config->readonly,
					 .flat = config->flat,
					 .acl = config->acl,
					 .locks = config->locks,
					 .cache = config->cache,
					 .queues = config->queues,
					 .max_files = max_files(host)};
	r = fs_split(config->source, &dir, place->share.tag, e);
	if (r < 0)
		return r;
	place->share.root = open_directory(dir, e);
	if (place->share.root < 0)
		return error_prefix(e, place->share.root, "--share: '%s'", dir);
	for (char **path = config->hide; path && *path; path++)
		hide(&place->share, *path);
	sandbox_keep_capabilities("fs", fs_capabilities);
	return 0;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	struct place *place = d->own;
	struct fs_share share = place->share;
	struct loop *loops[1 + FS_MAX_QUEUES];
	char name[16];

	for (unsigned i = 0; i <= share.queues; i++) {
		int r;

		snprintf(name, sizeof(name), "share%u.%u", d->index, i);
		r = loop_new(&loops[i], name, LOOP_EPOLL, 0, e);
		if (r < 0)
			return r;
		device_add_loop(d, loops[i], "fs");
	}
	place->share.root = -1;
	return fs_device_new(&d->dev, host->mem, &share, loops, e);
}

static int start(struct vm_device *d, device_setup setup, struct error *e)
{
	const struct place *place = d->own;
	int r = fs_device_enter(d->dev, setup, e);

	if (r < 0)
		return error_prefix(e, r, "--share: '%s'", place->share.tag);
	umask(0); /* the guest applies its own; nothing else is made from now on */
	return 0;
}

static void close_place(struct vm_device *d)
{
	struct place *place = d->own;

	if (!place)
		return;
	if (place->share.root >= 0)
		close(place->share.root);
	free(place);
	d->own = NULL;
}

static const struct device_counter counters[] = {
	DEVICE_COUNTER(fs_counters, requests),
	DEVICE_COUNTER(fs_counters, failed),
	DEVICE_COUNTER(fs_counters, read_bytes),
	DEVICE_COUNTER(fs_counters, written_bytes),
	DEVICE_COUNTER(fs_counters, inodes),
	DEVICE_COUNTER(fs_counters, handles),
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		fs_counters(d->dev, ret);
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct fs_config *config = d->config;
	const struct place *place = d->own;

	json_object_set_new(ret, "source", json_from_bytes(config->source));
	json_object_set_new(ret, "tag", place ? json_from_bytes(place->share.tag) : json_null());
}

static void print_status(size_t i, const json_t *share, FILE *out)
{
	char read[DEVICE_BYTES_LEN], written[DEVICE_BYTES_LEN];

	(void)i;
	print_line(out, "share %s: %s; %llu inodes known, %llu files open",
		   answer_text(share, "tag"), answer_text(share, "source"),
		   (unsigned long long)answer_number(share, "inodes"),
		   (unsigned long long)answer_number(share, "handles"));
	fprintf(out, "  %s read, %s written, %llu requests, %llu failed\n",
		answer_bytes(share, "read_bytes", read),
		answer_bytes(share, "written_bytes", written),
		(unsigned long long)answer_number(share, "requests"),
		(unsigned long long)answer_number(share, "failed"));
}

const struct device_type fs_type = {
	.name = "fs",
	.options = &fs_options,
	.open = open_place,
	.build = build,
	.start = start,
	.close = close_place,
	.counters = counters,
	.count = count,
	.describe = describe,
	.print_status = print_status,
};
