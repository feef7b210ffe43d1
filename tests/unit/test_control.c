// SPDX-License-Identifier: BSD-2-Clause
/* The commands of the control socket, and what is answered to them. */
#include "control_fixture.h"
#include "klog_image.h"

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

static void expect(int fd, const char *line, const char *key, const char *want)
{
	json_t *answer = ask(fd, line);
	const char *value = json_string_value(json_object_get(answer, key));

	assert_string_equal(value ? value : "none", want);
	json_decref(answer);
}

/* What a program does with an answer does not depend on words. */
static void test_answers_are_told_apart(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f);
	json_t *answer;

	expect(fd, "{\"command\": \"sta\"}", "code", "EINVAL");
	expect(fd, "{", "code", "EINVAL");
	expect(fd, "{\"command\": \"resize-disk\", \"disk\": 7}", "code", "ENODEV");
	expect(fd, "{\"command\": \"resize-disk\", \"disk\": 7, \"id\": \"x\"}", "id", "x");
	expect(fd, "{\"command\": \"status\", \"id\": \"y\"}", "id", "y");
	expect(fd, "{\"command\": \"status\"}", "id", "none");
	expect(fd, "{\"command\": \"status\"}", "code", "none");
	expect(fd, "{\"command\": \"status\", \"id\": {}}", "code", "EINVAL");
	expect(fd, "{\"command\": \"status\"}", "version", SKEP_VERSION);
	answer = ask(fd, "{\"command\": \"status\", \"id\": -3}");
	assert_int_equal(number(answer, "id"), -3);
	assert_int_equal(number(answer, "protocol"), 1);
	json_decref(answer);
	close(fd);
}

static void expect_size(int fd, const char *line, int disk, uint64_t size)
{
	json_t *answer = ask(fd, line);

	assert_int_equal(number(answer, "disk"), disk);
	assert_int_equal(number(answer, "size"), size);
	json_decref(answer);
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
	struct rate_limits limits;

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
		 "nested too deeply"},
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

static void test_dmesg(void **state)
{
	struct fixture *f = *state;
	struct klog_image image;
	struct klog log = {.mem = &image.mem};
	json_t *answer, *message;
	int fd = dial(f);

	klog_image_new(&image, 6, 12, 4);
	f->vm.klog = &log;
	for (unsigned i = 0; i < 40; i++)
		klog_image_say(&image, i % 8, 1000 + i, i % 2 ? "\"odd\" \xc3\xa4\x01" : "even");
	answer = ask(fd, "{\"command\": \"dmesg\"}");
	assert_int_equal(json_array_size(json_object_get(answer, "messages")), 40);
	assert_int_equal(answer_number(answer, "next"), 40);
	assert_int_equal(answer_number(answer, "end"), 40);
	json_decref(answer);
	answer = ask(fd, "{\"command\": \"dmesg\", \"from\": 39}");
	message = json_array_get(json_object_get(answer, "messages"), 0);
	assert_int_equal(answer_number(message, "seq"), 39);
	assert_int_equal(answer_number(message, "ns"), 1039);
	assert_int_equal(answer_number(message, "level"), 7);
	assert_string_equal(answer_text(message, "caller"), "T1");
	assert_string_equal(answer_text(message, "text"), "\"odd\" \xc3\xa4?");
	json_decref(answer);
	expect_error(fd, "{\"command\": \"dmesg\", \"from\": -1}", "the number of a message");
	klog_image_edit(&image, "SYMBOL(prb)", "SYMBOL(prx)");
	expect_error(fd, "{\"command\": \"dmesg\"}", "no log in the guest's memory");
	close(fd);
	klog_image_free(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(status),
		T(answers_are_told_apart),
		T(dmesg),
		T(files_that_are_passed),
		T(power_button_and_stop),
		T(resize),
		T(limits),
		T(refusals),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
