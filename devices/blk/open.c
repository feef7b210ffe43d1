// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Everything that needs the file system, /sys or a probe happens here,
 * once, before the sandbox. A discard is offered only where a probe shows that the host can do it:
 * for a file, PUNCH_HOLE past its end, which changes nothing; for a device, the limits of its queue
 * in /sys. Zeros can always be written, in the worst case as data.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/blkzoned.h>
#include <linux/fs.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include "base/filelock.h"
#include "base/log.h"
#include "base/magic.h"
#include "base/util.h"
#include "open.h"
#include "overlay.h"
#include "uring.h"

/* The most that one operation discards, so that the lock it holds in the host's file system or
 * driver does not keep reads waiting for long: docs/performance.md. */
#define DISCARD_STEP (32 * MIB)

static int check_kind(const struct stat *st, struct error *e)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return error_set(e, S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL,
			 "is %s: a disk is a regular file or a block device",
			 file_kind(st->st_mode));
}

static int explain_open(int err, const struct disk_config *config, const struct stat *st,
			struct error *e)
{
	struct open_failure say = {
		.missing = "no such file: make one with `skep disk create`, or correct the path",
		.read_only = ": add `,readonly`",
	};

	if (!config->readonly && access(config->path, R_OK) == 0)
		say.denied = "no permission to write: change its mode or owner, or add `,readonly`";
	else if (st && S_ISBLK(st->st_mode))
		say.denied = "permission denied: add your user to the group that owns the device, "
			     "or run as root";
	if (err == EBUSY)
		return error_set(e, -err,
				 "is in use on this host (mounted, swap, LVM, RAID or another VM): "
				 "release it, or add `,readonly`");
	if (err == EINVAL && config->cache == CACHE_NONE)
		return error_set(e, -err,
				 "its file system does not take O_DIRECT: leave `cache=none` out");
	return error_open(e, err, &say);
}

/* Says which VM has claimed the device. 0: none, or one that is gone by now. */
static int explain_claim(const char *path, struct error *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? 0 : file_lock(fd, FILE_LOCK_LOOK, e);
}

/* Like a lock, a claim may be held by an io_uring for some time after its process has ended. */
static int open_path(const char *path, int flags, struct error *e)
{
	unsigned looks = 0;
	int fd, r = 0;

	do {
		fd = open(path, flags);
		if (fd >= 0 || errno != EBUSY || !(flags & O_EXCL))
			return fd < 0 ? -errno : fd;
		r = explain_claim(path, e);
	} while (r == 0 && file_look_again(&looks));
	return -EBUSY;
}

static int try_open_file(struct blk_image *image, const struct disk_config *config, struct stat *st,
			 struct error *e)
{
	int flags = O_CLOEXEC | O_NOCTTY, r;
	struct error claim = {""};
	struct stat before;

	/* First look, then open: opening a pipe would wait for its other end. */
	if (stat(config->path, &before) < 0)
		return explain_open(errno, config, NULL, e);
	r = check_kind(&before, e);
	if (r < 0)
		return r;
	flags |= config->readonly ? O_RDONLY : O_RDWR;
	if (config->cache == CACHE_NONE)
		flags |= O_DIRECT;
	if (S_ISBLK(before.st_mode) && !config->readonly)
		flags |= O_EXCL;
	image->fd = open_path(config->path, flags, &claim);
	if (image->fd < 0)
		return claim.msg[0] ? error_set(e, image->fd, "%s", claim.msg)
				    : explain_open(-image->fd, config, &before, e);
	r = file_lock_named(image->fd, config->path,
			    image->readonly ? FILE_LOCK_READ : FILE_LOCK_WRITE, st, e);
	return r < 0 ? r : is_same_file(&before, st) ? 0 : -ESTALE;
}

/* Everything learnt about an image is learnt under its lock: *st is from then. */
static int open_file(struct blk_image *image, const struct disk_config *config, struct stat *st,
		     struct error *e)
{
	unsigned tries = 0;
	int r;

	while ((r = try_open_file(image, config, st, e)) == -ESTALE && ++tries < FILE_OPEN_TRIES) {
		close(image->fd);
		image->fd = -1;
	}
	return r;
}

/* Of zones that want to be written in sequence. Reading is as ever. */
static bool is_zoned(const struct blk_image *image)
{
	uint32_t zones = 0;

	return ioctl(image->fd, BLKGETNRZONES, &zones) == 0 && zones;
}

