// SPDX-License-Identifier: BSD-2-Clause
/* What a hostile guest may try with a shared directory. */
#include "fs_fixture.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

/* Names that are no single component of a path, as in CVE-2016-7116 (9pfs, ".."), CVE-2016-9602
 * (9pfs), libkrun's issue 329, and CVE-2026-47243 (a symbolic link with an absolute name). */
static const struct {
	const char *name;
	int err;
} bad_names[] = {
	{"..", -EINVAL},
	{".", -EINVAL},
	{"", -EINVAL},
	{"../outside", -EINVAL},
	{"/etc/passwd", -EINVAL},
	{"/", -EINVAL},
	{"a/b", -EINVAL},
	{"dir/../../outside", -EINVAL},
	{"dir/", -EINVAL},
	{"./file", -EINVAL},
};

static void test_names_have_one_component(void **state)
{
	static const struct {
		uint32_t opcode, args;
	} takers[] = {
		{FUSE_LOOKUP, 0},
		{FUSE_MKDIR, sizeof(struct fuse_mkdir_in)},
		{FUSE_MKNOD, sizeof(struct fuse_mknod_in)},
		{FUSE_UNLINK, 0},
		{FUSE_RMDIR, 0},
		{FUSE_CREATE, sizeof(struct fuse_create_in)},
	};
	struct fixture *f = begin();
	uint8_t zeros[128] = {0};
	char longest[300];

	(void)state;
	assert_int_equal(mkdir(host(f, "dir"), 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(takers); i++) {
		for (size_t n = 0; n < ARRAY_SIZE(bad_names); n++)
			assert_int_equal(ask_named(f, takers[i].opcode, ROOT, zeros, takers[i].args,
						   bad_names[n].name, NULL),
					 bad_names[n].err);
		memset(longest, 'x', sizeof(longest));
		longest[256] = '\0';
		assert_int_equal(
			ask_named(f, takers[i].opcode, ROOT, zeros, takers[i].args, longest, NULL),
			-ENAMETOOLONG);
		/* Without a NUL, the name would go on in other memory. */
		memset(f->args, 0, takers[i].args);
		memset(f->args + takers[i].args, 'x', 8);
		assert_int_equal(ask(f, takers[i].opcode, ROOT, takers[i].args + 8, 4096), -EINVAL);
		assert_int_equal(ask(f, takers[i].opcode, ROOT, takers[i].args, 4096), -EINVAL);
	}
	end(f);
}

static void test_both_names_have_one_component(void **state)
{
	struct fixture *f = begin();
	struct fuse_rename_in to = {.newdir = ROOT};
	struct fuse_rename2_in to2 = {.newdir = ROOT};
	struct fuse_link_in link_in;

	(void)state;
	host_file(f, "file", "x", 1);
	link_in.oldnodeid = (uint64_t)look_up(f, ROOT, "file");
	for (size_t n = 0; n < ARRAY_SIZE(bad_names); n++) {
		const char *bad = bad_names[n].name;

		assert_int_equal(ask_named(f, FUSE_RENAME, ROOT, &to, sizeof(to), "file", bad),
				 -EINVAL);
		assert_int_equal(ask_named(f, FUSE_RENAME, ROOT, &to, sizeof(to), bad, "x"),
				 -EINVAL);
		assert_int_equal(ask_named(f, FUSE_RENAME2, ROOT, &to2, sizeof(to2), "file", bad),
				 -EINVAL);
		assert_int_equal(ASK(f, FUSE_LINK, ROOT, &link_in, bad), -EINVAL);
		assert_int_equal(ask_named(f, FUSE_SYMLINK, ROOT, NULL, 0, bad, "to"), -EINVAL);
	}
	end(f);
}

/* CVE-2016-9602 (9pfs): symbolic links are the guest's to follow, the last one of a path too. */
static void test_links_are_not_followed(void **state)
{
	static const char *const targets[] = {"../outside", "/etc/passwd", "..", "/",
					      "/proc/self/root"};
	struct fixture *f = begin();
	struct fuse_setattr_in in = {.valid = FATTR_SIZE};
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		uint64_t node = 0;
		int64_t link;

		assert_int_equal(symlink(targets[i], host(f, "link")), 0);
		link = look_up(f, ROOT, "link");
		assert_true(link > 1);
		assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.mode & S_IFMT,
				 S_IFLNK);
		assert_int_equal(open_node(f, (uint64_t)link, O_RDWR), -ELOOP);
		assert_int_equal(open_dir(f, (uint64_t)link), -ELOOP);
		assert_int_equal(look_up(f, (uint64_t)link, "outside"), -ENOTDIR);
		assert_int_equal(create(f, (uint64_t)link, "new", O_RDWR, &node), -ENOTDIR);
		assert_int_equal(create(f, ROOT, "link", O_RDWR | O_TRUNC, &node), -ELOOP);
		assert_int_equal(ASK(f, FUSE_SETATTR, (uint64_t)link, &in, NULL), -EINVAL);
		assert_int_equal(unlink(host(f, "link")), 0);
	}
	assert_int_equal(stat(host(f, "../outside"), &st), 0);
	assert_int_equal(st.st_size, 6);
	end(f);
}

