// SPDX-License-Identifier: BSD-2-Clause
/* Shared directories: whose files are whose, and what the host does meanwhile. */
#include "fs_fixture.h"

#include <sys/xattr.h>

/* The host's view of it. */
static const struct stat *seen(struct fixture *f, const char *name)
{
	static struct stat st;

	assert_int_equal(lstat(host(f, name), &st), 0);
	return &st;
}

/* With root's capabilities files are their makers', and permissions are the guest's kernel's matter. */
static void test_files_belong_to_their_makers(void **state)
{
	struct fixture *f = begin();
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_setattr_in own = {.valid = FATTR_UID, .uid = 4321};
	uint64_t node = 0;
	const struct stat *st;

	(void)state;
	f->uid = geteuid() ? geteuid() + 1 : 1234;
	f->gid = 5678;
	assert_true(create(f, ROOT, "file", O_RDWR, &node) > 0);
	assert_true(ASK(f, FUSE_MKDIR, ROOT, &mkdir_in, "dir") > 0);
	assert_true(ask_named(f, FUSE_SYMLINK, ROOT, NULL, 0, "link", "to") > 0);
	st = seen(f, "dir");
	assert_int_equal(st->st_uid, geteuid() ? geteuid() : 1234);
	assert_int_equal(st->st_gid, geteuid() ? getegid() : 5678);
	st = seen(f, "link");
	assert_int_equal(st->st_uid, geteuid() ? geteuid() : 1234);
	f->uid = geteuid();
	f->gid = getegid();
	assert_true(ASK(f, FUSE_MKDIR, ROOT, &mkdir_in, "after") > 0);
	st = seen(f, "after");
	assert_int_equal(st->st_uid, geteuid());
	assert_int_equal(st->st_gid, getegid());
	if (geteuid())
		assert_int_equal(ASK(f, FUSE_SETATTR, node, &own, NULL), -EPERM);
	else
		assert_true(ASK(f, FUSE_SETATTR, node, &own, NULL) > 0);
	st = seen(f, "file");
	assert_int_equal(st->st_uid, geteuid() ? geteuid() : 4321);
	end(f);
}

/* CVE-2022-0358 (virtiofsd): in a directory of a group, no set-group-ID program by who is not in it. */
static void test_cve_2022_0358_no_program_of_another_group(void **state)
{
	struct fixture *f = begin();
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 02755};

	(void)state;
	if (geteuid())
		skip();
	assert_int_equal(mkdir(host(f, "dir"), 0), 0);
	assert_int_equal(chown(host(f, "dir"), 0, 777), 0);
	assert_int_equal(chmod(host(f, "dir"), 02777), 0);
	f->uid = 1234;
	f->gid = 5678;
	assert_true(ASK(f, FUSE_CREATE, (uint64_t)look_up(f, ROOT, "dir"), &in, "program") > 0);
	assert_int_equal(seen(f, "dir/program")->st_gid, 777);
	assert_int_equal(seen(f, "dir/program")->st_mode & 06000, 0);
	end(f);
}