/* A mount of this device that may change it; NULL: none in this mount namespace. */
static char *find_writable_mount(const struct stat *st)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	char *ret = NULL;
	struct stat source;

	while (mounts && !ret && (m = getmntent(mounts)))
		if (strncmp(m->mnt_fsname, "/dev/", 5) == 0 && hasmntopt(m, "rw") &&
		    stat(m->mnt_fsname, &source) == 0 && S_ISBLK(source.st_mode) &&
		    source.st_rdev == st->st_rdev)
			ret = strdup(m->mnt_dir);
	if (mounts)
		endmntent(mounts);
	return ret;
}

static void warn_of_mount(const struct blk_image *image, const struct stat *st)
{
	_cleanup_free_ char *where = find_writable_mount(st);

	if (where)
		log_warn("disk %s: this host has it mounted at %s and may write to it: the guest "
			 "will find its file system changing, or damaged; unmount it there, mount "
			 "it read-only, or use a snapshot",
			 image->path, where);
}

static int device_geometry(struct blk_image *image, const struct stat *st, struct error *e)
{
	int logical = 512, readonly = 0, offset = 0;
	unsigned physical = 512, min_io = 0, optimal_io = 0;

	if (ioctl(image->fd, BLKGETSIZE64, &image->size) < 0)
		return error_set(e, -errno, "cannot ask the device's size: %s", strerror(errno));
	if (ioctl(image->fd, BLKROGET, &readonly) == 0 && readonly && !image->readonly)
		return error_set(e, -EROFS, "is a read-only device: add `,readonly`");
	if (!image->readonly && is_zoned(image))
		return error_set(
			e, -EOPNOTSUPP,
			"is a zoned device, which must be written in sequence, as no guest "
			"does: add `,readonly` or `,ephemeral`, put dm-zoned over it, or "
			"make a file system for zones there (btrfs, f2fs) and an image in "
			"that");
	if (image->readonly)
		warn_of_mount(image, st);
	ioctl(image->fd, BLKSSZGET, &logical);
	ioctl(image->fd, BLKPBSZGET, &physical);
	ioctl(image->fd, BLKIOMIN, &min_io);
	ioctl(image->fd, BLKIOOPT, &optimal_io);
	ioctl(image->fd, BLKALIGNOFF, &offset);
	image->device_block = image->logical_block = MAX((uint32_t)logical, BLK_SECTOR);
	image->physical_block = physical;
	image->min_io = min_io;
	image->optimal_io = optimal_io;
	image->alignment_offset = offset > 0 ? (uint32_t)offset : 0;
	image->granularity = (uint32_t)block_queue_limit(st->st_rdev, "discard_granularity");
	return 0;
}

/* About the file system of the file. */
static void block_size(struct blk_image *image)
{
	struct statvfs fs = {0};

	if (fstatvfs(image->fd, &fs) < 0 || fs.f_frsize < BLK_SECTOR || fs.f_frsize > 64 * KIB)
		fs.f_frsize = 4096;
	/* To write less than a block, the file system reads the block and changes it. */
	image->physical_block = (uint32_t)fs.f_frsize;
	image->granularity = (uint32_t)fs.f_frsize;
}

static void file_geometry(struct blk_image *image, const struct stat *st)
{
	image->size = (uint64_t)st->st_size;
	image->device_block = image->logical_block = BLK_SECTOR;
	block_size(image);
}

/* The smallest unit that can be read, for kernels without statx(STATX_DIOALIGN) (Linux 6.1). */
static uint32_t try_direct(const struct blk_image *image)
{
	uint8_t buf[2 * 4096] __attribute__((aligned(4096)));
	uint32_t unit = 512;

	while (unit < 4096 && pread(image->fd, buf + unit, unit, unit) < 0)
		unit *= 2;
	return unit;
}

