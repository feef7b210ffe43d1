// SPDX-License-Identifier: BSD-2-Clause
/* What a guest does with a shared directory. */
#include "fs_fixture.h"

#include "fs/device.h"

#include <sys/xattr.h>

static void test_the_tag_is_in_the_configuration(void **state)
{
	struct fixture *f = begin();
	char tag[36] = "share";

	(void)state;
	for (uint32_t i = 0; i < sizeof(tag); i += 4)
		assert_memory_equal(&(uint32_t){drv_read32(&f->d, VIRTIO_MMIO_CONFIG + i)}, tag + i,
				    4);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG + 36),
			 LOOPS - 1); /* request queues */
	end(f);
}

static void test_init_takes_what_is_honoured(void **state)
{
	static const uint32_t never = FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_EXPORT_SUPPORT |
				      FUSE_DONT_MASK | FUSE_POSIX_ACL | FUSE_MAP_ALIGNMENT;
	struct {
		bool readonly;
		enum fs_cache cache;
		uint32_t with, without;
	} cases[] = {
		{false, FS_CACHE_AUTO, FUSE_AUTO_INVAL_DATA, FUSE_WRITEBACK_CACHE},
		{false, FS_CACHE_ALWAYS, FUSE_WRITEBACK_CACHE, FUSE_AUTO_INVAL_DATA},
		{true, FS_CACHE_ALWAYS, FUSE_CACHE_SYMLINKS, FUSE_WRITEBACK_CACHE},
		{false, FS_CACHE_NEVER, FUSE_DO_READDIRPLUS, FUSE_WRITEBACK_CACHE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = begin_with(cases[i].readonly, cases[i].cache, 0);
		const struct fuse_init_out *out = f->reply;

		assert_int_equal(f->flags & cases[i].with, cases[i].with);
		assert_int_equal(f->flags & (cases[i].without | never), 0);
		assert_int_equal(out->max_write, out->max_pages * 4096);
		mount_share(f, 0);
		assert_int_equal(f->flags, 0);
		end(f);
	}
}

static void test_init_refuses_what_is_too_old(void **state)
{
	struct fixture *f = begin();
	struct fuse_init_in in = {.major = 7, .minor = 26};

	(void)state;
	assert_int_equal(ASK(f, FUSE_INIT, 0, &in, NULL), -EPROTO);
	assert_int_equal(look_up(f, ROOT, "x"), -EIO);
	in.major = 8; /* it is told the version that it may try */
	assert_true(ASK(f, FUSE_INIT, 0, &in, NULL) > 0);
	assert_int_equal(((const struct fuse_init_out *)f->reply)->major, 7);
	assert_int_equal(look_up(f, ROOT, "x"), -EIO);
	mount_share(f, 0);
	assert_int_equal(look_up(f, ROOT, "x"), -ENOENT);
	end(f);
}

static void test_reads_a_file(void **state)
{
	struct fixture *f = begin();
	_cleanup_free_ uint8_t *data = malloc(MIB + 5);
	int64_t node, fh;

	(void)state;
	for (size_t i = 0; i < MIB + 5; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
	host_file(f, "file", data, MIB + 5);
	node = look_up(f, ROOT, "file");
	assert_true(node > 1);
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.size, MIB + 5);
	fh = open_node(f, (uint64_t)node, O_RDONLY);
	assert_true(fh > 0);
	assert_int_equal(read_at(f, fh, 0, MIB), MIB);
	assert_memory_equal(f->reply, data, MIB);
	assert_int_equal(read_at(f, fh, MIB - 3, 4096), 8);
	assert_memory_equal(f->reply, data + MIB - 3, 8);
	assert_int_equal(read_at(f, fh, 2 * MIB, 4096), 0);
	assert_int_equal(write_at(f, fh, 0, "x", 1), -EBADF);
	assert_int_equal(counters(f).handles, 1);
	assert_int_equal(counters(f).read_bytes, MIB + 8);
	assert_int_equal(release(f, fh, false), 0);
	assert_int_equal(read_at(f, fh, 0, 16), -EBADF);
	assert_int_equal(counters(f).handles, 0);
	end(f);
}

static void test_writes_a_file(void **state)
{
	struct fixture *f = begin();
	_cleanup_free_ uint8_t *data = malloc(MIB), *back = malloc(MIB);
	uint64_t node = 0;
	int64_t fh;
	int fd;

	(void)state;
	memset(data, 0xa5, MIB);
	fh = create(f, ROOT, "new", O_RDWR | O_EXCL, &node);
	assert_true(fh > 0 && node > 1);
	assert_int_equal(create(f, ROOT, "new", O_RDWR | O_EXCL, &node), -EEXIST);
	assert_int_equal(write_at(f, fh, 4, data, MIB), MIB);
	assert_int_equal(counters(f).written_bytes, MIB);
	assert_int_equal(look_up(f, ROOT, "new"), node);
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.size, MIB + 4);
	fd = open(host(f, "new"), O_RDONLY);
	assert_int_equal(pread(fd, back, MIB, 4), MIB);
	close(fd);
	assert_memory_equal(data, back, MIB);
	forget(f, node, 2);
	assert_int_equal(counters(f).inodes, 1);
	assert_int_equal(read_at(f, fh, 4, 16), 16); /* what is open stays */
	end(f);
}