/* The guest gets this directory, read-only, instead of what it had. */
static void share_instead(struct fixture *f, const char *dir)
{
	struct fs_share share = {.root = open(dir, O_PATH | O_CLOEXEC),
				 .tag = "x",
				 .readonly = true,
				 .queues = 1,
				 .max_files = 100};

	virtio_dev_quiesce(f->dev);
	stop_loops(f);
	new_loops(f);
	assert_int_equal(fs_device_new(&f->dev, &f->d.mem, &share, f->loop, NULL), 0);
	drv_attach(&f->d, f->dev);
	start_loops(f);
	drv_start(&f->d, UINT64_MAX, 0);
	mount_share(f, ANY_FLAGS);
}

/* Those of /proc jump, without a path. */
static void test_magic_links_are_not_followed(void **state)
{
	static const char *const names[] = {"root", "cwd", "exe"};
	struct fixture *f = begin();
	int64_t link, fd;

	(void)state;
	share_instead(f, "/proc/self");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		link = look_up(f, ROOT, names[i]);
		assert_true(link > 1);
		assert_int_equal(open_node(f, (uint64_t)link, O_RDONLY), -ELOOP);
		assert_int_equal(open_dir(f, (uint64_t)link), -ELOOP);
		assert_int_equal(look_up(f, (uint64_t)link, "etc"), -ENOTDIR);
	}
	fd = look_up(f, ROOT, "fd");
	link = look_up(f, (uint64_t)fd, "0");
	assert_true(link > 1);
	assert_int_equal(open_node(f, (uint64_t)link, O_RDONLY), -ELOOP);
	end(f);
}

/* A share of / would else have the host's settings, and other processes' environments. */
static void test_the_kernels_own_file_systems_are_closed(void **state)
{
	struct fixture *f = begin();
	int64_t proc;

	(void)state;
	share_instead(f, "/");
	proc = look_up(f, ROOT, "proc");
	assert_true(proc > 1);
	assert_int_equal(((const struct fuse_entry_out *)f->reply)->attr.flags, 0);
	assert_true(ask(f, FUSE_GETATTR, (uint64_t)proc, 0, 4096) > 0);
	assert_int_equal(look_up(f, (uint64_t)proc, "self"), -EACCES);
	assert_int_equal(open_dir(f, (uint64_t)proc), -EACCES);
	assert_true(look_up(f, ROOT, "tmp") > 1);
	assert_true(open_dir(f, ROOT) > 0);
	end(f);
}

struct swapper {
	struct fixture *f;
	_Atomic bool over;
	char a[128], b[128], link[128];
};

/* Somebody of the host makes a directory a link to outside, and back, all the time. */
static void *swap(void *arg)
{
	struct swapper *s = arg;

	while (!s->over)
		renameat2(AT_FDCWD, s->a, AT_FDCWD, s->link, RENAME_EXCHANGE);
	return NULL;
}

