// SPDX-License-Identifier: BSD-2-Clause
/* A directory of the host, shared with the guest (virtio 1.3, section 5.11). */
#ifndef SKEP_FS_H
#define SKEP_FS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

/* What a share is made from. */
struct fs_share {
	int root; /* the directory, O_PATH */
	char tag[FS_TAG_MAX + 1];
	bool readonly, flat; /* flat: submounts are not announced */
	bool locks;	     /* are the host's, too */
	bool acl;	     /* access control lists are the guest's to see and set */
	struct fs_hidden {
		uint64_t dev, ino;
	} hidden[FS_MAX_HIDDEN]; /* what is not found */
	size_t num_hidden;
	enum fs_cache cache;
	unsigned queues;    /* for requests */
	unsigned max_files; /* descriptors that it may have open at once, for the guest */
};

/* `loops` are of LOOP_EPOLL, one for what the guest forgets, and share->queues for requests, which may
 * keep them waiting for the host's file systems. The device takes `share->root` over (it is closed by
 * destroy, and on error). */
int fs_device_new(struct virtio_dev **ret, const struct gmem *mem, const struct fs_share *share,
		  struct loop *const *loops, struct error *e);

/* The server acts for the guest's users, if the process has the capabilities for that. Called once,
 * when the loops run and the guest does not yet; `confined`: their threads can open only what is in the
 * directory from now on, where the kernel has Landlock. */
int fs_device_enter(struct virtio_dev *dev, bool confined, struct error *e);

struct fs_counters {
	int64_t requests, failed;	   /* so far; with an error other than ENOENT */
	int64_t read_bytes, written_bytes; /* by the guest */
	int64_t inodes, handles;	   /* that the guest knows, and has open, now */
};
/* Any thread. */
void fs_counters(const struct virtio_dev *dev, struct fs_counters *ret);

#endif