/* All names of a directory in one list, read `room` bytes at a time. */
static size_t nodes; /* that came with them */
static size_t list(struct fixture *f, uint32_t opcode, uint32_t room, uint8_t *seen, size_t max)
{
	int64_t fh = open_dir(f, ROOT), n;
	size_t num = 0, before = opcode == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;
	uint64_t offset = 0;

	assert_true(fh > 0);
	memset(seen, 0, max);
	nodes = 0;
	do {
		*(struct fuse_read_in *)f->args =
			(struct fuse_read_in){.fh = (uint64_t)fh, .offset = offset, .size = room};
		n = ask(f, opcode, ROOT, sizeof(struct fuse_read_in), room);
		assert_true(n >= 0);
		for (int64_t at = 0; at < n;) {
			const struct fuse_dirent *d =
				(const void *)((const uint8_t *)f->reply + at + before);
			const struct fuse_entry_out *entry =
				(const void *)((const uint8_t *)d - before);
			unsigned i;

			if (sscanf(d->name, "file%u", &i) == 1 && d->namelen == 10) {
				assert_in_range(i, 0, max - 1);
				seen[i]++;
				num++;
				if (before)
					assert_int_equal(entry->attr.ino, d->ino);
				nodes += before && entry->nodeid > 1;
			} else {
				assert_true(d->name[0] == '.' && (!before || !entry->nodeid));
			}
			offset = d->off;
			at += (int64_t)(before + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d->namelen));
		}
	} while (n);
	assert_int_equal(release(f, fh, true), 0);
	return num;
}

static void test_lists_a_directory(void **state)
{
	static const uint32_t rooms[] = {300, 4096, 65536, 1 << 20};
	struct fixture *f = begin();
	uint8_t seen[500];
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "file%06u", i);
		host_file(f, name, "", 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
		assert_int_equal(list(f, FUSE_READDIR, rooms[i], seen, 500), 500);
		assert_null(memchr(seen, 0, 500));
		assert_int_equal(list(f, FUSE_READDIRPLUS, rooms[i], seen, 500), 500);
		assert_null(memchr(seen, 0, 500));
		assert_int_equal(nodes, 500);
		assert_int_equal(counters(f).inodes, 501);
	}
	end(f);
}

static void test_100000_files_in_a_directory(void **state)
{
	enum { FILES = 100000 };
	struct fixture *f = begin_with(false, FS_CACHE_AUTO, 1000);
	_cleanup_free_ uint8_t *seen = malloc(FILES);
	char name[16];

	(void)state;
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file%06u", i);
		assert_int_equal(mknod(host(f, name), S_IFREG | 0644, 0), 0);
	}
	assert_int_equal(list(f, FUSE_READDIR, 1 << 16, seen, FILES), FILES);
	assert_null(memchr(seen, 0, FILES));
	/* Those for which there is no descriptor come without a node. */
	assert_int_equal(list(f, FUSE_READDIRPLUS, 1 << 16, seen, FILES), FILES);
	assert_null(memchr(seen, 0, FILES));
	assert_in_range(nodes, 500, 999);
	end(f);
}