/* The guest sees the image's blocks, whatever the host can do today. */
static int leave_direct(struct blk_image *image, uint32_t unit, struct error *e)
{
	int flags = fcntl(image->fd, F_GETFL);

	if (flags < 0 || fcntl(image->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return error_set(e, -errno, "cannot leave O_DIRECT: %s", strerror(errno));
	image->direct = false;
	log_warn("disk %s: O_DIRECT takes units of %u bytes here, and the guest's blocks have %u: "
		 "the host's page cache is used after all%s",
		 image->path, unit, image->logical_block,
		 unit == 4096 ? " (if the image was made for blocks of 4096, add `block-size=4096`)"
			      : "");
	return 0;
}

static int direct_alignment(struct blk_image *image, struct error *e)
{
	uint32_t unit = 0, memory = 0;

	image->memory_align = 1;
	if (!image->direct)
		return 0;
#ifdef STATX_DIOALIGN
	{
		struct statx stx;

		if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
		    (stx.stx_mask & STATX_DIOALIGN)) {
			unit = stx.stx_dio_offset_align;
			memory = stx.stx_dio_mem_align;
			if (!unit)
				return error_set(e, -EINVAL,
						 "its file system does not take O_DIRECT for this "
						 "file: leave `cache=none` out");
		}
	}
#endif
	if (!unit)
		unit = memory = image->device ? image->device_block : try_direct(image);
	if (unit > image->logical_block)
		return leave_direct(image, unit, e);
	image->memory_align = MAX(memory, 1u);
	return 0;
}

/* Drivers report odd things; nothing may be zero or less than a logical block. */
static void settle_geometry(struct blk_image *image)
{
	uint32_t logical = image->logical_block;

	if (image->physical_block < logical || image->physical_block % logical)
		image->physical_block = logical;
	if (image->granularity < logical || image->granularity % logical)
		image->granularity = logical;
	image->alignment_offset %= image->physical_block;
}

static int settle_size(struct blk_image *image, struct error *e)
{
	uint64_t size = image->size, tail = size % image->logical_block;

	if (size - tail == 0)
		return error_set(e, -EINVAL,
				 "has %llu bytes, which is no whole block of %u: enlarge it with "
				 "`skep disk resize`",
				 (unsigned long long)size, image->logical_block);
	if (tail)
		log_warn("disk %s: the last %llu bytes are not visible to the guest: the size is "
			 "not a multiple of %u",
			 image->path, (unsigned long long)tail, image->logical_block);
	image->size = size - tail;
	return 0;
}

/* A range that begins within a sector is always refused, but since Linux 5.19 with another error
 * when the device can erase. Older kernels give one answer, which counts as "cannot". */
static bool probe_secure_erase(int fd)
{
	uint64_t nowhere[2] = {1, 0};
	unsigned version = 0, patchlevel = 0;
	struct utsname u;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &version, &patchlevel) != 2 ||
	    version < 5 || (version == 5 && patchlevel < 19))
		return false;
	return ioctl(fd, BLKSECDISCARD, nowhere) < 0 && errno == EINVAL;
}

static void probe_device(struct blk_image *image, const struct stat *st,
			 const struct disk_config *config)
{
	uint64_t max = block_queue_limit(st->st_rdev, "discard_max_bytes");
	uint64_t step = max ? MIN(DISCARD_STEP, max) : DISCARD_STEP;

	image->discard = max > 0;
	image->discard_step = MAX(step - step % image->granularity, image->granularity);
	image->zero_punch = block_queue_limit(st->st_rdev, "write_zeroes_max_bytes") > 0;
	image->secure_erase = probe_secure_erase(image->fd);
	if (!image->discard && config->discard == DISCARD_UNMAP)
		log_warn("disk %s: the device does not discard: not offered to the guest",
			 image->path);
	if (image->discard && config->engine != ENGINE_SYNC)
		image->uring_discard = blk_uring_probe_discard(image->fd);
}

static void probe_file(struct blk_image *image, const struct disk_config *config)
{
	off_t past = (off_t)ALIGN_UP(image->size, MIB) + (off_t)MIB;

	image->discard_step = DISCARD_STEP;
	if (fallocate(image->fd, blk_fallocate_mode(BLK_DISCARD), past, (off_t)MIB) == 0)
		image->discard = image->zero_punch = true;
	else if (config->discard == DISCARD_UNMAP)
		log_warn("disk %s: holes cannot be punched here (%s): discard is not offered to "
			 "the guest, and what it frees stays allocated",
			 image->path, strerror(errno));
}

/* The first bytes of most other formats give them away. A guest may write what it likes there, but who
 * has an image of another kind has mostly forgotten to convert it; what is compressed may be data. */
static int check_format(const struct blk_image *image, const struct disk_config *config,
			struct error *e)
{
	static const struct {
		const char *name, *magic;
		unsigned offset, len;
		bool is_image;
	} formats[] = {
		{"qcow2", "QFI\xfb", 0, 4, true},
		{"VMDK", "KDMV", 0, 4, true},
		{"VHDX", "vhdxfile", 0, 8, true},
		{"VHD", "conectix", 0, 8, true},
		{"VDI", "\x7f\x10\xda\xbe", 64, 4, true},
		{"gzip", MAGIC_GZIP, 0, 2, false},
		{"xz", MAGIC_XZ, 0, 6, false},
		{"zstd", MAGIC_ZSTD, 0, 4, false},
	};
	uint8_t start[4096] __attribute__((aligned(4096))) = {0};
	size_t i = 0;