/* CVE-2021-20181, CVE-2018-19489 and CVE-2018-19364 (9pfs): a path changes between its check and its
 * use. */
static void test_a_host_that_renames_opens_no_way_out(void **state)
{
	struct fixture *f = begin();
	struct swapper s = {.f = f};
	unsigned inside = 0, refused = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(mkdir(host(f, "dir"), 0755), 0);
	host_file(f, "dir/outside", "public", 6);
	assert_int_equal(symlink("..", host(f, "link")), 0);
	snprintf(s.a, sizeof(s.a), "%s/dir", f->dir);
	snprintf(s.link, sizeof(s.link), "%s/link", f->dir);
	assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
	for (unsigned i = 0; i < 3000 || !inside || !refused; i++) {
		int64_t dir = look_up(f, ROOT, "dir"), file, fh;

		assert_true(dir > 0 || dir == -ENOENT);
		file = dir > 0 ? look_up(f, (uint64_t)dir, "outside") : dir;
		if (file < 0) {
			refused++;
			assert_true(file == -ENOENT || file == -ENOTDIR);
			continue;
		}
		fh = open_node(f, (uint64_t)file, O_RDONLY);
		assert_true(fh > 0);
		assert_int_equal(read_at(f, fh, 0, 100), 6);
		assert_memory_equal(f->reply, "public", 6);
		assert_int_equal(release(f, fh, false), 0);
		inside++;
	}
	s.over = true;
	pthread_join(thread, NULL);
	end(f);
}

/* CVE-2023-2861 (9pfs) and CVE-2020-35517 (virtiofsd): what is special on the host is not opened. An
 * open of a pipe would wait as well. */
static void test_special_files_are_not_opened(void **state)
{
	struct fixture *f = begin();
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fuse_setattr_in in = {.valid = FATTR_SIZE};
	const char *names[] = {"pipe", "socket", "null"};
	uint64_t node = 0;
	int fd;

	(void)state;
	assert_int_equal(mkfifo(host(f, "pipe"), 0666), 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", host(f, "socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (mknod(host(f, "null"), S_IFCHR | 0666, makedev(1, 3)) < 0)
		names[2] = "pipe"; /* it takes root */
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int64_t special = look_up(f, ROOT, names[i]);

		assert_true(special > 1);
		assert_int_equal(open_node(f, (uint64_t)special, O_RDONLY), -ENXIO);
		assert_int_equal(open_node(f, (uint64_t)special, O_RDWR), -ENXIO);
		assert_int_equal(open_dir(f, (uint64_t)special), -ENXIO);
		assert_int_equal(create(f, ROOT, names[i], O_RDWR, &node), -ENXIO);
		assert_int_equal(ASK(f, FUSE_SETATTR, (uint64_t)special, &in, NULL), -EINVAL);
		forget(f, (uint64_t)special, 10);
	}
	assert_int_equal(counters(f).inodes, 1);
	close(fd);
	end(f);
}

static void test_cve_2020_35517_no_devices_are_made(void **state)
{
	static const uint32_t modes[] = {S_IFBLK | 0666, S_IFCHR | 0666};
	struct fixture *f = begin();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fuse_mknod_in in = {.mode = modes[i], .rdev = 1 << 8 | 3};

		assert_int_equal(ASK(f, FUSE_MKNOD, ROOT, &in, "device"), -EPERM);
	}
	assert_int_equal(access(host(f, "device"), F_OK), -1);
	end(f);
}

