// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whose files are whose.
 *
 * DOC: The guest's kernel checks what its users may do (it mounts with default_permissions), and could
 * claim to be any of them. So users matter where a file is made: it is to belong to who made it. The
 * file system's user ID of the thread is then that user's, and its capabilities, which the kernel
 * takes with that, are given back. Without them, as for an ordinary user, all files are the user's
 * that skep runs as.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "device.h"
#include "sandbox/sandbox.h"

#define CAP(name) (1ull << CAP_##name)

const uint64_t fs_capabilities = CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) |
				 CAP(FOWNER) | CAP(FSETID) | CAP(SETFCAP) | CAP(SETGID) |
				 CAP(SETUID);

static int set_effective(const struct fs *fs, uint64_t caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.permitted = (uint32_t)fs->capabilities, .effective = (uint32_t)caps},
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int fs_act_as_user(struct fs *fs, const struct fuse_in_header *header)
{
	/* No program of a group that its maker is not in. */
	uint64_t of_users = fs->capabilities & ~CAP(FSETID);

	if (!fs->acts_for_users || (header->uid == fs->uid && header->gid == fs->gid))
		return 0;
	syscall(SYS_setfsgid, header->gid);
	syscall(SYS_setfsuid, header->uid);
	/* What they return is the ID before. */
	if ((gid_t)syscall(SYS_setfsgid, -1) == header->gid &&
	    (uid_t)syscall(SYS_setfsuid, -1) == header->uid &&
	    set_effective(fs, header->uid == fs->uid ? fs->capabilities : of_users) == 0)
		return 0;
	fs_act_as_self(fs);
	return -EPERM;
}

void fs_act_as_self(struct fs *fs)
{
	int saved = errno;

	if (fs->acts_for_users) {
		syscall(SYS_setfsuid, fs->uid);
		syscall(SYS_setfsgid, fs->gid);
		set_effective(fs, fs->capabilities);
	}
	errno = saved;
}

void fs_kill_suid(struct fs *fs, bool on)
{
	static _Thread_local bool kills_suid;
	int saved = errno;

	if (fs->acts_for_users && on != kills_suid) {
		set_effective(fs, on ? fs->capabilities & ~CAP(FSETID) : fs->capabilities);
		kills_suid = on;
	}
	errno = saved;
}

/* With all of them, it is to act for the guest's users; no other groups are to have a say. */
static int take_capabilities(struct fs *fs)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	fs->uid = geteuid();
	fs->gid = getegid();
	if (syscall(SYS_capget, &header, data) < 0 ||
	    (data[0].permitted & fs_capabilities) != fs_capabilities)
		return 0;
	fs->capabilities = fs_capabilities;
	fs->acts_for_users = true;
	if (syscall(SYS_setgroups, 0, NULL) < 0)
		return -errno;
	return set_effective(fs, fs->capabilities);
}

struct entry {
	struct fs *fs;
	bool confined;
	struct error *e;
	int r;
};

static void enter_here(void *arg)
{
	struct entry *entry = arg;

	entry->r = take_capabilities(entry->fs);
	if (entry->r < 0)
		error_set(entry->e, entry->r, "cannot act for the guest's users: %m");
	if (entry->r == 0 && entry->confined)
		entry->r = sandbox_confine(&entry->fs->share.root, 1, !entry->fs->share.readonly,
					   entry->e);
}

int fs_device_enter(struct virtio_dev *dev, bool confined, struct error *e)
{
	struct entry entry = {.fs = to_fs(dev), .confined = confined, .e = e};

	for (unsigned i = 0; i < dev->num_queues && entry.r == 0; i++)
		loop_call(dev->queue[i].loop, enter_here, &entry);
	return entry.r;
}