	if (image->device || config->format == FORMAT_RAW ||
	    pread(image->fd, start, sizeof(start), 0) < 0)
		return 0;
	while (i < ARRAY_SIZE(formats) &&
	       memcmp(start + formats[i].offset, formats[i].magic, formats[i].len) != 0)
		i++;
	if (i < ARRAY_SIZE(formats) && formats[i].is_image)
		return error_set(
			e, -ENOTSUP,
			"is a %s image, and disks are raw: convert it with `qemu-img "
			"convert -O raw`, or add `format=raw` if the guest is to see it as "
			"it stands",
			formats[i].name);
	if (i < ARRAY_SIZE(formats))
		log_warn("disk %s: is compressed (%s), and the guest sees it as it stands: "
			 "decompress it, or add `format=raw` if that is meant",
			 image->path, formats[i].name);
	return 0;
}

/* A GPT holds its own position, which is the second block. */
static bool has_gpt(const uint8_t *start, uint32_t block)
{
	static const uint8_t second[8] = {1};

	return !memcmp(start + block, "EFI PART", 8) && !memcmp(start + block + 24, second, 8);
}

/* Made for blocks of another size: the guest would find no partitions. */
static void warn_of_gpt(const struct blk_image *image)
{
	uint8_t start[8192] __attribute__((aligned(4096))) = {0};
	uint32_t other = image->logical_block == 512 ? 4096 : 512;

	if (image->logical_block > 4096 || pread(image->fd, start, sizeof(start), 0) < 0 ||
	    has_gpt(start, image->logical_block) || !has_gpt(start, other))
		return;
	log_warn("disk %s: its partition table (GPT) is for blocks of %u bytes, and the guest sees "
		 "blocks of %u: it finds no partitions; add `block-size=%u`",
		 image->path, other, image->logical_block, other);
}

static void set_block_size(struct blk_image *image, const struct disk_config *config)
{
	if (config->block_size != BLOCK_SIZE_AUTO)
		image->logical_block = config->block_size == BLOCK_SIZE_4096 ? 4096 : 512;
}

static int look_at(struct blk_image *image, const struct disk_config *config, struct error *e)
{
	struct stat st;
	int r = open_file(image, config, &st, e);

	if (r < 0)
		return r;
	image->device = S_ISBLK(st.st_mode);
	if (image->device)
		r = device_geometry(image, &st, e);
	else
		file_geometry(image, &st);
	set_block_size(image, config);
	if (r >= 0)
		r = direct_alignment(image, e);
	if (r < 0)
		return r;
	settle_geometry(image);
	r = settle_size(image, e);
	if (r == 0)
		r = check_format(image, config, e);
	if (r < 0)
		return r;
	if (!image->readonly) {
		if (image->device)
			probe_device(image, &st, config);
		else
			probe_file(image, config);
	}
	warn_of_gpt(image);
	return 0;
}

/* The overlay or clone of an open base: the guest sees the base's size and blocks. */
static int cover(struct blk_image *image, const struct disk_config *config, struct error *e)
{
	struct blk_image *base;
	struct disk_config read_only = *config;
	int r;

	read_only.readonly = true;
	read_only.ephemeral = false;
	r = blk_image_open(&base, &read_only, e);
	if (r < 0)
		return r;
	image->unsafe = image->ephemeral = true;
	image->size = base->size;
	image->logical_block = base->logical_block;
	image->device_block = BLK_SECTOR;
	image->direct = base->direct;
	image->memory_align = base->memory_align;
	r = blk_overlay_open(image, base, e);
	if (r < 0)
		return r;
	/* What is written is not; what is read from the base may be. */
	image->direct = image->direct && image->base;
	block_size(image);
	settle_geometry(image);
	probe_file(image, config);
	return 0;
}

int blk_image_open(struct blk_image **ret, const struct disk_config *config, struct error *e)
{
	struct blk_image *image = calloc(1, sizeof(*image));
	int r;

	if (!image)
		return error_set(e, -ENOMEM, "out of memory");
	image->fd = -1;
	image->readonly = config->readonly;
	image->direct = config->cache == CACHE_NONE;
	image->unsafe = config->cache == CACHE_UNSAFE;
	image->path = strdup(config->path);
	if (!image->path)
		r = error_set(e, -ENOMEM, "out of memory");
	else if (config->ephemeral)
		r = cover(image, config, e);
	else
		r = look_at(image, config, e);
	if (r < 0) {
		blk_image_close(image);
		return r;
	}
	*ret = image;
	return 0;
}
