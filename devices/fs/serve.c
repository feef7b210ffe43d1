// SPDX-License-Identifier: BSD-2-Clause
/* Which requests there are, and what is the same for all of them. */
#include <errno.h>
#include <string.h>

#include "device.h"

#define MINOR	  36u /* of FUSE 7 */
#define MIN_MINOR 31u /* Linux 5.4, the first with virtio-fs */
#define ANSWER	  sizeof(struct fuse_out_header)
#define INIT_MIN  offsetof(struct fuse_init_in, flags2)

static ssize_t fs_init(struct fs *fs, struct fs_request *rq)
{
	const struct fuse_init_in *in = rq->args;
	struct fuse_init_out *out = rq->out;
	uint32_t flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
			 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
			 FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_SUBMOUNTS |
			 FUSE_HANDLE_KILLPRIV_V2;

	fs_leave(fs);
	out->major = FUSE_KERNEL_VERSION;
	out->minor = MIN(MINOR, in->minor);
	if (in->major > FUSE_KERNEL_VERSION)
		return sizeof(*out); /* it tries again */
	if (in->major < FUSE_KERNEL_VERSION || in->minor < MIN_MINOR)
		return -EPROTO;
	if (fs->share.cache == FS_CACHE_AUTO)
		flags |= FUSE_AUTO_INVAL_DATA;
	if (fs->share.cache == FS_CACHE_ALWAYS)
		flags |= FUSE_CACHE_SYMLINKS | (fs->share.readonly ? 0 : FUSE_WRITEBACK_CACHE);
	if (fs->share.locks)
		flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (fs->share.acl)
		flags |= FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT;
	if (fs->share.flat)
		flags &= ~(uint32_t)FUSE_SUBMOUNTS;
	flags &= in->flags;
	out->max_readahead = in->max_readahead;
	out->flags = flags;
	out->max_background = 64;
	out->congestion_threshold = 48;
	out->max_write = FS_MAX_DATA;
	out->max_pages = FS_MAX_DATA / 4096;
	out->time_gran = 1;
	fs->writeback = flags & FUSE_WRITEBACK_CACHE;
	fs->submounts = flags & FUSE_SUBMOUNTS;
	fs->masks = flags & FUSE_DONT_MASK;
	fs->long_setxattr = flags & FUSE_SETXATTR_EXT;
	fs->mounted = true;
	return sizeof(*out);
}

static ssize_t fs_destroy(struct fs *fs, struct fs_request *rq)
{
	(void)rq;
	fs_leave(fs);
	return 0;
}

static ssize_t forget(struct fs *fs, struct fs_request *rq)
{
	const struct fuse_forget_in *in = rq->args;

	fs_forget(fs, rq->header->nodeid, in->nlookup);
	return 0;
}

static ssize_t batch_forget(struct fs *fs, struct fs_request *rq)
{
	const struct fuse_batch_forget_in *in = rq->args;
	const struct fuse_forget_one *one = (const void *)(in + 1);
	size_t num = MIN(in->count, (rq->len - sizeof(*in)) / sizeof(*one));

	for (size_t i = 0; i < num; i++)
		fs_forget(fs, one[i].nodeid, one[i].nlookup);
	return 0;
}

/* A request has ended when this one is read. */
static ssize_t interrupt(struct fs *fs, struct fs_request *rq)
{
	(void)fs;
	(void)rq;
	return 0;
}

enum {
	NODE = 1,   /* it names an inode */
	WRITES = 2, /* it changes something */
	SILENT = 4, /* it has no reply */
};

struct request {
	fs_serve serve;
	uint8_t in, out; /* bytes that there are at least */
	uint8_t flags;
};

#define ARGS(type)  sizeof(struct fuse_##type)
#define ENTRY	    sizeof(struct fuse_entry_out)
#define XATTR_QUERY ARGS(getxattr_out)

