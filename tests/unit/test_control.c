// SPDX-License-Identifier: BSD-2-Clause
/* The control socket, from the client's side, on real disks. */
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
	char written; /* to the file that came */
};

static void press(void *ctx)
{
	((struct fixture *)ctx)->pressed++;
}

static void stop(void *ctx)
{
	((struct fixture *)ctx)->stopped++;
}

/* A device that takes a file, of which a second one is refused. */
static json_t *take_file(const struct device_request *request, struct error *e)
{
	char *written = request->devices->own;

	if (request->num != 1 || request->file < 0)
		error_set(e, -EINVAL, "no file came with it");
	else if (*written)
		error_set(e, -EBUSY, "no more");
	else if (write(request->file, "x", 1) == 1 && (*written = 'x'))
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

static int setup(void **state)
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
				    .stop = stop,
				    .ctx = f};
	assert_int_equal(loop_new(&f->loop, "control", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(control_open(&f->control, f->loop, f->path, &f->vm, NULL), 0);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
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

static int try_connect(const char *path)
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

static int dial(const struct fixture *f)
{
	struct timeval limit = {.tv_sec = 60};
	int fd = try_connect(f->path);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void say(int fd, const void *data, size_t len)
{
	assert_int_equal(write_full(fd, data, len), len);
}

/* The next answer, read a byte at a time so that the one after it stays; NULL at the end. */
static json_t *hear(int fd)
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

static json_t *ask(int fd, const char *line)
{
	say(fd, line, strlen(line));
	say(fd, "\n", 1);
	return hear(fd);
}

static void expect_error(int fd, const char *line, const char *why)
{
	json_t *answer = ask(fd, line);
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (!error || !strstr(error, why))
		fail_msg("%.200s: not '%s' but '%s'", line, why, error ? error : "no error");
	json_decref(answer);
}

static json_int_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void expect_size(int fd, const char *line, int disk, uint64_t size)
{
	json_t *answer = ask(fd, line);

	assert_int_equal(number(answer, "disk"), disk);
	assert_int_equal(number(answer, "size"), size);
	json_decref(answer);
}

static void expect_alive(const struct fixture *f)
{
	int fd = dial(f);
	json_t *answer = ask(fd, "{\"command\": \"status\"}");

	assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
	json_decref(answer);
	close(fd);
}

static void test_status(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer, *disk;

	assert_int_equal(disk_write(&f->disk[1], 0, f->dir, 0), VIRTIO_BLK_S_OK);
	answer = ask(fd, "{\"command\": \"status\"}");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "running");
	assert_true(json_is_real(json_object_get(answer, "seconds")));
	assert_int_equal(json_array_size(json_object_get(answer, "disks")), DISKS);
	disk = json_array_get(json_object_get(answer, "disks"), 1);
	assert_string_equal(json_string_value(json_object_get(disk, "path")), f->image[1]);
	assert_string_equal(json_string_value(json_object_get(disk, "serial")), "skep1");
	assert_int_equal(number(disk, "size"), SIZE);
	assert_int_equal(number(disk, "writes"), 1);
	assert_int_equal(number(disk, "reads"), 0);
	json_decref(answer);
	f->vm.stopping = true;
	answer = ask(fd, "{\"command\": \"status\"}");
	assert_string_equal(json_string_value(json_object_get(answer, "state")), "stopping");
	json_decref(answer);
	close(fd);
}

/* Sends `fd` as many times with the text. */
static void pass(int to, const char *text, int fd, unsigned times)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} passed = {.header = {.cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(times * sizeof(int))}};
	struct iovec data = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr m = {.msg_iov = &data,
			   .msg_iovlen = 1,
			   .msg_control = &passed,
			   .msg_controllen = CMSG_SPACE(times * sizeof(int))};

	for (unsigned i = 0; i < times; i++)
		memcpy(CMSG_DATA(&passed.header) + i * sizeof(fd), &fd, sizeof(fd));
	assert_int_equal(sendmsg(to, &m, 0), data.iov_len);
}