/* CVE-2021-20263 (virtiofsd): a write takes away what a file may do beyond its user. */
static void test_cve_2021_20263_writes_take_privileges_away(void **state)
{
	/* VFS_CAP_REVISION_2, effective; CAP_NET_RAW */
	static const uint32_t caps[5] = {0x02000001, 1 << 13, 0, 0, 0};
	struct fixture *f = begin();
	struct fuse_write_in in = {.size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
	uint64_t node = 0;
	bool is_root = !geteuid();

	(void)state;
	in.fh = (uint64_t)create(f, ROOT, "program", O_RDWR, &node);
	assert_int_equal(chmod(host(f, "program"), 06777), 0);
	if (is_root)
		assert_int_equal(
			setxattr(host(f, "program"), "security.capability", caps, sizeof(caps), 0),
			0);
	memcpy(f->args, &in, sizeof(in));
	assert_true(ask(f, FUSE_WRITE, node, sizeof(in) + 1, 64) > 0);
	assert_int_equal(seen(f, "program")->st_mode & 07777, 0777);
	assert_int_equal(getxattr(host(f, "program"), "security.capability", NULL, 0), -1);
	/* Root's own writes are what they would be. */
	assert_int_equal(chmod(host(f, "program"), 04777), 0);
	assert_int_equal(write_at(f, (int64_t)in.fh, 0, "x", 1), 1);
	assert_int_equal(seen(f, "program")->st_mode & 07777, is_root ? 04777 : 0777);
	end(f);
}

/* What the guest knows goes away: it is told, each time. */
static void test_a_directory_deleted_under_the_guest(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0, dir;
	int64_t fh, file;

	(void)state;
	assert_int_equal(mkdir(host(f, "dir"), 0755), 0);
	host_file(f, "dir/file", "hello", 5);
	dir = (uint64_t)look_up(f, ROOT, "dir");
	fh = open_dir(f, dir);
	file = open_node(f, (uint64_t)look_up(f, dir, "file"), O_RDONLY);
	assert_int_equal(unlink(host(f, "dir/file")), 0);
	assert_int_equal(rmdir(host(f, "dir")), 0);
	assert_int_equal(look_up(f, dir, "file"), -ENOENT);
	assert_int_equal(create(f, dir, "new", O_RDWR, &node), -ENOENT);
	*(struct fuse_read_in *)f->args = (struct fuse_read_in){.fh = (uint64_t)fh, .size = 4096};
	assert_int_equal(ask(f, FUSE_READDIR, dir, sizeof(struct fuse_read_in), 4096), -ENOENT);
	assert_true(ask(f, FUSE_GETATTR, dir, 0, 4096) > 0);
	assert_int_equal(((const struct fuse_attr_out *)f->reply)->attr.nlink, 0);
	assert_int_equal(read_at(f, file, 0, 100), 5);
	end(f);
}

static void test_files_beyond_4_gib(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0, at = (5ull << 30) + 3;
	int64_t fh = create(f, ROOT, "huge", O_RDWR, &node);
	struct stat st;

	(void)state;
	assert_int_equal(write_at(f, fh, at, "end", 3), 3);
	assert_int_equal(stat(host(f, "huge"), &st), 0);
	assert_int_equal(st.st_size, at + 3);
	assert_int_equal(read_at(f, fh, at - 1, 100), 4);
	assert_memory_equal(f->reply, "\0end", 4);
	assert_int_equal(read_at(f, fh, UINT64_MAX, 100), -EINVAL);
	assert_int_equal(write_at(f, fh, UINT64_MAX - 1, "end", 3), -EINVAL);
	end(f);
}

static void test_a_file_that_is_unchanged_stays_in_the_guests_cache(void **state)
{
	struct fixture *f = begin();
	const struct fuse_open_out *out = f->reply;
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	uint64_t node;

	(void)state;
	host_file(f, "file", "one", 3);
	node = (uint64_t)look_up(f, ROOT, "file");
	assert_true(open_node(f, node, O_RDONLY) > 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0);
	assert_true(open_node(f, node, O_RDONLY) > 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0); /* it has just changed */
	sleep(3);
	assert_true(open_node(f, node, O_RDONLY) > 0);
	assert_true(open_node(f, node, O_RDONLY) > 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE);
	host_file(f, "file", "two", 3);
	assert_int_equal(utimensat(AT_FDCWD, host(f, "file"), old, 0),
			 0); /* which does not hide it */
	assert_true(open_node(f, node, O_RDONLY) > 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0);
	end(f);
}

/* As in the host's extended attributes: the owner, one more user, the group, the mask and others. */
static const struct {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} entry[5];
} acl = {2,
	 {{1, 6, UINT32_MAX},
	  {2, 6, 4321},
	  {4, 4, UINT32_MAX},
	  {16, 6, UINT32_MAX},
	  {32, 0, UINT32_MAX}}};
#define ACCESS_LIST  "system.posix_acl_access"
#define DEFAULT_LIST "system.posix_acl_default"

