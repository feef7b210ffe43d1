// SPDX-License-Identifier: BSD-2-Clause
/* The control socket, from the client's side, on real disks. */
#ifndef SKEP_CONTROL_FIXTURE_H
#define SKEP_CONTROL_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "control/control.h"
#include "disk.h"

#define SIZE  (4 * MIB)
#define DISKS 3u

struct fixture {
	char dir[32], path[64];
	char *image[DISKS];
	struct disk disk[DISKS];
	struct virtio_dev *dev[DISKS];
	struct disk_config disk_config[DISKS];
	struct vm_device device[1 + DISKS];
	struct control_vm vm;
	struct loop *loop;
	struct control *control;
	_Atomic unsigned pressed, stopped;
	_Atomic uint64_t shut_down_ns;
	_Atomic bool pausing;
	char written; /* to the file that came */
};

static inline void press(void *ctx)
{
	((struct fixture *)ctx)->pressed++;
}

static inline void shut_down(void *ctx, uint64_t timeout_ns)
{
	((struct fixture *)ctx)->shut_down_ns = timeout_ns;
}

static inline int pause_or_not(void *ctx, bool paused, struct error *e)
{
	struct fixture *f = ctx;

	if (!paused && f->pausing && !f->vm.paused)
		return error_set(e, -EBUSY, "not yet");
	f->pausing = paused;
	f->vm.paused = f->vm.paused && paused;
	return 0;
}

static inline void stop(void *ctx)
{
	((struct fixture *)ctx)->stopped++;
}

/* A device that takes a file, of which a second one is refused. */
static inline json_t *take_file(const struct device_request *request, struct error *e)
{
	char *written = request->devices->own;

	if (request->num != 1 || request_file(request) < 0)
		error_set(e, -EINVAL, "no file came with it");
	else if (*written)
		error_set(e, -EBUSY, "no more");
	else if (write(request_file(request), "x", 1) == 1 && (*written = 'x'))
		return json_object();
	return NULL;
}

static const struct device_command taker_commands[] = {
	{.name = "take-file", .members = (const char *const[]){NULL}, .run = take_file},
	{.name = NULL},
};

static const struct device_type taker_type = {.name = "taker", .commands = taker_commands};
extern const struct device_type blk_type;
static const struct device_type *const types[] = {&taker_type, &blk_type, NULL};

static inline int setup(void **state)
{
	static const char *const serials[DISKS] = {"one", "", "same"};
	struct fixture *f = calloc(1, sizeof(*f));

	signal(SIGPIPE, SIG_IGN);
	strcpy(f->dir, "/tmp/skep-test-ctl-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
	for (unsigned i = 0; i < DISKS; i++) {
		f->image[i] = disk_file(SIZE);
		disk_up(&f->disk[i], f->image[i], &(struct disk_options){0});
		f->dev[i] = f->disk[i].dev;
		f->disk_config[i].path = f->image[i];
		strcpy(f->disk_config[i].serial, serials[i]);
	}
	f->device[0] = (struct vm_device){.type = &taker_type, .own = &f->written};
	for (unsigned i = 0; i < DISKS; i++)
		f->device[1 + i] = (struct vm_device){.type = &blk_type,
						      .index = i,
						      .config = &f->disk_config[i],
						      .dev = f->dev[i]};
	f->vm = (struct control_vm){.types = types,
				    .devices = f->device,
				    .num_devices = 1 + DISKS,
				    .started_ns = now_ns(),
				    .power_button = press,
				    .shut_down = shut_down,
				    .stop = stop,
				    .pause = pause_or_not,
				    .ctx = f};
	assert_int_equal(loop_new(&f->loop, "control", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(control_open(&f->control, f->loop, f->path, &f->vm, NULL), 0);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	loop_stop(f->loop);
	control_close(f->control, true);
	assert_int_equal(access(f->path, F_OK), -1);
	loop_free(f->loop);
	for (unsigned i = 0; i < DISKS; i++) {
		disk_close(&f->disk[i]);
		unlink(f->image[i]);
		free(f->image[i]);
	}
	rmdir(f->dir);
	free(f);
	return 0;
}

static inline int try_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(addr.sun_path, path);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

static inline int dial(const struct fixture *f)
{
	struct timeval limit = {.tv_sec = 60};
	int fd = try_connect(f->path);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static inline void say(int fd, const void *data, size_t len)
{
	assert_int_equal(write_full(fd, data, len), len);
}

/* The next answer, read a byte at a time so that the one after it stays; NULL at the end. */
static inline json_t *hear(int fd)
{
	static char line[1 << 20];
	json_t *answer;
	size_t len = 0;

	while (!len || line[len - 1] != '\n') {
		ssize_t n = read(fd, line + len, 1);

		if (n < 0 && errno == EINTR) /* io_uring's work interrupts, too */
			continue;
		if (n == 0 || (n < 0 && (errno == ECONNRESET || errno == EPIPE)))
			return NULL;
		if (n < 0)
			fail_msg("read: %s", strerror(errno));
		assert_true(++len < sizeof(line));
	}
	answer = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	assert_true(json_is_object(answer));
	return answer;
}

static inline json_t *ask(int fd, const char *line)
{
	say(fd, line, strlen(line));
	say(fd, "\n", 1);
	return hear(fd);
}

static inline void expect_alive(const struct fixture *f)
{
	int fd = dial(f);
	json_t *answer = ask(fd, "{\"command\": \"status\"}");

	assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
	json_decref(answer);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

#endif
