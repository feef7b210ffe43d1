// SPDX-License-Identifier: BSD-2-Clause
/* Where the command runs, and as whom. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "place.h"
#include "protocol.h"

#define ROOT	   "/skep-root" /* the command's, in the guest's own */
#define MAX_GROUPS 1024

static bool other_root;

const char *setup_next(const struct setup *setup, char kind, const char *last)
{
	const char *end = setup->text + setup->len;
	const char *p = last ? last + strlen(last) + 1 : setup->text;

	for (; p < end; p += strlen(p) + 1)
		if (*p == kind)
			return p + 1;
	return NULL;
}

static bool failed(const char *what)
{
	fprintf(stderr, "skep: in the guest: %s: %s\n", what, strerror(errno));
	return false;
}

/* A fresh one below the command's root; that it is there already is no fault. */
static bool mount_at(const char *type, const char *where, unsigned long flags, const char *options)
{
	char path[64];

	snprintf(path, sizeof(path), "%s%s", other_root ? ROOT : "", where);
	mkdir(path, 0755);
	return mount(type, path, type, flags, options) == 0 || errno == EBUSY || failed(path);
}

static void link_at(const char *to, const char *where)
{
	char path[64];

	snprintf(path, sizeof(path), "%s%s", other_root ? ROOT : "", where);
	if (symlink(to, path) < 0 && errno != EEXIST)
		failed(path);
}

static bool mount_usual(void)
{
	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
					       {"fd/0", "/dev/stdin"},
					       {"fd/1", "/dev/stdout"},
					       {"fd/2", "/dev/stderr"}};
	bool ok = mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
			   "gid=5,mode=620,ptmxmode=666") &&
		  mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		link_at(links[i][0], links[i][1]);
	return ok;
}

/* The disk with this serial number; its name in *ret. */
static bool find_disk(const char *serial, char ret[32])
{
	for (char c = 'a'; c <= 'z'; c++) {
		char path[64], text[32] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/block/vd%c/serial", c);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, text, sizeof(text) - 1);
		close(fd);
		if (strcmp(text, serial) == 0) {
			snprintf(ret, 32, "/dev/vd%c", c);
			return true;
		}
	}
	errno = ENODEV;
	return failed(serial);
}

static bool mount_disk(const char *serial)
{
	static const char *const types[] = {"ext4", "xfs", "btrfs", "squashfs"};
	char disk[32];

	if (!find_disk(serial, disk))
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (mount(disk, ROOT, types[i], 0, NULL) == 0 ||
		    (errno == EACCES && mount(disk, ROOT, types[i], MS_RDONLY, NULL) == 0))
			return true;
	return failed("--root: it has no ext4, xfs, btrfs or squashfs that can be mounted");
}

/* A directory of the command's root, by a name for the agent; it is made where it is not there, and links
 * are followed as the command would. */
static bool find_place(const char *path, char ret[32])
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT};
	int root = open(other_root ? ROOT : "/", O_PATH | O_CLOEXEC), at = dup(root), fd = -1;
	char *copy = strdup(path), *end = copy;

	while (copy && *end) {
		char *name = end + 1;

		end = strchrnul(name, '/');
		*end = '\0';
		fd = (int)syscall(SYS_openat2, root, copy, &how, sizeof(how));
		if (fd < 0 && errno == ENOENT && mkdirat(at, name, 0755) == 0)
			fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = fd;
		if (fd < 0)
			break;
		*end = path[end - copy];
	}
	free(copy);
	close(root);
	snprintf(ret, 32, "/proc/self/fd/%d", fd);
	return fd >= 0 || failed(path);
}

static bool mount_share(const char *tag, const char *where, unsigned long flags)
{
	return mount(tag, where, "virtiofs", flags, NULL) == 0 || failed(tag);
}