static void test_files_that_are_passed(void **state)
{
	static const char take[] = "{\"command\": \"take-file\"}";
	struct fixture *f = *state;
	int fd = dial(f), ends[2];
	char byte = 0;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	expect_error(fd, take, "no file came with it");
	/* It goes with the line that it is sent with, which may come in parts. */
	pass(fd, "{\"comm", ends[1], 1);
	json_decref(ask(fd, "and\": \"take-file\"}"));
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	expect_error(fd, take, "no file came with it");
	pass(fd, "  ", ends[1], 1);
	expect_error(fd, take, "no more");
	/* Those that nothing asks for, too many, and of a client that goes. */
	pass(fd, " ", ends[1], 1);
	pass(fd, " ", ends[1], 4);
	json_decref(ask(fd, "{\"command\": \"status\"}"));
	pass(fd, " ", ends[1], 2);
	close(fd);
	/* None of them stays open. */
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	expect_alive(f);
}

static void test_power_button_and_stop(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer = ask(fd, "{\"command\": \"power-button\"}");

	assert_int_equal(json_object_size(answer), 0);
	json_decref(answer);
	assert_int_equal(f->pressed, 1);
	assert_int_equal(f->stopped, 0);
	answer = ask(fd, "{\"command\": \"stop\"}");
	assert_int_equal(json_object_size(answer), 0);
	json_decref(answer);
	assert_int_equal(f->pressed, 1);
	assert_int_equal(f->stopped, 1);
	close(fd);
}

static void test_resize(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	int fd = dial(f);

	expect_size(fd, "{\"command\": \"resize-disk\", \"disk\": 0, \"size\": 8388608}", 0,
		    2 * SIZE);
	assert_int_equal(stat(f->image[0], &st), 0);
	assert_int_equal(st.st_size, 2 * SIZE);
	assert_int_equal(blk_device_size(f->dev[0]), 2 * SIZE);
	expect_size(fd, "{\"command\": \"resize-disk\", \"disk\": \"one\", \"grow\": 4194304}", 0,
		    3 * SIZE);
	assert_int_equal(truncate(f->image[1], 2 * SIZE), 0);
	expect_size(fd, "{\"command\": \"resize-disk\", \"disk\": \"skep1\"}", 1, 2 * SIZE);
	assert_int_equal(blk_device_size(f->dev[2]), SIZE);
	close(fd);
}

static void expect_limits(struct fixture *f, unsigned i, uint64_t bps, uint64_t iops,
			  uint64_t burst)
{
	struct blk_limits limits;

	blk_device_limits(f->dev[i], &limits);
	assert_int_equal(limits.bytes_per_s, bps);
	assert_int_equal(limits.ops_per_s, iops);
	assert_int_equal(limits.burst_ns, burst);
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer, *disk;

	answer = ask(fd, "{\"command\": \"limit-disk\", \"disk\": \"one\", \"bps\": 1000000, "
			 "\"iops\": 200, \"burst_ns\": 5}");
	assert_int_equal(json_integer_value(json_object_get(answer, "disk")), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "iops")), 200);
	json_decref(answer);
	expect_limits(f, 0, 1000000, 200, 5);
	/* What is not said stays. */
	json_decref(ask(fd, "{\"command\": \"limit-disk\", \"disk\": 0, \"iops\": 0}"));
	expect_limits(f, 0, 1000000, 0, 5);
	answer = ask(fd, "{\"command\": \"status\"}");
	disk = json_array_get(json_object_get(answer, "disks"), 0);
	assert_int_equal(json_integer_value(json_object_get(disk, "bps")), 1000000);
	json_decref(answer);
	close(fd);
}