/* CVE-2020-10717 (virtiofsd): the host's descriptors are bounded, and come back. */
static void test_cve_2020_10717_descriptors_are_bounded(void **state)
{
	struct fixture *f = begin_with(false, FS_CACHE_AUTO, 16);
	int64_t node[20], fh, n = 0;
	uint64_t made = 0;
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "%u", i);
		host_file(f, name, "", 0);
		node[i] = look_up(f, ROOT, name);
		n += node[i] > 0;
		assert_true(node[i] > 0 || node[i] == -ENFILE);
	}
	assert_int_equal(n, 15);
	assert_int_equal(open_node(f, (uint64_t)node[0], O_RDONLY), -ENFILE);
	assert_int_equal(open_dir(f, ROOT), -ENFILE);
	assert_int_equal(create(f, ROOT, "new", O_RDWR, &made), -ENFILE);
	forget(f, (uint64_t)node[1], 1);
	fh = open_dir(f, ROOT);
	assert_true(fh > 0);
	*(struct fuse_read_in *)f->args = (struct fuse_read_in){.fh = (uint64_t)fh, .size = 8192};
	assert_true(ask(f, FUSE_READDIRPLUS, ROOT, sizeof(struct fuse_read_in), 8192) > 2000);
	assert_int_equal(counters(f).inodes + counters(f).handles, 16);
	assert_int_equal(release(f, fh, true), 0);
	fh = open_node(f, (uint64_t)node[0], O_RDONLY);
	assert_true(fh > 0);
	end(f);
}

static void test_handles_are_what_they_are(void **state)
{
	struct fixture *f = begin();
	uint64_t node = 0, numbers[] = {0, 3, 1000, 65536, UINT32_MAX, UINT64_MAX};
	int64_t dir = open_dir(f, ROOT), file = create(f, ROOT, "file", O_RDWR, &node);

	(void)state;
	assert_int_equal(read_at(f, dir, 0, 16), -EBADF);
	assert_int_equal(write_at(f, dir, 0, "x", 1), -EBADF);
	*(struct fuse_read_in *)f->args = (struct fuse_read_in){.fh = (uint64_t)file, .size = 4096};
	assert_int_equal(ask(f, FUSE_READDIR, ROOT, sizeof(struct fuse_read_in), 4096), -EBADF);
	assert_int_equal(release(f, file, true), 0); /* of no directory: nothing is closed */
	assert_int_equal(write_at(f, file, 0, "x", 1), 1);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		assert_int_equal(read_at(f, (int64_t)numbers[i], 0, 16), -EBADF);
		assert_int_equal(ask(f, FUSE_GETATTR, numbers[i], 0, 4096), -ESTALE);
	}
	end(f);
}

static void test_lengths_that_lie(void **state)
{
	struct fixture *f = begin();
	struct fuse_write_in in = {.size = 100};
	struct fuse_in_header *header = drv_ptr(&f->d, f->out, HEADER);
	struct drv_buf buf[2] = {{f->out, HEADER + 2, false}, {f->in, 4096, true}};
	uint64_t node = 0;
	uint32_t got;

	(void)state;
	in.fh = (uint64_t)create(f, ROOT, "file", O_RDWR, &node);
	memcpy(f->args, &in, sizeof(in));
	assert_int_equal(ask(f, FUSE_WRITE, node, sizeof(in) + 99, 64), -EINVAL);
	assert_int_equal(ask(f, FUSE_WRITE, node, sizeof(in) + 101, 64), -EINVAL);
	in.size = UINT32_MAX;
	memcpy(f->args, &in, sizeof(in));
	assert_int_equal(ask(f, FUSE_WRITE, node, sizeof(in) + 99, 64), -EINVAL);
	assert_int_equal(ask(f, FUSE_WRITE, node, sizeof(in) - 1, 64), -EINVAL);
	assert_int_equal(ask(f, FUSE_LOOKUP, ROOT, 100 * KIB, 4096), -E2BIG);
	assert_int_equal(ask(f, FUSE_STATFS, ROOT, 0, 79), -EINVAL);
	assert_int_equal(ask(f, 4095, ROOT, 0, 0), -ENOSYS);
	assert_int_equal(ask(f, FUSE_POLL, ROOT, 0, 0), -ENOSYS);
	assert_int_equal(ask(f, FUSE_SETUPMAPPING, ROOT, 0, 0), -ENOSYS);
	assert_int_equal(ask(f, UINT32_MAX, ROOT, 0, 0), -ENOSYS);
	*header = (struct fuse_in_header){.len = 1 << 20, .opcode = FUSE_LOOKUP, .nodeid = ROOT};
	assert_true(drv_add(&f->d.queue[REQUESTS], buf, 2) >= 0);
	drv_kick(&f->d.queue[REQUESTS]);
	drv_wait_used(&f->d.queue[REQUESTS], NULL, &got);
	assert_int_equal(got, ANSWER);
	assert_int_equal(((const struct fuse_out_header *)drv_ptr(&f->d, f->in, ANSWER))->error,
			 -EINVAL);
	end(f);
}

