// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the server's files share: inodes.c (what the guest knows), names.c, attr.c, file.c, dir.c (its
 * requests), serve.c (which of them there are) and device.c (the queues).
 *
 * DOC: Theory of operation. An inode that the guest has looked up is a descriptor opened with O_PATH,
 * which can do nothing but name it; the guest gives it back with FORGET. Requests name an inode, and
 * perhaps one component of a path in it: never "..", nor anything with a slash. So no request can
 * name what is not in the directory, wherever symbolic links point, and whoever renames what
 * meanwhile. Only regular files and directories are ever opened, by /proc/self/fd.
 *
 * A request's arguments are copied once, and are checked as a whole before anything is done; data
 * goes straight between the guest's buffers and the file.
 *
 * Each queue has a thread, that of FS_HIPRIO too, so that what the guest forgets waits for nobody. What
 * one forgets or closes another may be at work on: a request holds what it names until it has been
 * served, and descriptors are closed once nobody holds them.
 */
#ifndef SKEP_FS_DEVICE_H
#define SKEP_FS_DEVICE_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs.h"

enum { FS_HIPRIO, FS_REQUESTS };

#define FS_MAX_DATA    (1 * MIB) /* bytes of one READ or WRITE */
#define FS_MAX_ARGS    (72 * KIB) /* an extended attribute, which has 64 KiB at most, with its name */
#define FS_MAX_REPLY   (64 * KIB) /* but for READ */
#define FS_MAX_HANDLE  65536u	  /* open files and directories */
#define FS_NO_NODE     0u
#define FS_MAX_OWNERS  4096u
#define FS_MAX_WAITING 64u
#define FS_WAITS       (-EINPROGRESS) /* the request is not answered yet */

struct fs_node {
	uint64_t lookups; /* that the guest has not forgotten */
	unsigned holders; /* requests; 0, and no lookups: the place is free */
	uint64_t dev, ino, mount;
	int fd;	     /* O_PATH */
	mode_t type; /* S_IFREG ... */
	bool closed; /* of a file system that is the kernel's: its attributes are all that is shown */
	uint32_t next;	/* in its bucket, or the list of free places */
	int64_t seen_s; /* ctime when the guest last opened it */
	uint32_t seen_ns;
};

struct fs_handle {
	int fd;
	bool is_open, is_dir;
	unsigned holders; /* requests; 0, and not open: the place is free */
	uint32_t next;	  /* in the list of free places */
};

/* A process of the guest that has locks on an inode. */
struct fs_owner {
	struct fs_owner *next;
	uint64_t owner, dev, ino, mount;
	uint64_t fh;  /* whose descriptor has them */
	uint64_t via; /* the open file by which they were set */
};

/* A request that waits for a lock. */
struct fs_waiting {
	uint16_t head;
	struct fuse_in_header header;
	struct fuse_lk_in args;
	struct iovec in[sizeof(struct fuse_out_header)];
	unsigned num_in;
};

/* What serves a queue. */
struct fs_worker {
	struct fs *fs;
	unsigned queue;
	struct loop_timer retry;
	struct fs_waiting waiting[FS_MAX_WAITING];
	unsigned num_waiting;
	struct fuse_in_header header; /* of the request that is served */
	struct iovec iov[VIRTQ_MAX_SIZE], data[VIRTQ_MAX_SIZE];
	uint8_t args[FS_MAX_ARGS] __attribute__((aligned(8)));
	uint8_t reply[FS_MAX_REPLY] __attribute__((aligned(8)));
	uint8_t entries[32 * KIB] __attribute__((aligned(8))); /* of a directory */
};

struct fs {
	struct virtio_dev dev;
	struct fs_share share;
	_Atomic bool mounted;		   /* since INIT */
	_Atomic bool writeback, submounts; /* negotiated by it ... */
	_Atomic bool masks;		   /* the guest's umask is applied here */
	_Atomic bool long_setxattr;

	pthread_mutex_t
		lock; /* of nodes and handles, but for what a node is; nothing waits under it */
	/* A node's index is its ID, that of the root FUSE_ROOT_ID; a handle's is `fh`. Places beyond
	 * the highest that was ever used are untouched memory. */
	struct fs_node *nodes;
	struct fs_handle *handles;
	uint32_t *buckets; /* first nodes, by hash */
	uint32_t max_nodes, max_handles, bucket_mask;
	uint32_t free_node, free_handle;
	struct fs_owner *owners; /* of locks */
	unsigned num_owners;
	_Atomic uint32_t high_node, high_handle;
	_Atomic int64_t num_nodes, num_handles;

	/* Whose files new ones are; without the capabilities all are the process's own. */
	bool acts_for_users;
	uint64_t capabilities;
	uid_t uid;
	gid_t gid;

	unsigned num_timers;
	_Atomic int64_t requests, failed, read_bytes, written_bytes;
	struct fs_worker worker[]; /* by queue */
};

static inline struct fs *to_fs(const struct virtio_dev *dev)
{
	return container_of(dev, struct fs, dev);
}

/* A request that is being served: its arguments have at least the size that serve.c has for it, and
 * its reply, which is zeroed, as much room. */
struct fs_request {
	struct fs_worker *worker;
	const struct fuse_in_header *header;
	const void *args;
	size_t len;	      /* bytes of `args` */
	struct fs_node *node; /* that it names */
	void *out;	      /* for the reply without its header ... */
	size_t room;	      /* ... so many bytes fit there */
	const struct virtq_chain *chain;
	struct fs_node *nodes[3]; /* that it holds */
	struct fs_handle *handles[2];
	unsigned num_nodes, num_handles;
};