static void test_refusals(void **state)
{
#define LIMIT  "{\"command\": \"limit-disk\", "
#define RESIZE "{\"command\": \"resize-disk\", "
	static const struct {
		const char *line, *why;
	} all[] = {
		{"", "a request is a line like"},
		{" ", "a request is a line like"},
		{"status", "a request is a line like"},
		{"{\"command\": \"status\"", "a request is a line like"},
		{"{\"command\": \"status\"} x", "a request is a line like"},
		{"{\"command\": \"status\", \"command\": \"stop\"}", "duplicate"},
		{"[]", "an object with a \"command\""},
		{"{}", "an object with a \"command\""},
		{"{\"command\": 1}", "an object with a \"command\""},
		{"{\"command\": \"resize\"}", "did you mean 'resize-disk'"},
		{"{\"command\": \"frobnicate\"}", "'skep help control'"},
		{"{\"command\": \"status\", \"now\": true}", "'status' takes no \"now\""},
		{"{\"command\": \"stop\", \"disk\": 0}", "'stop' takes no \"disk\""},
		{RESIZE "\"disk\": 0, \"siez\": 1}", "takes no \"siez\""},
		{RESIZE "\"size\": 8388608}", "\"disk\" must be"},
		{RESIZE "\"disk\": null}", "\"disk\" must be"},
		{RESIZE "\"disk\": 1.0}", "\"disk\" must be"},
		{RESIZE "\"disk\": 3}", "there is no disk 3: the VM has 3"},
		{RESIZE "\"disk\": -1}", "there is no disk -1"},
		{RESIZE "\"disk\": \"two\"}", "no disk has the serial number 'two'"},
		{RESIZE "\"disk\": \"0\"}", "no disk has"},
		{RESIZE "\"disk\": 0, \"size\": \"8M\"}", "\"size\" must be a whole number"},
		{RESIZE "\"disk\": 0, \"size\": 0}", "\"size\" must be"},
		{RESIZE "\"disk\": 0, \"grow\": -512}", "\"grow\" must be"},
		{RESIZE "\"disk\": 0, \"grow\": 512, \"size\": 8388608}", "give one of them"},
		{RESIZE "\"disk\": 0, \"size\": 512}", "cannot shrink"},
		{RESIZE "\"disk\": 0, \"size\": 4194305}", "not a multiple"},
		{RESIZE "\"disk\": 0, \"size\": 9223372036854775296}", "no files of"},
		{RESIZE "\"disk\": 0, \"grow\": 9223372036854775296}", "no files of"},
		{RESIZE "\"disk\": 0, \"grow\": 9223372036854775807}", "not a multiple"},
		{RESIZE "\"disk\": 0, \"size\": 99999999999999999999}", "too big integer"},
		{LIMIT "\"bps\": 1}", "\"disk\" must be"},
		{LIMIT "\"disk\": 0, \"bps\": -1}", "\"bps\" must be a whole number"},
		{LIMIT "\"disk\": 0, \"iops\": \"10\"}", "\"iops\" must be"},
		{LIMIT "\"disk\": 0, \"burst\": 1}", "takes no \"burst\""},
		{"{\"command\": \"\\u0000\"}", "a request is a line like"},
		{"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
		 "nested too deep"},
		{"{\"command\": \"\xff\"}", "a request is a line like"},
	};
	struct fixture *f = *state;
	int fd = dial(f);

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		expect_error(fd, all[i].line, all[i].why);
	strcpy(f->disk_config[0].serial, "same");
	expect_error(fd, RESIZE "\"disk\": \"same\"}", "more than one disk");
	for (unsigned i = 0; i < DISKS; i++)
		assert_int_equal(blk_device_size(f->dev[i]), SIZE);
	assert_int_equal(f->pressed + f->stopped, 0);
	close(fd);
}

static void test_lines_in_pieces(void **state)
{
	static const char two[] = "{\"command\": \"power-button\"}\r\n{\"command\": \"stop\"}\n";
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer;

	for (const char *p = two; *p; p++)
		say(fd, p, 1);
	json_decref(hear(fd));
	json_decref(hear(fd));
	say(fd, two, strlen(two));
	say(fd, two, strlen(two));
	shutdown(fd, SHUT_WR); /* what was said before it is answered */
	for (unsigned i = 0; i < 4; i++) {
		answer = hear(fd);
		assert_int_equal(json_object_size(answer), 0);
		assert_non_null(answer);
		json_decref(answer);
	}
	assert_null(hear(fd));
	assert_int_equal(f->pressed, 3);
	assert_int_equal(f->stopped, 3);
	close(fd);
}

/* Of a client that may be refused. */
static json_t *hear_power_button(int fd)
{
	static const char line[] = "{\"command\": \"power-button\"}\n";

	(void)!write(fd, line, sizeof(line) - 1);
	return hear(fd);
}