/* Headers cut into buffers of one byte, and data too. */
static void test_framing_means_nothing_to_files(void **state)
{
	struct fixture *f = begin();
	struct fuse_write_in in = {.size = 5};
	uint32_t total = HEADER + sizeof(in) + 5, n = 0, got;
	struct drv_buf buf[200];
	uint64_t node = 0;

	(void)state;
	in.fh = (uint64_t)create(f, ROOT, "file", O_RDWR, &node);
	memcpy(f->args, &in, sizeof(in));
	memcpy(f->args + sizeof(in), "bytes", 5);
	*(struct fuse_in_header *)drv_ptr(&f->d, f->out, HEADER) =
		(struct fuse_in_header){.len = total, .opcode = FUSE_WRITE, .unique = 5};
	for (; n < total; n++)
		buf[n] = (struct drv_buf){GPA(f->out.v + n), 1, false};
	for (uint32_t i = 0; i < 24; i++)
		buf[n++] = (struct drv_buf){GPA(f->in.v + i), 1, true};
	assert_true(drv_add(&f->d.queue[REQUESTS], buf, n) >= 0);
	drv_kick(&f->d.queue[REQUESTS]);
	drv_wait_used(&f->d.queue[REQUESTS], NULL, &got);
	assert_int_equal(got, 24);
	assert_int_equal(read_at(f, (int64_t)in.fh, 0, 100), 5);
	assert_memory_equal(f->reply, "bytes", 5);
	end(f);
}

static void test_no_room_for_a_reply_breaks_the_device(void **state)
{
	static const struct {
		uint32_t out, in;
	} cases[] = {{HEADER - 1, 4096}, {0, 4096}, {HEADER, ANSWER - 1}, {HEADER, 0}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = begin();
		struct drv_buf buf[2] = {{f->out, cases[i].out, false}, {f->in, cases[i].in, true}};

		*(struct fuse_in_header *)drv_ptr(&f->d, f->out, HEADER) =
			(struct fuse_in_header){.len = cases[i].out, .opcode = FUSE_STATFS};
		assert_true(drv_add(&f->d.queue[REQUESTS], buf, 2) >= 0);
		drv_kick(&f->d.queue[REQUESTS]);
		drv_wait_irq(&f->d);
		while (!drv_is_broken(&f->d))
			usleep(1000);
		drv_start(&f->d, UINT64_MAX, 0);
		mount_share(f, 0);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_have_one_component),
		cmocka_unit_test(test_both_names_have_one_component),
		cmocka_unit_test(test_links_are_not_followed),
		cmocka_unit_test(test_magic_links_are_not_followed),
		cmocka_unit_test(test_the_kernels_own_file_systems_are_closed),
		cmocka_unit_test(test_a_host_that_renames_opens_no_way_out),
		cmocka_unit_test(test_special_files_are_not_opened),
		cmocka_unit_test(test_cve_2020_35517_no_devices_are_made),
		cmocka_unit_test(test_cve_2020_10717_descriptors_are_bounded),
		cmocka_unit_test(test_handles_are_what_they_are),
		cmocka_unit_test(test_lengths_that_lie),
		cmocka_unit_test(test_framing_means_nothing_to_files),
		cmocka_unit_test(test_no_room_for_a_reply_breaks_the_device),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