static void test_makes_and_removes_names(void **state)
{
	struct fixture *f = begin();
	struct fuse_mkdir_in mkdir_in = {.mode = 0750};
	struct fuse_mknod_in mknod_in = {.mode = S_IFIFO | 0640};
	struct fuse_link_in link_in;
	struct stat st, st2;
	int64_t node;

	(void)state;
	assert_true(ASK(f, FUSE_MKDIR, ROOT, &mkdir_in, "dir") > 0);
	assert_int_equal(ASK(f, FUSE_MKDIR, ROOT, &mkdir_in, "dir"), -EEXIST);
	assert_int_equal(stat(host(f, "dir"), &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	node = look_up(f, ROOT, "dir");
	assert_true(ASK(f, FUSE_MKNOD, (uint64_t)node, &mknod_in, "pipe") > 0);
	assert_int_equal(stat(host(f, "dir/pipe"), &st), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0640);
	assert_true(ask_named(f, FUSE_SYMLINK, ROOT, NULL, 0, "link", "/etc/passwd") > 0);
	node = look_up(f, ROOT, "link");
	assert_int_equal(ask(f, FUSE_READLINK, (uint64_t)node, 0, 4096), 11);
	assert_memory_equal(f->reply, "/etc/passwd", 11);

	host_file(f, "file", "x", 1);
	link_in.oldnodeid = (uint64_t)look_up(f, ROOT, "file");
	assert_true(ASK(f, FUSE_LINK, ROOT, &link_in, "hard") > 0);
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->nodeid, link_in.oldnodeid);
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.nlink, 2);
	link_in.oldnodeid = (uint64_t)node; /* the link itself, not what it is to */
	assert_true(ASK(f, FUSE_LINK, ROOT, &link_in, "link2") > 0);
	assert_int_equal(lstat(host(f, "link"), &st), 0);
	assert_int_equal(lstat(host(f, "link2"), &st2), 0);
	assert_int_equal(st.st_ino, st2.st_ino);

	assert_int_equal(ask_named(f, FUSE_UNLINK, ROOT, NULL, 0, "dir", NULL), -EISDIR);
	assert_int_equal(ask_named(f, FUSE_RMDIR, ROOT, NULL, 0, "dir", NULL), -ENOTEMPTY);
	assert_int_equal(ask_named(f, FUSE_UNLINK, ROOT, NULL, 0, "hard", NULL), 0);
	assert_int_equal(access(host(f, "hard"), F_OK), -1);
	end(f);
}

static void test_renames(void **state)
{
	struct fixture *f = begin();
	struct fuse_rename_in to = {.newdir = ROOT};
	struct fuse_rename2_in to2 = {.newdir = ROOT};

	(void)state;
	host_file(f, "a", "a", 1);
	host_file(f, "b", "b", 1);
	assert_int_equal(mkdir(host(f, "dir"), 0755), 0);
	to.newdir = (uint64_t)look_up(f, ROOT, "dir");
	assert_int_equal(ask_named(f, FUSE_RENAME, ROOT, &to, sizeof(to), "a", "c"), 0);
	assert_int_equal(access(host(f, "dir/c"), F_OK), 0);
	to.newdir = 12345;
	assert_int_equal(ask_named(f, FUSE_RENAME, ROOT, &to, sizeof(to), "b", "c"), -ESTALE);
	to2.flags = RENAME_EXCHANGE;
	assert_int_equal(ask_named(f, FUSE_RENAME2, ROOT, &to2, sizeof(to2), "b", "dir"), 0);
	assert_int_equal(access(host(f, "b/c"), F_OK), 0);
	to2.flags = RENAME_NOREPLACE;
	assert_int_equal(ask_named(f, FUSE_RENAME2, ROOT, &to2, sizeof(to2), "b", "dir"), -EEXIST);
	to2.flags = 1u << 20;
	assert_int_equal(ask_named(f, FUSE_RENAME2, ROOT, &to2, sizeof(to2), "b", "dir"), -EINVAL);
	end(f);
}