static void test_many_clients(void **state)
{
	struct fixture *f = *state;
	int fd[CONTROL_MAX_CLIENTS], extra;
	json_t *answer;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
			fd[i] = dial(f);
			json_decref(ask(fd[i], "{\"command\": \"power-button\"}"));
		}
		extra = dial(f);
		answer = hear(extra);
		assert_non_null(strstr(json_string_value(json_object_get(answer, "error")),
				       "too many clients"));
		json_decref(answer);
		assert_null(hear(extra));
		close(extra);
		for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
			json_decref(ask(fd[i], "{\"command\": \"power-button\"}"));
		/* All but the first leave, some in the middle of a line; the first sees to it that
		 * they are gone. */
		for (unsigned i = 1; i < ARRAY_SIZE(fd); i++) {
			if (i % 2)
				say(fd[i], "{\"comm", 7);
			close(fd[i]);
		}
		json_decref(ask(fd[0], "{\"command\": \"power-button\"}"));
		close(fd[0]);
		for (bool gone = false; !gone;) { /* the loop may not have come to it yet */
			extra = dial(f);
			answer = hear_power_button(extra);
			gone = answer && json_object_size(answer) == 0;
			close(extra);
			json_decref(answer);
		}
	}
}

static void test_a_line_that_does_not_end(void **state)
{
	struct fixture *f = *state;
	char *line = malloc(CONTROL_MAX_LINE);
	int fd = dial(f);
	json_t *answer;

	/* The longest that there may be. */
	memset(line, ' ', CONTROL_MAX_LINE);
	memcpy(line, "{\"command\": \"stop\"}", 19);
	line[CONTROL_MAX_LINE - 1] = '\n';
	say(fd, line, CONTROL_MAX_LINE);
	answer = hear(fd);
	assert_int_equal(json_object_size(answer), 0);
	json_decref(answer);

	line[CONTROL_MAX_LINE - 1] = ' ';
	say(fd, line, CONTROL_MAX_LINE);
	answer = hear(fd);
	assert_non_null(
		strstr(json_string_value(json_object_get(answer, "error")), "a line of more"));
	json_decref(answer);
	assert_null(hear(fd));
	close(fd);
	free(line);
	assert_int_equal(f->stopped, 1);
	expect_alive(f);
}

/* It is not read from while its answers wait: what it may send is bounded, and so is what we keep
 * for it. */
static void test_a_client_that_never_reads(void **state)
{
	static const char line[] = "{\"command\": \"status\"}\n";
	struct fixture *f = *state;
	size_t sent = 0;
	unsigned idle = 0;
	int fd = dial(f);

	while (idle < 100) {
		ssize_t n = send(fd, line, sizeof(line) - 1, MSG_DONTWAIT);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			idle++;
			expect_alive(f);
			continue;
		}
		assert_int_equal(n, sizeof(line) - 1);
		idle = 0;
		sent += (size_t)n;
		assert_true(sent < 64 * MIB);
	}
	/* Then it reads after all, and gets every answer. */
	shutdown(fd, SHUT_WR);
	for (; sent; sent -= sizeof(line) - 1) {
		json_t *answer = hear(fd);

		assert_non_null(json_object_get(answer, "state"));
		json_decref(answer);
	}
	assert_null(hear(fd));
	close(fd);
}

