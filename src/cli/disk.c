// SPDX-License-Identifier: BSD-2-Clause
/* `skep disk`: create, info, compact, resize. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/filelock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "blk/blk.h"
#include "check.h"
#include "config/units.h"
#include "disk.h"

static const struct open_failure open_failure = {
	.missing = "no such file or directory: 'skep disk create' makes images",
};

static int check_kind(const struct stat *st, const char *device_remedy, struct error *e)
{
	if (S_ISREG(st->st_mode) || (S_ISBLK(st->st_mode) && !device_remedy))
		return 0;
	if (S_ISBLK(st->st_mode))
		return error_set(e, -ENOTSUP, "is a block device: %s", device_remedy);
	return error_set(e, S_ISDIR(st->st_mode) ? -EISDIR : -ENOTSUP,
			 "is %s: an image is a regular file", file_kind(st->st_mode));
}

/* Looks before it opens, because opening a pipe would wait for its other end. `device_remedy`: what
 * to do about a block device; NULL: it may be one. */
static int open_image(const char *path, int flags, const char *device_remedy, struct stat *st,
		      struct error *e)
{
	int fd, r;

	if (stat(path, st) < 0)
		return error_open(e, errno, &open_failure);
	r = check_kind(st, device_remedy, e);
	if (r < 0)
		return r;
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return error_open(e, errno, &open_failure);
	r = fstat(fd, st) < 0 ? error_set(e, -errno, "cannot stat: %m")
			      : check_kind(st, device_remedy, e);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* For commands that change an image: nobody else uses it, and *st stays true, until it is closed.
 * */
static int open_to_change(const char *path, const char *device_remedy, struct stat *st,
			  struct error *e)
{
	unsigned tries = 0;
	int fd, r;

	do {
		fd = open_image(path, O_RDWR, device_remedy, st, e);
		if (fd < 0)
			return fd;
		r = file_lock_named(fd, path, FILE_LOCK_WRITE, st, e);
		if (r < 0)
			close(fd);
	} while (r == -ESTALE && ++tries < FILE_OPEN_TRIES);
	return r < 0 ? r : fd;
}

static int check_size(uint64_t size, struct error *e)
{
	if (size > INT64_MAX)
		return error_set(e, -EUSAGE, "%llu bytes is more than any file holds",
				 (unsigned long long)size);
	if (size == 0 || size % BLK_SECTOR)
		return error_set(e, -EUSAGE,
				 "%llu bytes is not a valid size: use a multiple of %u (a bare "
				 "number is MiB)",
				 (unsigned long long)size, BLK_SECTOR);
	return 0;
}

/* create */

static int create(const struct disk_command *c, FILE *out, FILE *terminal, struct error *e)
{
	static const char device_remedy[] = "use it as it is, or make a logical volume (lvcreate)";
	_cleanup_free_ char *real = NULL;
	_cleanup_close_ int old = -1;
	struct stat st;
	int r = check_size(c->size, e);

	(void)terminal;
	if (r < 0)
		return r;
	if (stat(c->path, &st) == 0) {
		if (S_ISREG(st.st_mode) && !c->force)
			return error_set(e, -EEXIST,
					 "exists already: choose another name, or replace it with "
					 "--force");
		old = open_to_change(c->path, device_remedy, &st, e);
		if (old < 0)
			return old;
		/* A symbolic link stays one. */
		real = realpath(c->path, NULL);
		if (!real)
			return error_open(e, errno, &open_failure);
	}
	r = disk_make(real ? real : c->path, c->size, c->preallocate, real ? &st : NULL, e);
	if (r < 0)
		return r;
	print_line(out, "%s: %s", c->path, BYTES_TEXT(c->size));
	return 0;
}

/* info */

struct disk_info {
	bool device;
	uint64_t size, allocated;
	struct disk_sum sum;
	uint32_t block;	      /* of the file system, or the device's logical block */
	int discard;	      /* 1, 0, or -1: not known */
	uint64_t granularity; /* of a discard, bytes; 0 without */
	char note[160];	      /* why there is no discard, or none known */
};

static int device_info(int fd, const struct stat *st, struct disk_info *ret, struct error *e)
{
	int logical = BLK_SECTOR;

	ret->device = true;
	if (ioctl(fd, BLKGETSIZE64, &ret->size) < 0)
		return error_set(e, -errno, "cannot get the device's size: %m");
	ioctl(fd, BLKSSZGET, &logical);
	ret->block = (uint32_t)logical;
	ret->discard = block_queue_limit(st->st_rdev, "discard_max_bytes") > 0;
	if (ret->discard)
		ret->granularity = block_queue_limit(st->st_rdev, "discard_granularity");
	else
		snprintf(ret->note, sizeof(ret->note), "the device takes no discards");
	return 0;
}

static int file_info(int fd, const char *path, const struct stat *st, struct disk_info *ret,
		     struct error *e)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	const char *step = "resolving the path";
	int r;