/* The share under an overlay; what is written is in memory. */
static bool mount_overlay(const struct setup *setup, const char *tag, const char *where)
{
	static const char *const parts[] = {"lower", "upper", "work"};
	const char *limit = setup_next(setup, AGENT_OVERLAY_LIMIT, NULL);
	char base[64], options[256], path[96];

	snprintf(base, sizeof(base), "/run/overlay.%s", tag);
	snprintf(options, sizeof(options), "mode=755%s%.20s", limit ? ",size=" : "",
		 limit ? limit : "");
	mkdir(base, 0755);
	if (mount("tmpfs", base, "tmpfs", 0, options) < 0)
		return failed(base);
	for (size_t i = sizeof(parts) / sizeof(parts[0]); i-- > 0;) {
		snprintf(path, sizeof(path), "%s/%s", base, parts[i]);
		mkdir(path, 0755);
	}
	snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
		 base, base, base);
	return mount_share(tag, path, MS_RDONLY) &&
	       (mount("overlay", where, "overlay", 0, options) == 0 || failed("overlay"));
}

static bool mount_root(const struct setup *setup)
{
	const char *disk = setup_next(setup, AGENT_ROOT_IMAGE, NULL);
	const char *share = setup_next(setup, AGENT_ROOT_SHARE, NULL);

	other_root = disk || share;
	if (!other_root)
		return true;
	mkdir(ROOT, 0755);
	return (disk ? mount_disk(disk) : mount_overlay(setup, share, ROOT)) &&
	       mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=755") &&
	       mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) &&
	       mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) &&
	       mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777") &&
	       mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
}

static bool mount_work(const struct setup *setup)
{
	const char *share = setup_next(setup, AGENT_WORK, NULL);
	const char *overlay = setup_next(setup, AGENT_WORK_OVERLAY, NULL);
	const char *directory = setup_next(setup, AGENT_DIRECTORY, NULL);
	char place[32];

	if (!directory || !(share || overlay))
		return true;
	return find_place(directory, place) &&
	       (share ? mount_share(share, place, 0) : mount_overlay(setup, overlay, place));
}

static bool mount_caches(const struct setup *setup)
{
	const char *text = NULL;
	char tag[37], place[32];

	while ((text = setup_next(setup, AGENT_CACHE, text))) {
		const char *path = strchr(text, ' ');

		errno = EINVAL;
		if (!path || path - text >= (ptrdiff_t)sizeof(tag))
			return failed(text);
		snprintf(tag, sizeof(tag), "%.*s", (int)(path - text), text);
		if (!find_place(path + 1, place) || !mount_share(tag, place, 0))
			return false;
	}
	return true;
}

/* Names of other hosts are looked up by who gave the guest its address. */
static void copy_resolv_conf(void)
{
	static const char to[] = ROOT "/etc/resolv.conf";
	char text[1024];
	int in = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC), out;
	ssize_t n = in < 0 ? -1 : read(in, text, sizeof(text));

	if (in >= 0)
		close(in);
	if (!other_root || n <= 0)
		return;
	unlink(to);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (out < 0 || write(out, text, (size_t)n) != n)
		failed(to);
	if (out >= 0)
		close(out);
}

bool place_make(const struct setup *setup)
{
	static bool made; /* for the first command */
	struct statfs fs;

	if (made)
		return true;
	made = true;
	if (geteuid() != 0 || statfs("/", &fs) < 0 ||
	    (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC))
		return true; /* this is not the default guest, but a system that has all it needs */
	if (!mount_root(setup) || !mount_usual() || !mount_work(setup) || !mount_caches(setup))
		return false;
	copy_resolv_conf();
	return true;
}