static void test_clients_that_leave_with_answers_due(void **state)
{
	static const char line[] = "{\"command\": \"status\"}\n";
	struct fixture *f = *state;

	for (unsigned i = 0; i < 100; i++) {
		int fd = dial(f);

		for (unsigned n = 0; n < 1 + i; n++)
			if (send(fd, line, sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
				break; /* refused: the ones before are not gone yet */
		close(fd);
	}
	for (bool alive = false; !alive;) {
		int fd = dial(f);
		json_t *answer = hear_power_button(fd);

		alive = answer && json_object_size(answer) == 0;
		json_decref(answer);
		close(fd);
	}
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint8_t data[3000];
	unsigned seed = 1;

	for (unsigned i = 0; i < 200; i++) {
		int fd = dial(f);

		for (size_t n = 0; n < sizeof(data); n++)
			data[n] = (uint8_t)(rand_r(&seed) >> 7);
		/* JSON that is deep, and bytes. */
		if (i % 2)
			memset(data, i % 4 == 1 ? '[' : '{', sizeof(data) - 1);
		data[sizeof(data) - 1] = '\n';
		(void)!write(fd, data, sizeof(data));
		json_decref(hear(fd));
		close(fd);
	}
	test_clients_that_leave_with_answers_due(state);
	assert_int_equal(f->stopped, 0);
}

/* Accepting fails for a while. */
static void test_no_descriptors(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	int fd = dial(f), waiting;
	json_t *answer;

	json_decref(ask(fd, "{\"command\": \"status\"}"));
	waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){3, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	{
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		strcpy(addr.sun_path, f->path);
		assert_int_equal(connect(waiting, (void *)&addr, sizeof(addr)), 0);
	}
	say(waiting, "{\"command\": \"stop\"}\n", 20);
	for (unsigned i = 0; i < 10; i++) {
		answer = ask(fd, "{\"command\": \"status\"}");
		assert_non_null(answer);
		json_decref(answer);
	}
	assert_int_equal(f->stopped, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	answer = hear(waiting);
	assert_non_null(answer);
	json_decref(answer);
	assert_int_equal(f->stopped, 1);
	close(waiting);
	close(fd);
}

static void expect_no_socket(const char *path, int code, const char *why)
{
	struct control *control = NULL;
	struct error e = {""};
	struct loop *loop;

	assert_int_equal(loop_new(&loop, "control", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(control_open(&control, loop, path, NULL, &e), code);
	if (!strstr(e.msg, why))
		fail_msg("%s", e.msg);
	loop_free(loop);
}

static void test_its_path(void **state)
{
	struct fixture *f = *state;
	char path[200], *image = f->image[0];
	struct control *control;
	struct loop *loop;
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	expect_no_socket(f->path, -EADDRINUSE, "in use by a VM that runs");
	expect_no_socket(image, -EEXIST, "no socket");
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	expect_no_socket("/nonexistent/socket", -ENOENT, "No such file");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	expect_no_socket(path, -ENAMETOOLONG, "longer than 107 bytes");
	expect_alive(f);

	/* One that is left behind makes way. */
	snprintf(path, sizeof(path), "%s/left", f->dir);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(loop_new(&loop, "control", LOOP_EPOLL, 0, NULL), 0);
		assert_int_equal(control_open(&control, loop, path, &f->vm, NULL), 0);
		control_close(control, i == 2);
		loop_free(loop);
		assert_int_equal(access(path, F_OK), i == 2 ? -1 : 0);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

/* A VM that starts: says how that went, and ends when its standard input does. */
static pid_t start_at(struct fixture *f, const char *path, _Atomic bool *go, int report)
{
	struct control *control;
	struct loop *loop;
	pid_t pid = fork();
	int r;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (loop_new(&loop, "control", LOOP_EPOLL, 0, NULL))
		_exit(1);
	while (!atomic_load(go))
		;
	r = control_open(&control, loop, path, &f->vm, NULL);
	if (write(report, &r, sizeof(r)) != sizeof(r))
		_exit(2);
	pause();
	_exit(3);
}

static void leave_socket(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

/* Both find a socket that is left: only one may remove it, and none the other's. */
static void test_two_starts_on_one_stale_path(void **state)
{
	struct fixture *f = *state;
	_Atomic bool *go =
		mmap(NULL, sizeof(*go), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[64];
	int report[2];

	snprintf(path, sizeof(path), "%s/stale", f->dir);
	assert_int_equal(pipe(report), 0);
	for (int round = 0; round < 300; round++) {
		pid_t pid[2];
		int r[2], fd;

		leave_socket(path);
		atomic_store(go, false);
		for (int i = 0; i < 2; i++)
			pid[i] = start_at(f, path, go, report[1]);
		atomic_store(go, true);
		for (int i = 0; i < 2; i++)
			assert_int_equal(read(report[0], &r[i], sizeof(r[i])), sizeof(r[i]));
		assert_int_equal(MAX(r[0], r[1]), 0);
		assert_int_equal(MIN(r[0], r[1]), -EADDRINUSE);
		fd = try_connect(path);
		assert_true(fd >= 0);
		close(fd);
		for (int i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
		unlink(path);
	}
	close(report[0]);
	close(report[1]);
	munmap((void *)go, sizeof(*go));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(status),
		T(files_that_are_passed),
		T(power_button_and_stop),
		T(resize),
		T(limits),
		T(refusals),
		T(lines_in_pieces),
		T(many_clients),
		T(a_line_that_does_not_end),
		T(a_client_that_never_reads),
		T(clients_that_leave_with_answers_due),
		T(garbage),
		T(no_descriptors),
		T(its_path),
		T(two_starts_on_one_stale_path),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