static const struct request requests[] = {
	[FUSE_LOOKUP] = {fs_lookup, 0, ENTRY, NODE},
	[FUSE_FORGET] = {forget, ARGS(forget_in), 0, SILENT},
	[FUSE_GETATTR] = {fs_getattr, 0, ARGS(attr_out), NODE},
	[FUSE_SETATTR] = {fs_setattr, ARGS(setattr_in), ARGS(attr_out), NODE | WRITES},
	[FUSE_READLINK] = {fs_readlink, 0, 0, NODE},
	[FUSE_SYMLINK] = {fs_symlink, 0, ENTRY, NODE | WRITES},
	[FUSE_MKNOD] = {fs_mknod, ARGS(mknod_in), ENTRY, NODE | WRITES},
	[FUSE_MKDIR] = {fs_mkdir, ARGS(mkdir_in), ENTRY, NODE | WRITES},
	[FUSE_UNLINK] = {fs_unlink, 0, 0, NODE | WRITES},
	[FUSE_RMDIR] = {fs_rmdir, 0, 0, NODE | WRITES},
	[FUSE_RENAME] = {fs_rename, ARGS(rename_in), 0, NODE | WRITES},
	[FUSE_RENAME2] = {fs_rename2, ARGS(rename2_in), 0, NODE | WRITES},
	[FUSE_LINK] = {fs_link, ARGS(link_in), ENTRY, NODE | WRITES},
	[FUSE_OPEN] = {fs_open_file, ARGS(open_in), ARGS(open_out), NODE},
	[FUSE_READ] = {fs_read, ARGS(read_in), 0, 0},
	[FUSE_WRITE] = {fs_write, ARGS(write_in), ARGS(write_out), WRITES},
	[FUSE_STATFS] = {fs_statfs, 0, ARGS(kstatfs), NODE},
	[FUSE_RELEASE] = {fs_release, ARGS(release_in), 0, 0},
	[FUSE_FSYNC] = {fs_fsync, ARGS(fsync_in), 0, 0},
	[FUSE_SETXATTR] = {fs_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, 0, NODE | WRITES},
	[FUSE_GETXATTR] = {fs_getxattr, ARGS(getxattr_in), 0, NODE},
	[FUSE_LISTXATTR] = {fs_listxattr, ARGS(getxattr_in), 0, NODE},
	[FUSE_REMOVEXATTR] = {fs_removexattr, 0, 0, NODE | WRITES},
	[FUSE_GETLK] = {fs_getlk, ARGS(lk_in), ARGS(lk_out), NODE},
	[FUSE_SETLK] = {fs_setlk, ARGS(lk_in), 0, NODE},
	[FUSE_SETLKW] = {fs_setlkw, ARGS(lk_in), 0, NODE},
	[FUSE_FLUSH] = {fs_flush, ARGS(flush_in), 0, 0},
	[FUSE_INIT] = {fs_init, INIT_MIN, ARGS(init_out), 0},
	[FUSE_OPENDIR] = {fs_opendir, ARGS(open_in), ARGS(open_out), NODE},
	[FUSE_READDIR] = {fs_readdir, ARGS(read_in), 0, NODE},
	[FUSE_READDIRPLUS] = {fs_readdirplus, ARGS(read_in), 0, NODE},
	[FUSE_RELEASEDIR] = {fs_releasedir, ARGS(release_in), 0, 0},
	[FUSE_FSYNCDIR] = {fs_fsyncdir, ARGS(fsync_in), 0, 0},
	[FUSE_CREATE] = {fs_create, ARGS(create_in), ENTRY + ARGS(open_out), NODE | WRITES},
	[FUSE_INTERRUPT] = {interrupt, 0, 0, SILENT},
	[FUSE_DESTROY] = {fs_destroy, 0, 0, 0},
	[FUSE_BATCH_FORGET] = {batch_forget, ARGS(batch_forget_in), 0, SILENT},
	[FUSE_FALLOCATE] = {fs_fallocate, ARGS(fallocate_in), 0, WRITES},
	[FUSE_LSEEK] = {fs_lseek, ARGS(lseek_in), ARGS(lseek_out), 0},
	[FUSE_COPY_FILE_RANGE] = {fs_copy_file_range, ARGS(copy_file_range_in), ARGS(write_out),
				  WRITES},
	[FUSE_SYNCFS] = {fs_syncfs, 0, 0, NODE},
};

