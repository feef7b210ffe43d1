// SPDX-License-Identifier: BSD-2-Clause
/* Locks on images: who keeps whom out, across processes and within one, and what the user is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filelock.h"
#include "child.h"
#include "disk.h"

static int open_image(struct blk_image **ret, const char *path, bool readonly, struct error *e)
{
	struct disk_config config = {
		.path = (char *)path, .readonly = readonly, .engine = ENGINE_AUTO, .queues = 1};

	*ret = NULL;
	return blk_image_open(ret, &config, e);
}

static int setup(void **state)
{
	*state = disk_file(MIB);
	return 0;
}

static int teardown(void **state)
{
	unlink(*state);
	free(*state);
	return 0;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* A process named "holder" that has the image open; killed by the caller. */
static pid_t start_holder(const char *path, bool readonly)
{
	struct blk_image *image;
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "holder");
		prctl(PR_SET_DUMPABLE, 0);
		if (open_image(&image, path, readonly, NULL) == 0)
			(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void expect_open(const char *path, bool readonly, int code, const char *text)
{
	struct blk_image *image;
	struct error e = {""};

	assert_int_equal(open_image(&image, path, readonly, &e), code);
	if (code < 0 && !strstr(e.msg, text))
		fail_msg("\"%s\" is not in \"%s\"", text, e.msg);
	blk_image_close(image);
}

static void test_processes(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		bool theirs = i & 1, ours = i & 2;
		pid_t pid = start_holder(*state, theirs);
		char who[64];

		snprintf(who, sizeof(who), "in use by process %d (holder)", (int)pid);
		expect_open(*state, ours, theirs && ours ? 0 : -EBUSY, who);
		if (theirs && !ours)
			expect_open(*state, ours, -EBUSY, "`,readonly`");
		end(pid);
		expect_open(*state, ours, 0, NULL);
	}
}

static void test_one_process(void **state)
{
	struct blk_image *image;

	for (unsigned i = 0; i < 4; i++) {
		bool first = i & 1, second = i & 2;

		assert_int_equal(open_image(&image, *state, first, NULL), 0);
		expect_open(*state, second, first && second ? 0 : -EBUSY, "given twice");
		blk_image_close(image);
	}
	/* A second name is no second image. */
	assert_int_equal(open_image(&image, *state, false, NULL), 0);
	{
		_cleanup_free_ char *other = NULL;

		assert_true(asprintf(&other, "%s.link", (char *)*state) > 0);
		assert_int_equal(link(*state, other), 0);
		expect_open(other, false, -EBUSY, "given twice");
		unlink(other);
	}
	blk_image_close(image);
}

/* What keeps readers out was refused: nothing of the attempt is left. */
static void test_a_refusal_leaves_nothing(void **state)
{
	struct blk_image *reader;
	pid_t pid;

	assert_int_equal(open_image(&reader, *state, true, NULL), 0);
	expect_open(*state, false, -EBUSY, "given twice");
	pid = start_holder(*state, true);
	end(pid);
	blk_image_close(reader);
	expect_open(*state, false, 0, NULL);
}

/* The kernel takes a killed VM's io_uring down after the process is gone. */
static void test_a_killed_vm_is_no_holder(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct disk_options options = {.engine = ENGINE_AUTO};
		uint8_t data[512] = {1};
		struct disk disk;
		int ready[2];
		char byte;
		pid_t pid;

		assert_int_equal(pipe(ready), 0);
		pid = fork();
		if (!pid) {
			disk_up(&disk, *state, &options);
			disk_write(&disk, i, data, sizeof(data));
			(void)!write(ready[1], "r", 1);
			for (;;)
				pause();
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		close(ready[0]);
		end(pid);
		expect_open(*state, false, 0, NULL);
	}
}

/* An ordinary user's VM, which nobody may look into (PR_SET_DUMPABLE), as the sandbox has it. */
static int ask_as_its_user(const char *path)
{
	struct blk_image *image;
	struct error e = {""};
	char who[64];
	pid_t pid;

	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	for (unsigned i = 0; i < 3; i++) {
		bool theirs = i & 1, ours = i & 2;

		pid = start_holder(path, theirs);
		snprintf(who, sizeof(who), "in use by process %d (holder)", (int)pid);
		CHECK(open_image(&image, path, ours, &e) == -EBUSY);
		CHECK(strstr(e.msg, who));
		end(pid);
		CHECK(open_image(&image, path, ours, &e) == 0);
		blk_image_close(image);
	}
	return 0;
}

static void test_an_ordinary_user_is_told_the_holder(void **state)
{
	assert_int_equal(chmod(*state, 0666), 0);
	assert_int_equal(in_child(ask_as_its_user, *state), 0);
}

static int as_nobody(const char *path)
{
	struct blk_image *image;
	struct error e = {""};

	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(open_image(&image, path, false, &e) == -EBUSY);
	CHECK(strstr(e.msg, "is not visible from here"));
	return 0;
}

static int as_nobody_elsewhere(const char *path)
{
	return unshare(CLONE_NEWPID) < 0 ? 77 : in_child(as_nobody, path);
}

static void test_an_invisible_holder(void **state)
{
	pid_t pid;
	int r;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(*state, 0666), 0);
	pid = start_holder(*state, false);
	r = in_child(as_nobody_elsewhere, *state);
	end(pid);
	if (r == 77) {
		print_message("# no PID namespace of its own\n");
		skip();
	}
	assert_int_equal(r, 0);
}