static int64_t set(struct fixture *f, int64_t node, struct fuse_setattr_in in)
{
	return ASK(f, FUSE_SETATTR, (uint64_t)node, &in, NULL);
}

static void test_sets_attributes(void **state)
{
	struct fixture *f = begin();
	const struct fuse_attr_out *out = f->reply;
	int64_t node;

	(void)state;
	host_file(f, "file", "hello", 5);
	node = look_up(f, ROOT, "file");
	assert_true(set(f, node, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 04711}) > 0);
	assert_int_equal(out->attr.mode, S_IFREG | 04711);
	assert_true(
		set(f, node,
		    (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_ATIME_NOW | FATTR_ATIME,
					     .mtime = 12345,
					     .mtimensec = 678}) > 0);
	assert_int_equal(out->attr.mtime, 12345);
	assert_int_equal(out->attr.mtimensec, 678);
	assert_true(out->attr.atime > 1000000000);
	assert_true(set(f, node,
			(struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 1ull << 33}) > 0);
	assert_int_equal(out->attr.size, 1ull << 33);
	assert_int_equal(
		set(f, node, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX}),
		-EINVAL);
	assert_int_equal(symlink("file", host(f, "link")), 0);
	node = look_up(f, ROOT, "link");
	assert_true(set(f, node, (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 7}) > 0);
	assert_int_equal(out->attr.mtime, 7);
	assert_int_equal(set(f, node, (struct fuse_setattr_in){.valid = FATTR_MODE}), -EOPNOTSUPP);
	assert_int_equal(set(f, node, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EINVAL);
	assert_int_equal(look_up(f, ROOT, "file"), look_up(f, ROOT, "file"));
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.mtime != 7, 1);
	end(f);
}

static int64_t get_xattr(struct fixture *f, int64_t node, uint32_t opcode, const char *name,
			 uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	return ASK(f, opcode, (uint64_t)node, &in, name);
}

static void test_extended_attributes(void **state)
{
	struct fixture *f = begin();
	const struct fuse_getxattr_out *out = f->reply;
	uint32_t in[2] = {5, 0}; /* size, flags */
	int64_t node;

	(void)state;
	host_file(f, "file", "", 0);
	node = look_up(f, ROOT, "file");
	assert_int_equal(get_xattr(f, node, FUSE_GETXATTR, "user.a", 100), -ENODATA);
	memcpy(f->args, in, 8);
	memcpy(f->args + 8, "user.a\0value", 12);
	assert_int_equal(ask(f, FUSE_SETXATTR, (uint64_t)node, 8 + 12, 0), 0);
	assert_int_equal(ask(f, FUSE_SETXATTR, (uint64_t)node, 8 + 11, 0), -EINVAL);
	assert_int_equal(get_xattr(f, node, FUSE_GETXATTR, "user.a", 100), 5);
	assert_memory_equal(f->reply, "value", 5);
	assert_int_equal(get_xattr(f, node, FUSE_GETXATTR, "user.a", 0), sizeof(*out));
	assert_int_equal(out->size, 5);
	assert_int_equal(get_xattr(f, node, FUSE_GETXATTR, "user.a", 4), -ERANGE);
	assert_int_equal(get_xattr(f, node, FUSE_LISTXATTR, NULL, 100), 7);
	assert_memory_equal(f->reply, "user.a", 7);
	assert_int_equal(get_xattr(f, node, FUSE_GETXATTR, "system.posix_acl_access", 100),
			 -EOPNOTSUPP);
	assert_int_equal(ask_named(f, FUSE_REMOVEXATTR, (uint64_t)node, NULL, 0, "user.a", NULL),
			 0);
	assert_int_equal(getxattr(host(f, "file"), "user.a", NULL, 0), -1);
	end(f);
}