/* What makes a request one that is served. */
static int judge(struct fs *fs, const struct request *type, struct fs_request *rq)
{
	if (rq->header->len != rq->chain->out_bytes || rq->len < type->in || rq->room < type->out)
		return -EINVAL;
	if (type->serve != fs_init && !fs->mounted)
		return -EIO;
	if (type->flags & WRITES && fs->share.readonly)
		return -EROFS;
	rq->node = fs_node(fs, rq, rq->header->nodeid);
	if (type->flags & NODE && !rq->node)
		return -ESTALE;
	if (type->flags & NODE && rq->node->closed && type->serve != fs_getattr)
		return -EACCES;
	return 0;
}

static const struct request *find(uint32_t opcode)
{
	return opcode < ARRAY_SIZE(requests) && requests[opcode].serve ? &requests[opcode] : NULL;
}

/* Copies the arguments; all but those of WRITE, whose data stays where it is, must fit. */
static int take_args(struct fs_request *rq, uint32_t opcode)
{
	size_t len = rq->chain->out_bytes - sizeof(*rq->header);

	if (opcode == FUSE_WRITE)
		len = MIN(len, sizeof(struct fuse_write_in));
	if (len > sizeof(rq->worker->args))
		return -E2BIG;
	rq->args = rq->worker->args;
	rq->len = iov_read(rq->chain->iov, rq->chain->num_out, sizeof(*rq->header),
			   rq->worker->args, len);
	return 0;
}

static ssize_t serve(struct fs *fs, struct fs_request *rq)
{
	const struct request *type = find(rq->header->opcode);
	int r = type ? take_args(rq, rq->header->opcode) : -ENOSYS;

	if (r == 0)
		r = judge(fs, type, rq);
	if (r < 0)
		return r;
	memset(rq->worker->reply, 0, type->out);
	return type->serve(fs, rq);
}

int64_t fs_answer(struct fs *fs, const struct fs_request *rq, ssize_t r)
{
	const struct iovec *in = rq->chain->iov + rq->chain->num_out;
	struct fuse_out_header answer = {.len = ANSWER, .unique = rq->header->unique};

	if (r > 0 && rq->out && (size_t)r > rq->room)
		r = -ERANGE;
	fs->failed += r < 0 && r != -ENOENT;
	answer.error = (int32_t)MIN(r, 0);
	answer.len += (uint32_t)MAX(r, 0);
	iov_write(in, rq->chain->num_in, 0, &answer, sizeof(answer));
	if (r > 0 && rq->out)
		iov_write(in, rq->chain->num_in, sizeof(answer), rq->out, (size_t)r);
	return answer.len;
}

int64_t fs_serve_chain(struct fs *fs, struct fs_worker *worker, const struct virtq_chain *chain,
		       const char **why)
{
	struct fuse_in_header *header = &worker->header;
	struct fs_request rq = {
		.worker = worker, .header = header, .chain = chain, .out = worker->reply};
	const struct request *type;
	ssize_t r;

	*why = "a request is shorter than its header, or has no room for a reply";
	if (iov_read(chain->iov, chain->num_out, 0, header, sizeof(*header)) < sizeof(*header))
		return -EBADMSG;
	type = find(header->opcode);
	if (chain->in_bytes < ANSWER && !(type && type->flags & SILENT))
		return -EBADMSG;
	rq.room = chain->in_bytes < ANSWER ? 0 : chain->in_bytes - ANSWER;
	fs->requests++;
	r = serve(fs, &rq);
	fs_let_go(fs, &rq);
	if (type && type->flags & SILENT)
		return 0;
	return r == FS_WAITS ? FS_WAITS : fs_answer(fs, &rq, r);
}