int place_open_terminal(void)
{
	int fd = open(other_root ? ROOT "/dev/ptmx" : "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int unlock = 0;

	if (fd < 0 || ioctl(fd, TIOCSPTLCK, &unlock) < 0)
		failed("/dev/ptmx");
	return fd;
}

/* The root of a namespace of its own, so that the guest's root is nowhere in it. */
bool place_enter(const struct setup *setup)
{
	(void)setup;
	if (!other_root)
		return true;
	return (unshare(CLONE_NEWNS) == 0 && chdir(ROOT) == 0 &&
		mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0) ||
	       failed("root");
}

/* Who the command runs as. */
struct user {
	uid_t uid;
	gid_t gid;
	gid_t groups[MAX_GROUPS];
	size_t num_groups;
};

static bool is_number(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

static unsigned number_of(const char *text)
{
	return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

/* Without the C library's modules, which a static program has not. */
static void find_groups(struct user *user, const char *name)
{
	FILE *f = fopen("/etc/group", "re");
	const struct group *group;

	while (f && (group = fgetgrent(f)))
		for (char **member = group->gr_mem; *member; member++)
			if (strcmp(*member, name) == 0 && user->num_groups < MAX_GROUPS)
				user->groups[user->num_groups++] = group->gr_gid;
	if (f)
		fclose(f);
}

/* NAME, UID or UID:GID. */
static bool find_user(struct user *user, const char *text)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *entry = NULL;
	const char *colon = strchr(text, ':');

	while (f && (entry = fgetpwent(f)))
		if (strcmp(entry->pw_name, text) == 0 ||
		    (is_number(text) && entry->pw_uid == number_of(text)))
			break;
	if (entry) {
		user->uid = entry->pw_uid;
		user->gid = entry->pw_gid;
		find_groups(user, entry->pw_name);
		setenv("HOME", entry->pw_dir, 0);
		setenv("USER", entry->pw_name, 0);
		setenv("LOGNAME", entry->pw_name, 0);
		setenv("SHELL", entry->pw_shell, 0);
	} else {
		user->uid = number_of(text);
		user->gid = colon ? number_of(colon + 1) : user->uid;
	}
	if (f)
		fclose(f);
	errno = ENOENT;
	return entry || is_number(text) ||
	       (colon && strspn(text, "0123456789") == (size_t)(colon - text)) || failed(text);
}

static bool become_user(const struct setup *setup)
{
	const char *name = setup_next(setup, AGENT_USER, NULL), *text = NULL;
	struct user user = {.uid = number_of(setup_next(setup, AGENT_UID, NULL)),
			    .gid = number_of(setup_next(setup, AGENT_GID, NULL))};

	while ((text = setup_next(setup, AGENT_GROUP, text)) && user.num_groups < MAX_GROUPS)
		user.groups[user.num_groups++] = number_of(text);
	if (name && !find_user(&user, name))
		return false;
	if (geteuid() != 0 && user.uid == geteuid())
		return true;
	for (int fd = 0; fd < 3; fd++) /* else they could not be opened by their names */
		if (fchown(fd, user.uid, user.gid) < 0)
			return failed("a standard stream");
	return (setgroups(user.num_groups, user.groups) == 0 && setgid(user.gid) == 0 &&
		setuid(user.uid) == 0) ||
	       failed("user");
}

bool place_become(const struct setup *setup)
{
	const char *text = NULL;

	clearenv();
	while ((text = setup_next(setup, AGENT_VARIABLE, text)))
		putenv((char *)(uintptr_t)text);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
	while ((text = setup_next(setup, AGENT_LIMIT, text))) {
		unsigned long long soft, hard;
		struct rlimit limit;
		int resource;

		if (sscanf(text, "%d %llu %llu", &resource, &soft, &hard) != 3)
			continue;
		limit = (struct rlimit){soft, hard};
		setrlimit((__rlimit_resource_t)resource, &limit);
	}
	if (!become_user(setup))
		return false;
	text = setup_next(setup, AGENT_UMASK, NULL);
	umask(text ? number_of(text) : 022);
	text = setup_next(setup, AGENT_DIRECTORY, NULL);
	return (text && chdir(text) == 0) || chdir("/") == 0 || failed("/");
}
