// SPDX-License-Identifier: BSD-2-Clause
/* The option --disk. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "config.h"

/* What the texts say. */
static_assert(BLK_MAX_QUEUES == 16, "1 to 16");
static_assert(BLK_SERIAL_LEN == 20, "at most 20 characters");
static_assert(BLK_MAX_POLL_NS == 10 * 1000000, "at most 10ms");

static const struct setting settings[] = {
	{"path", .arg = "PATH", STRING_FIELD(disk_config, path)},
	{"readonly", BOOL_FIELD(disk_config, readonly), .help = "the guest cannot write"},
	{"ephemeral", BOOL_FIELD(disk_config, ephemeral),
	 .help = "throw away what the guest writes; many VMs can share the image"},
	{"serial", .arg = "S", TEXT_FIELD(disk_config, serial),
	 .help = "serial number, at most 20 characters (default: derived from the disk's "
		 "position)"},
	{"block-size", CHOICE_FIELD(disk_config, block_size, DISK_BLOCK_SIZES),
	 .help = "logical block size that the guest sees, in bytes (default: auto, which is 512 "
		 "for a file and a block device's own size)"},
	{"format", CHOICE_FIELD(disk_config, format, DISK_FORMATS),
	 .help = "raw: what looks like an image of another kind is no mistake (default: auto)"},
	{"discard", CHOICE_FIELD(disk_config, discard, DISK_DISCARDS),
	 .help = "whether discards punch holes in the image (default: unmap)"},
	{"detect-zeroes", CHOICE_FIELD(disk_config, detect_zeroes, DISK_DETECT_ZEROES),
	 .help = "whether a write of nothing but zeros punches a hole (default: off)"},
	{"werror", CHOICE_FIELD(disk_config, werror, DISK_WERRORS),
	 .help = "what a write does when the host's disk is full: report an error, or wait for "
		 "space (default: report)"},
	{"cache", CHOICE_FIELD(disk_config, cache, DISK_CACHES),
	 .help = "when writes reach stable storage: when the guest flushes; at once; when the "
		 "guest flushes, without the host's page cache; never (default: writeback)"},
	{"engine", CHOICE_FIELD(disk_config, engine, DISK_ENGINES),
	 .help = "how the host does I/O (default: auto, which is io_uring if the host has it)"},
	{"pin", BOOL_FIELD(disk_config, pin),
	 .help = "allocate and lock all of the guest's RAM at the start, for faster I/O with "
		 "io_uring"},
	{"poll", .arg = "TIME", DURATION_FIELD(disk_config, poll_ns),
	 .help = "how long to busy-wait for the next request before sleeping, like 50us, at most "
		 "10ms (default: 0, not at all)"},
	{"queues", .arg = "N", COUNT_FIELD(disk_config, queues), .min = 1, .max = BLK_MAX_QUEUES,
	 .help = "request queues, each with a thread, 1 to 16 (default: 1)"},
	{"bps", .arg = "SIZE", BYTES_FIELD(disk_config, bps),
	 .help = "bytes per second, like 100M, that the guest may read and write (default: 0, no "
		 "limit)"},
	{"iops", .arg = "N", COUNT_FIELD(disk_config, iops), .max = BLK_MAX_IOPS,
	 .help = "requests per second (default: 0, no limit)"},
	{"burst", .arg = "TIME", DURATION_FIELD(disk_config, burst_ns),
	 .help = "for how long unused bps and iops may be saved up (default: 100ms)"},
	{.name = NULL},
};
static_assert(ARRAY_SIZE(settings) <= DEVICE_MAX_SETTINGS, "more than config_parse_device() takes");

static int check_disk(const struct disk_config *disk, struct error *e)
{
	if (disk->detect_zeroes == DETECT_ZEROES_UNMAP && disk->discard == DISCARD_IGNORE)
		return error_set(e, -EINVAL,
				 "detect-zeroes=unmap punches holes, which discard=ignore rules "
				 "out: leave one of them out");
	if (disk->pin && disk->engine == ENGINE_SYNC)
		return error_set(e, -EINVAL,
				 "pin is for io_uring, which engine=sync rules out: leave one of "
				 "them out");
	if (disk->poll_ns > BLK_MAX_POLL_NS)
		return error_set(e, -EINVAL, "poll is longer than 10ms: write it like 50us");
	if (disk->ephemeral && disk->readonly)
		return error_set(e, -EINVAL, "readonly and ephemeral: give one of them");
	if (disk->ephemeral && disk->cache != CACHE_WRITEBACK)
		return error_set(e, -EINVAL,
				 "nothing of an ephemeral disk is kept: leave `cache` out");
	return 0;
}

void disk_serial(const struct disk_config *disk, size_t index, char ret[BLK_SERIAL_LEN + 1])
{
	if (disk->serial[0])
		memcpy(ret, disk->serial, sizeof(disk->serial));
	else
		snprintf(ret, BLK_SERIAL_LEN + 1, "skep%zu", index);
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct disk_config *disks = configs;
	char a[BLK_SERIAL_LEN + 1], b[BLK_SERIAL_LEN + 1];

	for (size_t i = 0; i < num; i++) {
		int r = check_disk(&disks[i], e);

		if (r < 0)
			return error_prefix(e, r, "disk %zu (%s)", i + 1, disks[i].path);
		/* A guest names its disks by their serial numbers, and so does `skep control`. */
		disk_serial(&disks[i], i, b);
		for (size_t j = 0; j < i; j++) {
			disk_serial(&disks[j], j, a);
			if (strcmp(a, b) == 0)
				return error_set(e, -EINVAL,
						 "disks %zu and %zu have the serial number '%s': "
						 "give each its own with serial=",
						 j + 1, i + 1, a);
		}
	}
	return 0;
}

static void file(const void *config, struct config_file *ret)
{
	const struct disk_config *disk = config;

	ret->path = disk->path;
	ret->use = disk->readonly || disk->ephemeral ? FILE_READ : FILE_WRITTEN;
}

static bool pins_memory(const void *config)
{
	return ((const struct disk_config *)config)->pin;
}

const struct device_options blk_options = {
	.name = "disk",
	.plural = "disks",
	.what = "a disk",
	.max = BLK_MAX_DISKS,
	.option = {.letter = 'd',
		   .arg = "PATH[,OPTION...]",
		   .help = "add a disk, a raw image or a block device (repeatable); see below"},
	.size = sizeof(struct disk_config),
	.defaults = &(const struct disk_config){.queues = 1, .burst_ns = NSEC_PER_SEC / 10},
	.settings = settings,
	.file = file,
	.has_systems = true,
	.pins_memory = pins_memory,
	.check = check,
};