	ret->size = (uint64_t)st->st_size;
	ret->allocated = (uint64_t)st->st_blocks * 512;
	ret->block = disk_block_size(fd);
	r = disk_sum(fd, disk_next_data, 0, ret->size, &ret->sum);
	if (r < 0)
		return error_set(e, r, "cannot find its data: %m");
	/* On a file beside it: this one is only looked at. */
	r = real ? check_punch_hole(dirname(real), &step) : -errno;
	ret->discard = r == 0 ? 1 : r == -EOPNOTSUPP ? 0 : -1;
	if (r == 0)
		ret->granularity = ret->block;
	else if (r == -EOPNOTSUPP)
		snprintf(ret->note, sizeof(ret->note),
			 "the file system does not support holes (%s)", step);
	else
		snprintf(ret->note, sizeof(ret->note), "not tested: %s: %s", step, strerror(-r));
	return 0;
}

static int print_json(const struct disk_command *c, const struct disk_info *i, FILE *out)
{
	_cleanup_free_ char *text = NULL;
	json_t *holes = i->device ? json_null()
				  : json_pack("{s:I, s:I}", "count", (json_int_t)i->sum.gaps,
					      "bytes", (json_int_t)i->sum.gap_bytes);

	text = json_to_text(
		json_pack("{s:o, s:s, s:I, s:o, s:o, s:I, s:{s:o, s:I, s:s?}}", "path",
			  json_from_bytes(c->path), "type", i->device ? "device" : "file", "size",
			  (json_int_t)i->size, "allocated",
			  i->device ? json_null() : json_integer((json_int_t)i->allocated), "holes",
			  holes, "block_size", (json_int_t)i->block, "discard", "works",
			  i->discard < 0 ? json_null() : json_boolean(i->discard), "granularity",
			  (json_int_t)i->granularity, "note", i->note[0] ? i->note : NULL));
	if (!text)
		return -ENOMEM;
	fputs(text, out);
	return 0;
}

static void print_text(const struct disk_command *c, const struct disk_info *i, FILE *out)
{
	static const char *const works[] = {"not known", "no", "yes"};

	print_line(out, "%-11s%s", i->device ? "device" : "file", c->path);
	fprintf(out, "%-11s%s (%llu bytes)\n", "size", BYTES_TEXT(i->size),
		(unsigned long long)i->size);
	if (!i->device) {
		fprintf(out, "%-11s%s (%llu bytes)\n", "allocated", BYTES_TEXT(i->allocated),
			(unsigned long long)i->allocated);
		fprintf(out, "%-11s%llu, of %s (%llu bytes) together\n", "holes",
			(unsigned long long)i->sum.gaps, BYTES_TEXT(i->sum.gap_bytes),
			(unsigned long long)i->sum.gap_bytes);
	}
	fprintf(out, "%-11s%u bytes%s\n", "block", i->block,
		i->device ? "" : ", of the file system");
	fprintf(out, "%-11s%s", "discard", works[i->discard + 1]);
	if (i->note[0])
		fprintf(out, ": %s\n", i->note);
	else
		fprintf(out, ": %s, in units of %llu bytes\n",
			i->device ? "the device takes discards" : "holes can be punched here",
			(unsigned long long)i->granularity);
}