static int on_a_readonly_file_system(const char *path)
{
	struct blk_image *image, *second;
	struct error e = {""};
	char dir[] = "/tmp/skep-test-XXXXXX", inside[64];

	if (own_mounts())
		return 77;
	CHECK(mkdtemp(dir) && mount("none", dir, "tmpfs", 0, NULL) == 0);
	snprintf(inside, sizeof(inside), "%s/image", dir);
	CHECK(close(open(inside, O_CREAT | O_WRONLY, 0600)) == 0 && truncate(inside, MIB) == 0);
	CHECK(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	CHECK(open_image(&image, inside, false, &e) == -EROFS);
	CHECK(open_image(&image, inside, true, &e) == 0);
	CHECK(open_image(&second, inside, true, &e) == 0);
	blk_image_close(image);
	blk_image_close(second);
	CHECK(umount(dir) == 0 && rmdir(dir) == 0);
	(void)path;
	return 0;
}

static void test_a_readonly_file_system(void **state)
{
	int r;

	if (geteuid() != 0)
		skip();
	r = in_child(on_a_readonly_file_system, *state);
	if (r == 77) {
		print_message("# no mount namespace of its own\n");
		skip();
	}
	assert_int_equal(r, 0);
}

/* As a file system without locks answers. */
static int without_locks(const char *path)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct blk_image *image;
	struct error e = {""};

	CHECK(filter_install(filter, ARRAY_SIZE(filter)) == 0);
	CHECK(open_image(&image, path, false, &e) == 0);
	CHECK(file_lock(image->fd, FILE_LOCK_WRITE, &e) == -ENOLCK);
	CHECK(strstr(e.msg, "cannot be locked"));
	blk_image_close(image);
	return 0;
}

static void test_without_locks(void **state)
{
	assert_int_equal(in_child(without_locks, *state), 0);
}

/* A lock of another program elsewhere in the file is none of ours. */
static void test_other_bytes(void **state)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 4096, .l_len = 1};
	int fd = open(*state, O_RDWR | O_CLOEXEC);

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	expect_open(*state, false, 0, NULL);
	lock.l_start = 0;
	lock.l_len = 0;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	expect_open(*state, false, -EBUSY, "given twice");
	expect_open(*state, true, -EBUSY, "given twice");
	close(fd);
}

/* QEMU's own storage daemon exports the image; NULL when it does not. */
static pid_t start_qemu(const char *path, bool writable)
{
	_cleanup_free_ char *block = NULL, *export = NULL, *socket = NULL, *pidfile = NULL;
	int status;
	pid_t pid = fork();

	if (!pid) {
		FILE *err = freopen("/dev/null", "w", stderr);

		if (!err ||
		    asprintf(&block, "driver=file,node-name=n,filename=%s,read-only=%s", path,
			     writable ? "off" : "on") < 0 ||
		    asprintf(&export,
			     "vhost-user-blk,id=e,node-name=n,writable=%s,addr.type=unix,"
			     "addr.path=%s.sock",
			     writable ? "on" : "off", path) < 0 ||
		    asprintf(&pidfile, "%s.pid", path) < 0)
			_exit(126);
		execlp("qemu-storage-daemon", "qemu-storage-daemon", "--daemonize", "--pidfile",
		       pidfile, "--blockdev", block, "--export", export, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(asprintf(&pidfile, "%s.pid", path) > 0);
	assert_true(asprintf(&socket, "%s.sock", path) > 0);
	unlink(socket);
	if (!WIFEXITED(status) || WEXITSTATUS(status) == 127)
		return -1;
	if (WEXITSTATUS(status))
		return 0;
	{
		FILE *f = fopen(pidfile, "r");

		assert_non_null(f);
		assert_int_equal(fscanf(f, "%d", &pid), 1);
		fclose(f);
		unlink(pidfile);
	}
	return pid;
}

/* It is this process's child, or was handed to another that waits for orphans. */
static void end_daemon(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* What the kernel still has of a killed process goes in its own time, on a busy machine after longer than
 * a VM's start waits. */
static int open_in_the_end(struct blk_image **ret, const char *path, bool readonly)
{
	uint64_t end = patience_end();
	int r;

	do
		r = open_image(ret, path, readonly, NULL);
	while (r == -EBUSY && now_ns() < end);
	return r;
}

static void test_qemu(void **state)
{
	struct blk_image *image;

	/* The daemon's parent ends: this becomes its next. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (unsigned i = 0; i < 4; i++) {
		bool theirs = i & 1, ours = i & 2;
		pid_t pid = start_qemu(*state, !theirs);

		if (pid < 0) {
			print_message("# there is no qemu-storage-daemon here\n");
			skip();
		}
		assert_true(pid > 0);
		/* One that was refused says so before it is gone. */
		if (theirs && ours) {
			assert_int_equal(open_in_the_end(&image, *state, ours), 0);
			blk_image_close(image);
		} else {
			expect_open(*state, ours, -EBUSY, "(qemu-storage-da)");
		}
		end_daemon(pid);
		assert_int_equal(open_in_the_end(&image, *state, ours), 0);
		pid = start_qemu(*state, !theirs);
		if (theirs && ours)
			assert_true(pid > 0);
		else
			assert_int_equal(pid, 0);
		if (pid > 0)
			end_daemon(pid);
		blk_image_close(image);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(processes),
		TEST(one_process),
		TEST(a_refusal_leaves_nothing),
		TEST(a_killed_vm_is_no_holder),
		TEST(an_ordinary_user_is_told_the_holder),
		TEST(an_invisible_holder),
		TEST(a_readonly_file_system),
		TEST(without_locks),
		TEST(other_bytes),
		TEST(qemu),
	};

	return cmocka_run_group_tests_name("blk_lock", tests, NULL, NULL);
}
