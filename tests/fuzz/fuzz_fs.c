// SPDX-License-Identifier: BSD-2-Clause
/*
 * Requests for a shared directory. Input: options, then one command after the other. What must hold: see
 * guest_check(); nothing beside the directory changes, or is read; what is open stays within its limit;
 * and as long as the driver keeps the rules, each chain is answered.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "device.h"
#include "fs/fs.h"

#define MAX_FILES 24u
#define SECRET	  "what is beside the directory"

enum { QUEUES = 3 }; /* one for what is forgotten, two for requests */

static bool waits; /* perhaps, for a lock */
static char top[64], in[80], outside[80];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void make_directory(void)
{
	const struct rlimit small = {.rlim_cur = MIB, .rlim_max = MIB};
	char path[128];

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small); /* a guest may allocate what it likes */
	/* Where fsync() and syncfs() take no time. */
	snprintf(top, sizeof(top), "%s/skep-fuzz-fs.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	check(mkdtemp(top));
	snprintf(in, sizeof(in), "%s/in", top);
	snprintf(outside, sizeof(outside), "%s/outside", top);
	put(outside, SECRET);
	check(mkdir(in, 0755) == 0);
	snprintf(path, sizeof(path), "%s/a", in);
	put(path, "some text");
	snprintf(path, sizeof(path), "%s/b", in);
	check(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/c", in);
	check(symlink("../outside", path) == 0);
	snprintf(path, sizeof(path), "%s/b/d", in);
	check(mkfifo(path, 0644) == 0);
}

/* All that is beside the directory is as it was. */
static void check_outside(void)
{
	char text[64] = "";
	unsigned names = 0;
	int fd = open(outside, O_RDONLY | O_CLOEXEC);
	DIR *dir = opendir(top);

	check(fd >= 0 && dir);
	check(read(fd, text, sizeof(text) - 1) == sizeof(SECRET) - 1 && !strcmp(text, SECRET));
	while (readdir(dir))
		names++;
	check(names == 4); /* with . and .. */
	closedir(dir);
	close(fd);
}

/* Whether the guest has got what it must not. */
static bool has_secret(void)
{
	return memmem(guest.drv.mem.region[0].host, RAM, SECRET, sizeof(SECRET) - 1);
}

static const char *pick_name(void)
{
	static const char *const names[] = {
		"a", "b", "c",	 "d",	       "e",	 "..",
		".", "",  "b/d", "../outside", "user.a", "system.posix_acl_access"};

	return names[take(1) % ARRAY_SIZE(names)];
}

/* Bytes of the struct that goes before the names, and of those after it. */
static const struct {
	uint32_t opcode;
	uint8_t args, names;
} kinds[] = {
	{FUSE_LOOKUP, 0, 1},	    {FUSE_LOOKUP, 0, 1},
	{FUSE_GETATTR, 16, 0},	    {FUSE_SETATTR, 88, 0},
	{FUSE_READLINK, 0, 0},	    {FUSE_SYMLINK, 0, 2},
	{FUSE_MKNOD, 16, 1},	    {FUSE_MKDIR, 8, 1},
	{FUSE_UNLINK, 0, 1},	    {FUSE_RMDIR, 0, 1},
	{FUSE_RENAME, 8, 2},	    {FUSE_RENAME2, 16, 2},
	{FUSE_LINK, 8, 1},	    {FUSE_OPEN, 8, 0},
	{FUSE_READ, 40, 0},	    {FUSE_READ, 40, 0},
	{FUSE_WRITE, 40, 1},	    {FUSE_STATFS, 0, 0},
	{FUSE_RELEASE, 24, 0},	    {FUSE_FSYNC, 16, 0},
	{FUSE_SETXATTR, 8, 2},	    {FUSE_GETXATTR, 8, 1},
	{FUSE_LISTXATTR, 8, 0},	    {FUSE_REMOVEXATTR, 0, 1},
	{FUSE_FLUSH, 24, 0},	    {FUSE_INIT, 16, 0},
	{FUSE_OPENDIR, 8, 0},	    {FUSE_READDIR, 40, 0},
	{FUSE_READDIRPLUS, 40, 0},  {FUSE_RELEASEDIR, 24, 0},
	{FUSE_CREATE, 16, 1},	    {FUSE_CREATE, 16, 1},
	{FUSE_DESTROY, 0, 0},	    {FUSE_FORGET, 8, 0},
	{FUSE_BATCH_FORGET, 40, 0}, {FUSE_FALLOCATE, 32, 0},
	{FUSE_LSEEK, 24, 0},	    {FUSE_COPY_FILE_RANGE, 56, 0},
	{FUSE_SYNCFS, 8, 0},	    {FUSE_SETXATTR, 16, 2},
	{FUSE_SETLK, 48, 0},	    {FUSE_SETLKW, 48, 0},
	{FUSE_GETLK, 48, 0},
};

/* What a request's struct mostly begins with: small numbers, of nodes, handles, flags and sizes. */
static void fill_args(uint8_t *args, size_t len)
{
	for (size_t i = 0; i + 4 <= len; i += 4) {
		uint32_t v = (uint32_t)take(1);

		v = v < 250 ? v % 8 : (uint32_t)take(4);
		if (v == 7)
			v = 4096;
		memcpy(args + i, &v, 4);
	}
}

static void request(void)
{
	size_t which = take(1) % ARRAY_SIZE(kinds), len = kinds[which].args;
	gpa_t at = GPA(RAM - AREA), reply = GPA(RAM - AREA / 2);
	uint8_t *p = drv_ptr(&guest.drv, at, 4096), *args = p + sizeof(struct fuse_in_header);
	struct fuse_in_header header = {.opcode = kinds[which].opcode, .nodeid = take(1) % 8};
	uint64_t how = take(1);
	struct drv_buf bufs[3];

	fill_args(args, len);
	if (header.opcode == FUSE_INIT)
		memcpy(args, &(struct fuse_init_in){.major = 7, .minor = 38, .flags = UINT32_MAX},
		       16);
	for (unsigned i = 0; i < kinds[which].names; i++) {
		const char *name = pick_name();

		memcpy(args + len, name, strlen(name) + 1);
		len += strlen(name) + 1;
	}
	waits = waits || header.opcode == FUSE_SETLKW;
	if (header.opcode == FUSE_WRITE)
		((struct fuse_write_in *)args)->size = (uint32_t)len - 40;
	len += how > 250 ? take(1) : 0;
	header.len = (uint32_t)(sizeof(header) + len) + (how == 249);
	memcpy(p, &header, sizeof(header));
	bufs[0] = (struct drv_buf){at, (uint32_t)(how % 41), false};
	bufs[1] = (struct drv_buf){GPA(at.v + bufs[0].len),
				   (uint32_t)(sizeof(header) + len) - bufs[0].len, false};
	bufs[2] = (struct drv_buf){reply, how == 248 ? (uint32_t)take(1) : 8192, true};
	guest_send(&guest.drv.queue[how % QUEUES], bufs, 3, how & 0x20);
}

static void command(void)
{
	uint64_t what = take(1);
	struct drv_queue *q = &guest.drv.queue[what % QUEUES];
	struct fs_counters c;

	if (what < 195)
		request();
	else if (what < 200)
		guest_send_any(q, what & 2);
	else
		guest_damage(q, what);
	for (unsigned i = 0; i < QUEUES; i++) {
		guest_kick(&guest.drv.queue[i]);
		guest_reap(&guest.drv.queue[i]);
		guest_check();
	}
	fs_counters(guest.dev, &c);
	check(c.inodes >= 1 && c.handles >= 0 && c.inodes + c.handles <= MAX_FILES);
	check(guest.changing || drv_is_broken(&guest.drv) || guest.lawless || waits ||
	      guest.answered == guest.sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fs_share share = {.tag = "fuzz", .queues = 2, .max_files = MAX_FILES};
	struct loop *loops[3];
	unsigned commands = 0;
	uint64_t how;

	guest.in = (struct input){data, size};
	waits = false;
	make_directory();
	guest_init(take(1) & 1);
	how = take(1);
	share.acl = how & 8;
	share.locks = how & 16;
	share.readonly = how % 8 == 7;
	share.cache = (enum fs_cache)(take(1) % 3);
	share.root = open(in, O_PATH | O_CLOEXEC);
	for (unsigned i = 0; i < QUEUES; i++)
		loops[i] = guest.loop;
	check(fs_device_new(&guest.dev, &guest.drv.mem, &share, loops, NULL) == 0);
	guest_start(take(1) << 28);
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command();
	check(!has_secret());
	guest_end();
	check_outside();
	check(nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
	return 0;
}