static int info(const struct disk_command *c, FILE *out, FILE *terminal, struct error *e)
{
	struct disk_info info = {0};
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	(void)terminal;
	fd = open_image(c->path, O_RDONLY, NULL, &st, e);
	if (fd < 0)
		return fd;
	if (S_ISBLK(st.st_mode))
		r = device_info(fd, &st, &info, e);
	else
		r = file_info(fd, c->path, &st, &info, e);
	if (r < 0)
		return r;
	if (c->json)
		return print_json(c, &info, out);
	print_text(c, &info, out);
	return 0;
}

/* compact */

static int compact(const struct disk_command *c, FILE *out, FILE *terminal, struct error *e)
{
	struct progress progress;
	_cleanup_close_ int fd = -1;
	uint64_t freed = 0;
	struct stat st;
	int r;

	fd = open_to_change(c->path,
			    "discard what is free from within the guest (fstrim), or all of it "
			    "with blkdiscard",
			    &st, e);
	if (fd < 0)
		return fd;
	r = disk_compact(fd, &progress, terminal, &freed, e);
	if (r < 0)
		return freed ? error_prefix(e, r, "after freeing %s", BYTES_TEXT(freed)) : r;
	if (fstat(fd, &st) < 0)
		return -errno;
	print_line(out, "%s: %s freed, %s still allocated", c->path, BYTES_TEXT(freed),
		   BYTES_TEXT((uint64_t)st.st_blocks * 512));
	return 0;
}

/* resize */

/* 1 when there is data other than zeros. */
static int find_data(void *ctx, uint64_t at, const uint8_t *data, size_t len, struct error *e)
{
	(void)e;
	if (mem_is_zero(data, len))
		return 0;
	while (!*data++)
		at++;
	*(uint64_t *)ctx = at;
	return 1;
}

/* Whether [from, end) reads as zeros: 0, or a negative errno with a message. */
static int check_tail(int fd, uint64_t from, uint64_t end, FILE *terminal, struct error *e)
{
	struct progress progress;
	uint64_t at = 0;
	struct disk_reader reader = {
		.fd = fd,
		.next = disk_next_data,
		.block = BLK_SECTOR,
		.progress = &progress,
		.fn = find_data,
		.ctx = &at,
	};
	struct disk_sum sum;
	int r = disk_sum(fd, disk_next_data, from, end, &sum);

	if (r < 0)
		return error_set(e, r, "cannot find its data: %m");
	progress_begin(&progress, terminal, sum.bytes, now_ns());
	r = disk_read_ranges(&reader, from, end, e);
	progress_end(&progress);
	if (r <= 0)
		return r;
	return error_set(e, -ENOTEMPTY,
			 "has data at byte %llu, which would be lost: shrink the guest's file "
			 "systems and partitions first, or give --force",
			 (unsigned long long)at);
}

static int shrink(const struct disk_command *c, int fd, uint64_t from, uint64_t old, FILE *terminal,
		  struct error *e)
{
	const char *text = BYTES_TEXT(old - from);
	int r;

	if (!c->shrink)
		return error_set(e, -EPERM,
				 "the last %s would be cut off: make a copy, shrink the guest's "
				 "file systems and partitions first, and give --shrink",
				 text);
	if (c->force) {
		log_warn("%s: the data in the last %s is lost", c->path, text);
		return blk_set_size(fd, from, e);
	}
	r = check_tail(fd, from, old, terminal, e);
	if (r < 0)
		return r;
	log_warn("%s: the last %s, all zeros, are cut off: a file system or partition that "
		 "reaches there is damaged",
		 c->path, text);
	return blk_set_size(fd, from, e);
}