static int64_t set_list(struct fixture *f, uint64_t node, uint32_t flags)
{
	struct fuse_setxattr_in in = {.size = sizeof(acl), .setxattr_flags = flags};

	memcpy(f->args, &in, sizeof(in));
	strcpy((char *)f->args + sizeof(in), ACCESS_LIST);
	memcpy(f->args + sizeof(in) + sizeof(ACCESS_LIST), &acl, sizeof(acl));
	return ask(f, FUSE_SETXATTR, node, sizeof(in) + sizeof(ACCESS_LIST) + sizeof(acl), 0);
}

static void test_access_control_lists(void **state)
{
	struct fixture *f = begin_share((struct fs_share){.acl = true});
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0666, .umask = 0077};
	struct fuse_getxattr_in get = {.size = 100};
	uint64_t file, dir;

	(void)state;
	assert_int_equal(mkdir(host(f, "dir"), 0755), 0);
	if (setxattr(host(f, "dir"), DEFAULT_LIST, &acl, sizeof(acl), 0) < 0)
		skip(); /* this file system has none */
	assert_int_equal(f->flags & (FUSE_POSIX_ACL | FUSE_DONT_MASK),
			 FUSE_POSIX_ACL | FUSE_DONT_MASK);
	dir = (uint64_t)look_up(f, ROOT, "dir");
	assert_true(ASK(f, FUSE_CREATE, ROOT, &in, "masked") > 0);
	assert_int_equal(seen(f, "masked")->st_mode & 07777, 0600);
	assert_true(ASK(f, FUSE_CREATE, dir, &in, "listed") > 0);
	assert_int_equal(seen(f, "dir/listed")->st_mode & 07777, 0660);
	assert_int_equal(getxattr(host(f, "dir/listed"), ACCESS_LIST, NULL, 0), sizeof(acl));

	file = (uint64_t)look_up(f, ROOT, "masked");
	assert_int_equal(ASK(f, FUSE_GETXATTR, file, &get, ACCESS_LIST), -ENODATA);
	assert_int_equal(set_list(f, file, 0), 0);
	assert_int_equal(seen(f, "masked")->st_mode & 07777, 0660);
	assert_int_equal(ASK(f, FUSE_GETXATTR, file, &get, ACCESS_LIST), sizeof(acl));
	assert_memory_equal(f->reply, &acl, sizeof(acl));
	assert_int_equal(ASK(f, FUSE_LISTXATTR, file, &get, NULL), sizeof(ACCESS_LIST));
	assert_int_equal(ask(f, FUSE_SETXATTR, file, 12, 0), -EINVAL); /* half of it */
	end(f);
}

/* As CVE-2018-13405 (Linux): a list by who is not in the file's group. */
static void test_an_access_control_list_takes_set_group_id_away(void **state)
{
	struct fixture *f = begin_share((struct fs_share){.acl = true});
	uint64_t file;

	(void)state;
	if (geteuid())
		skip();
	host_file(f, "program", "", 0);
	file = (uint64_t)look_up(f, ROOT, "program");
	assert_int_equal(chown(host(f, "program"), 1234, 0), 0);
	assert_int_equal(chmod(host(f, "program"), 02770), 0);
	if (set_list(f, file, 0) == -EOPNOTSUPP)
		skip();
	assert_int_equal(seen(f, "program")->st_mode & 06000, 02000);
	f->uid = 1234;
	f->gid = 5678;
	assert_int_equal(set_list(f, file, FUSE_SETXATTR_ACL_KILL_SGID), 0);
	assert_int_equal(seen(f, "program")->st_mode & 06000, 0);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_belong_to_their_makers),
		cmocka_unit_test(test_cve_2022_0358_no_program_of_another_group),
		cmocka_unit_test(test_cve_2021_20263_writes_take_privileges_away),
		cmocka_unit_test(test_access_control_lists),
		cmocka_unit_test(test_an_access_control_list_takes_set_group_id_away),
		cmocka_unit_test(test_a_directory_deleted_under_the_guest),
		cmocka_unit_test(test_files_beyond_4_gib),
		cmocka_unit_test(test_a_file_that_is_unchanged_stays_in_the_guests_cache),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