static void test_holes(void **state)
{
	struct fixture *f = begin();
	_cleanup_free_ uint8_t *data = malloc(MIB);
	struct fuse_fallocate_in in = {.length = 512 * KIB};
	struct fuse_lseek_in seek = {.whence = SEEK_HOLE};
	struct fuse_copy_file_range_in copy = {.off_in = MIB - 5, .off_out = 3, .len = 100};
	uint64_t node = 0;
	struct stat st;
	int64_t fh;

	(void)state;
	memset(data, 1, MIB);
	fh = create(f, ROOT, "file", O_RDWR, &node);
	assert_int_equal(write_at(f, fh, 0, data, MIB), MIB);
	in.fh = seek.fh = copy.fh_in = copy.fh_out = (uint64_t)fh;
	in.mode = 3; /* a hole that keeps the size */
	assert_int_equal(ASK(f, FUSE_FALLOCATE, node, &in, NULL), 0);
	assert_int_equal(stat(host(f, "file"), &st), 0);
	assert_int_equal(st.st_size, MIB);
	assert_true(st.st_blocks * 512 <= (blkcnt_t)(600 * KIB));
	assert_int_equal(ASK(f, FUSE_LSEEK, node, &seek, NULL), sizeof(struct fuse_lseek_out));
	assert_int_equal(((const struct fuse_lseek_out *)f->reply)->offset, 0);
	seek.whence = SEEK_DATA;
	assert_int_equal(ASK(f, FUSE_LSEEK, node, &seek, NULL), sizeof(struct fuse_lseek_out));
	assert_int_equal(((const struct fuse_lseek_out *)f->reply)->offset, 512 * KIB);
	seek.whence = SEEK_END;
	assert_int_equal(ASK(f, FUSE_LSEEK, node, &seek, NULL), -EINVAL);
	in.mode = 8; /* collapse */
	assert_int_equal(ASK(f, FUSE_FALLOCATE, node, &in, NULL), -EOPNOTSUPP);
	assert_true(ASK(f, FUSE_COPY_FILE_RANGE, node, &copy, NULL) > 0);
	assert_int_equal(((const struct fuse_write_out *)f->reply)->size, 5);
	assert_int_equal(read_at(f, fh, 2, 7), 7);
	assert_memory_equal(f->reply, "\0\1\1\1\1\1\0", 7);
	end(f);
}

static void test_sync_flush_statfs(void **state)
{
	struct fixture *f = begin();
	struct fuse_fsync_in sync = {.fh = 0};
	struct fuse_flush_in flush = {.fh = 0};
	uint64_t node = 0, padding = 0;

	(void)state;
	sync.fh = flush.fh = (uint64_t)create(f, ROOT, "file", O_RDWR, &node);
	assert_int_equal(ASK(f, FUSE_FSYNC, node, &sync, NULL), 0);
	sync.fsync_flags = FUSE_FSYNC_FDATASYNC;
	assert_int_equal(ASK(f, FUSE_FSYNC, node, &sync, NULL), 0);
	assert_int_equal(ASK(f, FUSE_FLUSH, node, &flush, NULL), 0);
	sync.fh = flush.fh = 999;
	assert_int_equal(ASK(f, FUSE_FSYNC, node, &sync, NULL), -EBADF);
	assert_int_equal(ASK(f, FUSE_FLUSH, node, &flush, NULL), -EBADF);
	sync.fh = (uint64_t)open_dir(f, ROOT);
	assert_int_equal(ASK(f, FUSE_FSYNC, node, &sync, NULL), -EBADF);
	assert_int_equal(ASK(f, FUSE_FSYNCDIR, node, &sync, NULL), 0);
	assert_int_equal(ASK(f, FUSE_SYNCFS, ROOT, &padding, NULL), 0);
	assert_int_equal(ask(f, FUSE_STATFS, ROOT, 0, 4096), sizeof(struct fuse_kstatfs));
	assert_true(((const struct fuse_kstatfs *)f->reply)->blocks > 0);
	end(f);
}