static int resize(const struct disk_command *c, FILE *out, FILE *terminal, struct error *e)
{
	_cleanup_close_ int fd = -1;
	uint64_t old, size = c->size;
	struct stat st;
	int r;

	fd = open_to_change(
		c->path,
		"resize it with the tool that made it (lvextend, lvreduce, zfs set volsize)", &st,
		e);
	if (fd < 0)
		return fd;
	old = (uint64_t)st.st_size;
	if (c->grow && __builtin_add_overflow(old, c->size, &size))
		return error_set(e, -EUSAGE, "is too large to grow by %llu bytes",
				 (unsigned long long)c->size);
	r = check_size(size, e);
	if (r < 0)
		return r;
	r = size < old ? shrink(c, fd, size, old, terminal, e) : blk_set_size(fd, size, e);
	if (r < 0)
		return r;
	print_line(out, "%s: %s, was %s", c->path, BYTES_TEXT(size), BYTES_TEXT(old));
	return 0;
}

int disk_command_run(const struct disk_command *c, FILE *out, FILE *terminal, struct error *e)
{
	static int (*const actions[])(const struct disk_command *c, FILE *out, FILE *terminal,
				      struct error *e) = {
		[DISK_CREATE] = create,
		[DISK_INFO] = info,
		[DISK_COMPACT] = compact,
		[DISK_RESIZE] = resize,
	};
	int r = actions[c->action](c, out, terminal, e);

	return r < 0 ? error_prefix(e, r, "'%s'", c->path) : 0;
}

/* The command */

static const struct setting create_settings[] = {
	{"force", BOOL_FIELD(disk_command, force),
	 .help = "replace an existing file; its contents are lost"},
	{"preallocate", BOOL_FIELD(disk_command, preallocate),
	 .help = "allocate all of it now; discard=ignore keeps it allocated"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static const struct setting info_settings[] = {
	{"json", BOOL_FIELD(disk_command, json), .help = "print it as JSON"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static const struct setting resize_settings[] = {
	{"shrink", BOOL_FIELD(disk_command, shrink),
	 .help = "allow a smaller SIZE; what is cut off must be zeros"},
	{"force", BOOL_FIELD(disk_command, force),
	 .help = "with --shrink, cut off data, too; it is lost"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

const struct cli_verb disk_verbs[] = {
	[DISK_CREATE] = {"create", "PATH SIZE", "create a sparse image", 2, create_settings},
	[DISK_INFO] = {"info", "PATH", "show its size, what is allocated, and its holes", 1,
		       info_settings},
	[DISK_COMPACT] = {"compact", "PATH", "punch holes where it contains zeros", 1,
			  help_settings},
	[DISK_RESIZE] = {"resize", "PATH [+]SIZE", "set its size, or grow it by SIZE", 2,
			 resize_settings},
	{.name = NULL},
};

int cli_parse_disk(int argc, char *const *argv, struct disk_command *ret, struct error *e)
{
	struct verb_words w = {.command = "disk", .usage = "disk ", .call = ret};
	const char *size;
	int r;

	*ret = (struct disk_command){0};
	if (argc == 0)
		return error_set(e, -EINVAL, "a command is missing: 'skep help disk' lists them");
	r = cli_parse_verb(&w, disk_verbs, argc, argv, e);
	if (r < 0)
		return r;
	ret->action = (enum disk_action)(w.verb - disk_verbs);
	ret->path = w.operand[0];
	size = w.operand[1];
	if (!size)
		return 0;
	ret->grow = ret->action == DISK_RESIZE && size[0] == '+';
	return config_parse_size(size + ret->grow, MIB, &ret->size, e);
}

static int run(int argc, char *const *argv, struct error *e)
{
	struct disk_command command;
	int r = cli_parse_disk(argc, argv, &command, e);

	return r < 0 ? cli_parse_error(r) : disk_command_run(&command, stdout, stderr, e);
}

static void help(FILE *out)
{
	fputs("Usage: skep disk COMMAND [OPTION...] PATH [SIZE]\n\n"
	      "Creates, shows and changes images that no VM is using. A SIZE is like 512M or\n"
	      "4G; a bare number is MiB.\n",
	      out);
	help_verbs(out, disk_verbs);
}

static void complete(FILE *out, int n, char *const *words)
{
	complete_verbs(out, disk_verbs, true, n, words);
}

const struct command command_disk = {
	.name = "disk",
	.summary = "create, inspect, compact and resize images",
	.run = run,
	.help = help,
	.complete = complete,
};
