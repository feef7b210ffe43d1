// SPDX-License-Identifier: BSD-2-Clause
/*
 * Disks on the host's block devices and file systems. Needs root; mounts happen in a mount
 * namespace of this process, loop devices go away with their last descriptor.
 */
#ifndef SKEP_HOST_FIXTURE_H
#define SKEP_HOST_FIXTURE_H

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "child.h"
#include "disk_fixture.h"

static const char *no_uring; /* why, NULL: there is */

/* How a disk is driven; the same tests for all. */
struct fixture {
	struct disk_options options;
	char *backing; /* the loop device's file */
	char device[32];
	int loop_fd;
	struct disk disk;
	uint8_t *data;
};

static inline int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int run(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

/* A loop device on `file`, gone when the returned descriptor (and every other) is closed. */
static inline int attach(const char *file, uint32_t flags, uint32_t block_size, char *ret_device)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int backing = open(file, (flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	int fd = -1;

	assert_true(control >= 0 && backing >= 0);
	/* Somebody else may take the free one first. */
	for (uint64_t end = patience_end(); fd < 0 && now_ns() < end;) {
		struct loop_config config = {
			.fd = (uint32_t)backing,
			.block_size = block_size,
			.info = {.lo_flags = flags | LO_FLAGS_AUTOCLEAR},
		};
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		assert_true(n >= 0);
		snprintf(ret_device, 32, "/dev/loop%d", n);
		fd = open(ret_device, (flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
			close(fd);
			fd = -1;
			usleep(10000);
		}
	}
	assert_true(fd >= 0);
	close(backing);
	close(control);
	return fd;
}

static inline int setup(void **state)
{
	struct fixture *f = *state;

	f->backing = disk_file(SIZE);
	f->data = malloc(DISK_BUFFER);
	f->loop_fd = -1;
	f->disk.dev = NULL;
	return 0;
}

static inline void down(struct fixture *f)
{
	if (f->disk.dev)
		disk_close(&f->disk);
	f->disk.dev = NULL;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	down(f);
	if (f->loop_fd >= 0)
		close(f->loop_fd);
	unlink(f->backing);
	free(f->backing);
	free(f->data);
	return 0;
}

static inline void up_on(struct fixture *f, const char *path)
{
	struct error e = {""};

	if (f->options.engine == ENGINE_URING && no_uring) {
		print_message("# %s\n", no_uring);
		skip();
	}
	if (disk_open(&f->disk, path, &f->options, &e) < 0) {
		f->disk.dev = NULL;
		fail_msg("%s: %s", path, e.msg);
	}
	disk_start(&f->disk);
}

static inline void up_on_loop(struct fixture *f, uint64_t filled, uint32_t block_size)
{
	if (filled)
		disk_fill(f->backing, 0, filled);
	f->loop_fd = attach(f->backing, 0, block_size, f->device);
	up_on(f, f->device);
}

static char mount_point[] = "/tmp/skep-test-XXXXXX";

/* The kernel lets go of the files of a ring some time after the ring was closed. */
static inline void unmount(void)
{
	while (umount(mount_point) < 0) {
		assert_int_equal(errno, EBUSY);
		usleep(10000);
	}
}

/* A file system of `type` at mount_point; the loop device's descriptor, or -1. */
static inline int mount_fs(struct fixture *f, const char *type)
{
	char device[32];
	int fd = -1;

	if (!strcmp(type, "tmpfs")) {
		assert_int_equal(mount("tmpfs", mount_point, "tmpfs", 0, "size=100m"), 0);
	} else {
		if (run("command -v mkfs.%s >/dev/null", type)) {
			print_message("# mkfs.%s is not installed\n", type);
			skip();
		}
		assert_int_equal(truncate(f->backing, (off_t)(512 * MIB)), 0);
		fd = attach(f->backing, 0, 0, device);
		assert_int_equal(run("mkfs.%s %s >/dev/null 2>&1", type, device), 0);
		if (mount(device, mount_point, type, 0, NULL) < 0) {
			print_message("# %s cannot be mounted: %s\n", type, strerror(errno));
			close(fd);
			skip();
		}
	}
	return fd;
}

#define NAMED(variant, name)                                                                       \
	{                                                                                          \
#variant ": " #name, test_##name, setup, teardown, &variant                        \
	}

/* In a mount namespace of its own; what main() returns. Where there are no rights all is
 * skipped. */
#define host_tests(name, tests)                                                                    \
	(host_begin() ? host_end(cmocka_run_group_tests_name(name, tests, NULL, NULL)) : 0)

static inline bool host_begin(void)
{
	static struct error e;
	struct loop *loop = NULL;

	if (geteuid() != 0 || access("/dev/loop-control", R_OK | W_OK) < 0) {
		printf("1..0 # SKIP loop devices and mounts need root\n");
		return false;
	}
	if (own_mounts() || !mkdtemp(mount_point)) {
		printf("1..0 # SKIP no mount namespace of its own: %s\n", strerror(errno));
		return false;
	}
	if (loop_new(&loop, "probe", LOOP_URING, 8, &e) < 0)
		no_uring = e.msg;
	loop_free(loop);
	return true;
}

static inline int host_end(int failed)
{
	umount2(mount_point, MNT_DETACH);
	rmdir(mount_point);
	return failed;
}

#endif