static void test_everything_is_given_back(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0;

	(void)state;
	host_file(f, "file", "", 0);
	for (int i = 0; i < 3; i++)
		node = (uint64_t)look_up(f, ROOT, "file");
	forget(f, node, 2);
	assert_int_equal(counters(f).inodes, 2);
	forget(f, node, UINT64_MAX);
	assert_int_equal(counters(f).inodes, 1);
	assert_int_equal(ask(f, FUSE_GETATTR, node, 0, 4096), -ESTALE);
	forget(f, node, 1);
	forget(f, ROOT, 100);
	forget(f, UINT64_MAX, 1);
	assert_int_equal(look_up(f, ROOT, "file"), node); /* the same place */
	open_node(f, node, O_RDONLY);
	open_dir(f, ROOT);
	assert_int_equal(ask(f, FUSE_DESTROY, 0, 0, 0), 0);
	assert_int_equal(counters(f).inodes, 1);
	assert_int_equal(counters(f).handles, 0);
	assert_int_equal(look_up(f, ROOT, "file"), -EIO);
	mount_share(f, ANY_FLAGS);
	assert_true(open_node(f, (uint64_t)look_up(f, ROOT, "file"), O_RDONLY) > 0);
	drv_reset(&f->d); /* as when the guest's kernel is gone */
	assert_int_equal(counters(f).inodes, 1);
	assert_int_equal(counters(f).handles, 0);
	end(f);
}

static void test_readonly_changes_nothing(void **state)
{
	static const uint32_t opcodes[] = {FUSE_SETATTR,   FUSE_SYMLINK,     FUSE_MKNOD,
					   FUSE_MKDIR,	   FUSE_UNLINK,	     FUSE_RMDIR,
					   FUSE_RENAME,	   FUSE_RENAME2,     FUSE_LINK,
					   FUSE_WRITE,	   FUSE_SETXATTR,    FUSE_CREATE,
					   FUSE_FALLOCATE, FUSE_REMOVEXATTR, FUSE_COPY_FILE_RANGE};
	struct fixture *f = begin_with(true, FS_CACHE_AUTO, 0);
	int64_t node;

	(void)state;
	host_file(f, "file", "hello", 5);
	memset(f->args, 0, 256);
	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++)
		assert_int_equal(ask(f, opcodes[i], ROOT, 256, 4096), -EROFS);
	node = look_up(f, ROOT, "file");
	assert_int_equal(open_node(f, (uint64_t)node, O_WRONLY), -EROFS);
	assert_int_equal(open_node(f, (uint64_t)node, O_RDWR), -EROFS);
	assert_int_equal(open_node(f, (uint64_t)node, O_RDONLY | O_TRUNC), -EROFS);
	assert_true(open_node(f, (uint64_t)node, O_RDONLY) > 0);
	end(f);
}

/* By what it is: a hard link is no way around, and nothing is made or emptied in its place. */
static void test_what_is_hidden_is_not_found(void **state)
{
	struct fixture *f = begin();
	struct fs_share *share = &to_fs(f->dev)->share;
	char path[512];
	struct stat st;

	(void)state;
	host_file(f, "secret", "hello", 5);
	snprintf(path, sizeof(path), "%s", host(f, "secret"));
	assert_int_equal(link(path, host(f, "link")), 0);
	assert_int_equal(stat(path, &st), 0);
	share->hidden[share->num_hidden++] = (struct fs_hidden){st.st_dev, st.st_ino};
	assert_int_equal(look_up(f, ROOT, "secret"), -ENOENT);
	assert_int_equal(look_up(f, ROOT, "link"), -ENOENT);
	assert_int_equal(create(f, ROOT, "secret", O_RDWR | O_TRUNC, &(uint64_t){0}), -ENOENT);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5);
	share->num_hidden = 0;
	assert_true(look_up(f, ROOT, "secret") > 0);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_tag_is_in_the_configuration),
		cmocka_unit_test(test_init_takes_what_is_honoured),
		cmocka_unit_test(test_init_refuses_what_is_too_old),
		cmocka_unit_test(test_reads_a_file),
		cmocka_unit_test(test_writes_a_file),
		cmocka_unit_test(test_lists_a_directory),
		cmocka_unit_test(test_100000_files_in_a_directory),
		cmocka_unit_test(test_makes_and_removes_names),
		cmocka_unit_test(test_renames),
		cmocka_unit_test(test_sets_attributes),
		cmocka_unit_test(test_extended_attributes),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_sync_flush_statfs),
		cmocka_unit_test(test_everything_is_given_back),
		cmocka_unit_test(test_readonly_changes_nothing),
		cmocka_unit_test(test_what_is_hidden_is_not_found),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