/* Requests return the bytes of their reply, or a negative errno. */
typedef ssize_t (*fs_serve)(struct fs *fs, struct fs_request *rq);

/* serve.c */

/* Serves a chain: the bytes written, FS_WAITS, or -EBADMSG with a reason. */
int64_t fs_serve_chain(struct fs *fs, struct fs_worker *worker, const struct virtq_chain *chain,
		       const char **why);

/* Writes the answer to a request that returned `r`; its bytes. */
int64_t fs_answer(struct fs *fs, const struct fs_request *rq, ssize_t r);

/* locks.c */

/* Of a process; by an open file, 0 for all. */
void fs_unlock_owner(struct fs *fs, const struct fs_node *node, uint64_t owner);
void fs_unlock_file(struct fs *fs, uint64_t fh);
/* The guest has gone: its files and locks, too. */
void fs_leave(struct fs *fs);

/* wait.c */

/* The request of this chain, which returned FS_WAITS, is tried again later. */
void fs_wait(struct fs_worker *worker, const struct virtq_chain *chain);
void fs_retry(struct loop_timer *timer);

/* inodes.c: "-ENFILE" says in the log what to do. */

int fs_inodes_init(struct fs *fs, struct error *e);
void fs_inodes_free(struct fs *fs);
/* Forgets all but the root, and closes all handles. */
void fs_forget_all(struct fs *fs);
/* The node, or NULL: there is none. The request holds it, three at most, until fs_let_go(). */
struct fs_node *fs_node(struct fs *fs, struct fs_request *rq, uint64_t id);
void fs_let_go(struct fs *fs, struct fs_request *rq); /* of handles, too */
void fs_forget(struct fs *fs, uint64_t id, uint64_t lookups);
/* Takes over `fd`, which is O_PATH, and counts a lookup. `parent` is where it was found. */
int fs_enter(struct fs *fs, int fd, const struct fs_node *parent, struct fuse_entry_out *ret);
/* The same for a name in the directory `dir`, which `parent` is. */
int fs_look_up(struct fs *fs, int dir, const struct fs_node *parent, const char *name,
	       struct fuse_entry_out *ret);
/* Whether most of the places are taken: what was not asked for has to wait. */
bool fs_is_nearly_full(const struct fs *fs);

/* Takes over `fd`; returns its number. */
int64_t fs_add_handle(struct fs *fs, int fd, bool is_dir);
/* The descriptor of an open file or directory, or -EBADF. Held as nodes are. */
int fs_handle(struct fs *fs, struct fs_request *rq, uint64_t fh, bool is_dir);
void fs_close_handle(struct fs *fs, uint64_t fh, bool is_dir);

/* The path by which a node can be opened, or changed where there is no other way. */
struct fs_path {
	char text[32];
};
struct fs_path fs_path(int fd);
/* Opens a regular file or directory. */
int fs_open(const struct fs_node *node, int flags);

void fs_fill_attr(const struct statx *st, struct fuse_attr *ret);
int fs_stat(int fd, struct statx *ret);
/* For how long the guest may believe what it was told, in seconds. */
uint64_t fs_validity(const struct fs *fs);

/* users.c */

/* What it takes to act for them. */
extern const uint64_t fs_capabilities;
/* Acts as the guest's user until fs_act_as_self(). */
int fs_act_as_user(struct fs *fs, const struct fuse_in_header *header);
void fs_act_as_self(struct fs *fs);
/* Writes take set-user-ID bits away, as those of users do, or not. */
void fs_kill_suid(struct fs *fs, bool on);

/* The requests, by name. */
#define FS_REQUEST(name) ssize_t fs_##name(struct fs *fs, struct fs_request *rq)
/* The name at *at in the arguments, which must be one component of a path; *at is beyond it then. */
int fs_take_name(const struct fs_request *rq, size_t *at, const char **ret);
/* The same, but any text. */
int fs_take_text(const struct fs_request *rq, size_t *at, const char **ret);

/* names.c */
FS_REQUEST(lookup);
FS_REQUEST(readlink);
FS_REQUEST(symlink);
FS_REQUEST(mknod);
FS_REQUEST(mkdir);
FS_REQUEST(unlink);
FS_REQUEST(rmdir);
FS_REQUEST(rename);
FS_REQUEST(rename2);
FS_REQUEST(link);
FS_REQUEST(create);
/* attr.c */
FS_REQUEST(getattr);
FS_REQUEST(setattr);
FS_REQUEST(statfs);
FS_REQUEST(getxattr);
FS_REQUEST(setxattr);
FS_REQUEST(listxattr);
FS_REQUEST(removexattr);
/* file.c */
FS_REQUEST(open_file);
FS_REQUEST(read);
FS_REQUEST(write);
FS_REQUEST(release);
FS_REQUEST(flush);
FS_REQUEST(fsync);
FS_REQUEST(fallocate);
FS_REQUEST(lseek);
FS_REQUEST(copy_file_range);
/* Fills the reply for a file that is open as `fd`, which it takes over. */
int fs_opened(struct fs *fs, struct fs_node *node, int fd, struct fuse_open_out *ret);
/* What the guest's flags for open(2) are here. */
int fs_open_flags(const struct fs *fs, uint32_t flags);
/* locks.c */
FS_REQUEST(getlk);
FS_REQUEST(setlk);
FS_REQUEST(setlkw);
/* dir.c */
FS_REQUEST(opendir);
FS_REQUEST(readdir);
FS_REQUEST(readdirplus);
FS_REQUEST(releasedir);
FS_REQUEST(fsyncdir);
FS_REQUEST(syncfs);

#endif
