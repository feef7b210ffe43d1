// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/util.h"
#include "blk/blk.h"
#include "blk/config.h"
#include "child.h"
#include "console/console.h"
#include "vm/devices.h"
#include "vm/vm.h"

extern const struct device_type console_type, blk_type;

static void test_statuses(void **state)
{
	static const struct {
		enum vm_end end;
		int signal, status;
		const char *says;
	} all[] = {
		{VM_POWER_OFF, 0, 0, ""},
		{VM_REBOOT, 0, 120, "reboot"},
		{VM_PANIC, 0, 121, "panicked"},
		{VM_RESET, 0, 122, "unexpectedly"},
		{VM_HALTED, 0, 123, "halted"},
		{VM_TIMEOUT, 0, 124, "--timeout"},
		{VM_FAILED, 0, 125, "skep failed"},
		{VM_STOPPED, 0, 130, "escape key"},
		{VM_STOPPED, SIGINT, 130, "SIGINT"},
		{VM_STOPPED, SIGTERM, 143, "SIGTERM"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct vm_result r = {.end = all[i].end, .signal = all[i].signal};
		struct error text;

		assert_int_equal(vm_result_status(&r), all[i].status);
		vm_result_describe(&r, &text);
		if (all[i].says[0])
			assert_non_null(strstr(text.msg, all[i].says));
		else
			assert_string_equal(text.msg, "");
	}
}

static void test_failure_says_why(void **state)
{
	struct vm_result r = {.end = VM_FAILED, .error = {"disk 'x': gone"}};
	struct error text;

	(void)state;
	vm_result_describe(&r, &text);
	assert_string_equal(text.msg, "disk 'x': gone");
	r.end = VM_STOPPED;
	vm_result_describe(&r, &text);
	assert_string_equal(text.msg, "disk 'x': gone");
	r = (struct vm_result){.end = VM_RESET, .error = {"triple fault"}};
	vm_result_describe(&r, &text);
	assert_string_equal(text.msg, "the guest reset unexpectedly: triple fault");
}

static void explain(struct vm_result *r, uint64_t memory, uint64_t initrd, bool is_linux)
{
	struct guest_facts facts = {memory, initrd, is_linux};
	struct error why;

	console_explain_silence(&facts, &why);
	vm_result_add_reason(r, &why);
}

static void test_panic_before_the_first_byte_names_the_reasons(void **state)
{
	struct vm_result r = {.end = VM_PANIC};
	struct error text;

	(void)state;
	vm_result_describe(&r, &text);
	assert_string_equal(text.msg, "the guest's kernel panicked: see what it printed");
	explain(&r, 256 * MIB, 137 * MIB, true);
	vm_result_describe(&r, &text);
	assert_string_equal(text.msg,
			    "the guest's kernel panicked: it printed nothing on its console before "
			    "that; likely 256 MiB of memory are too little to unpack an initrd of "
			    "137 MiB (try --memory 896M), or its initrd does not load virtio_mmio "
			    "and virtio_console");
	r = (struct vm_result){.end = VM_TIMEOUT};
	explain(&r, 256 * MIB, 4 * MIB, true);
	assert_null(strstr(r.error.msg, "memory"));
	assert_non_null(strstr(r.error.msg, "does not load virtio_mmio and virtio_console"));
	r = (struct vm_result){.end = VM_HALTED};
	explain(&r, 256 * MIB, 0, true);
	assert_non_null(strstr(r.error.msg, "no --initrd to load them from"));
	r = (struct vm_result){.end = VM_RESET, .error = {"triple fault"}};
	explain(&r, 256 * MIB, 0, false);
	assert_non_null(strstr(r.error.msg, "triple fault: it printed nothing on its console"));
	assert_non_null(strstr(r.error.msg, "serial port"));
	r = (struct vm_result){.end = VM_POWER_OFF};
	explain(&r, 256 * MIB, 0, true);
	assert_string_equal(r.error.msg, "");
}

/* A panic's first words, which are a while back, and the last ones, are kept. */
static void test_the_kernel_log_is_cut_where_it_matters_least(void **state)
{
	struct klog_record records[100];
	struct vm_result r = {.end = VM_PANIC, .kernel_log = {.record = records, .num = 100}};
	char texts[100][16], *text;
	unsigned lines = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		snprintf(texts[i], sizeof(texts[i]), "message %u", i);
		records[i] = (struct klog_record){.level = 6, .text = texts[i]};
	}
	assert_null(vm_result_kernel_log(&r));
	r.log_is_news = true;
	text = vm_result_kernel_log(&r);
	assert_ptr_equal(strstr(text, "] message 80\n"), text + strlen("[    0.000000"));
	assert_non_null(strstr(text, "message 99\n"));
	free(text);
	records[50].level = 0;
	text = vm_result_kernel_log(&r);
	assert_ptr_equal(strstr(text, "] message 48\n"), text + strlen("[    0.000000"));
	assert_non_null(strstr(text, "message 59\n[...]\n[    0.000000] message 92\n"));
	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 21);
	free(text);
}

/* Writes the result as one packet and parses it. */
static json_t *written(const struct vm_result *result)
{
	char text[16384];
	json_error_t error;
	json_t *doc;
	ssize_t n;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(vm_result_write(fds[0], result), 0);
	n = recv(fds[1], text, sizeof(text), 0);
	assert_true(n > 0);
	assert_int_equal(text[n - 1], '\n');
	assert_int_equal(recv(fds[1], text + n, 1, 0), -1); /* a second write */
	doc = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
	if (!doc)
		fail_msg("%s", error.text);
	close(fds[0]);
	close(fds[1]);
	return doc;
}

static json_int_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void test_everything_is_written(void **state)
{
	static const struct disk_result disk_counters[2] = {
		{.allocated_start = -1, .allocated_end = -1, .returned_bytes = -1},
		{1, 2, 3, 4, 5, 14, 6, 7, 8, 9, 10, 11, 12, 13, 0}};
	static const struct writer_count console_counters = {.written = 1ull << 41, .lost = 17};
	struct disk_config disks[2] = {{.path = (char *)(uintptr_t) "a"},
				       {.path = (char *)(uintptr_t) "\xff\"b"}};
	struct vm_device devices[3] = {{.type = &console_type},
				       {.type = &blk_type, .config = &disks[0]},
				       {.type = &blk_type, .config = &disks[1]}};
	struct device_count counts[3] = {
		{&devices[0], {0}}, {&devices[1], {0}}, {&devices[2], {0}}};
	struct vm_result result = {.end = VM_POWER_OFF,
				   .run_ns = 1500000000,
				   .exits = {1, 2, 3, 4, 5, 6, 7},
				   .coalesced = 1ull << 40,
				   .devices = counts,
				   .num_devices = 3};
	json_t *doc, *console, *exits, *disk;
	struct klog_record records[2] = {{.text = "first"},
					 {.ns = 61000001000, .text = "line one\ntwo"}};

	result.kernel_log = (struct klog_page){.record = records, .num = 2};
	memcpy(counts[0].counters, &console_counters, sizeof(console_counters));
	for (unsigned i = 0; i < 2; i++)
		memcpy(counts[1 + i].counters, &disk_counters[i], sizeof(disk_counters[i]));
	doc = written(&result);
	(void)state;
	assert_string_equal(json_string_value(json_object_get(doc, "end")), "power-off");
	assert_int_equal(number(doc, "status"), 0);
	assert_true(json_is_null(json_object_get(doc, "signal")));
	assert_true(json_is_null(json_object_get(doc, "error")));
	assert_true(json_real_value(json_object_get(doc, "seconds")) == 1.5);
	assert_int_equal(number(doc, "coalesced"), 1ll << 40);
	assert_int_equal(json_array_size(json_object_get(doc, "kernel_log")), 3);
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(doc, "kernel_log"), 2)),
		"[   61.000001] two");
	console = json_object_get(doc, "console");
	assert_int_equal(number(console, "bytes"), 1ll << 41);
	assert_int_equal(number(console, "lost_bytes"), 17);
	exits = json_object_get(doc, "exits");
	assert_int_equal(number(exits, "mmio_read"), 1);
	assert_int_equal(number(exits, "mmio_write"), 2);
	assert_int_equal(number(exits, "pio_in"), 3);
	assert_int_equal(number(exits, "pio_out"), 4);
	assert_int_equal(number(exits, "unknown_mmio"), 5);
	assert_int_equal(number(exits, "unknown_pio"), 6);
	assert_int_equal(number(exits, "other"), 7);
	assert_int_equal(json_array_size(json_object_get(doc, "disks")), 2);
	disk = json_array_get(json_object_get(doc, "disks"), 1);
	assert_string_equal(json_string_value(json_object_get(disk, "path")), "?\"b");
	assert_int_equal(number(disk, "reads"), 1);
	assert_int_equal(number(disk, "writes"), 2);
	assert_int_equal(number(disk, "flushes"), 3);
	assert_int_equal(number(disk, "discards"), 4);
	assert_int_equal(number(disk, "write_zeroes"), 5);
	assert_int_equal(number(disk, "secure_erases"), 14);
	assert_int_equal(number(disk, "errors"), 6);
	assert_int_equal(number(disk, "read_bytes"), 7);
	assert_int_equal(number(disk, "written_bytes"), 8);
	assert_int_equal(number(disk, "discarded_bytes"), 9);
	assert_int_equal(number(disk, "detected_zero_bytes"), 10);
	assert_int_equal(number(disk, "space_pauses"), 11);
	assert_int_equal(number(disk, "allocated_bytes_start"), 12);
	assert_int_equal(number(disk, "allocated_bytes"), 13);
	assert_int_equal(number(disk, "returned_bytes"), 0);
	disk = json_array_get(json_object_get(doc, "disks"), 0);
	assert_true(json_is_null(json_object_get(disk, "allocated_bytes_start")));
	assert_true(json_is_null(json_object_get(disk, "allocated_bytes")));
	assert_true(json_is_null(json_object_get(disk, "returned_bytes")));
	json_decref(doc);
}

static void test_failures_and_signals_are_written(void **state)
{
	struct vm_result result = {.end = VM_FAILED, .error = {"no \"kernel\"\n\x01 \xe4"}};
	json_t *doc = written(&result);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(doc, "end")), "failed");
	assert_int_equal(number(doc, "status"), 125);
	assert_int_equal(number(json_object_get(doc, "console"), "lost_bytes"), 0);
	assert_int_equal(json_array_size(json_object_get(doc, "disks")), 0);
	assert_string_equal(json_string_value(json_object_get(doc, "error")),
			    "no \"kernel\"\n\x01 ?");
	json_decref(doc);
	result = (struct vm_result){.end = VM_STOPPED, .signal = SIGTERM};
	doc = written(&result);
	assert_string_equal(json_string_value(json_object_get(doc, "end")), "stopped");
	assert_int_equal(number(doc, "status"), 143);
	assert_int_equal(number(doc, "signal"), SIGTERM);
	json_decref(doc);
}

static void test_a_bad_descriptor_is_an_error(void **state)
{
	struct vm_result result = {.end = VM_POWER_OFF};
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(vm_result_write(fd, &result), -ENOSPC);
	close(fd);
	assert_int_equal(vm_result_write(-1, &result), -EBADF);
}

/* The result is written from inside the sandbox, which opens nothing. */
static int write_under_a_filter(const char *arg)
{
	struct vm_result result = {.end = VM_POWER_OFF};
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)arg;
	if (filter_syscall(__NR_openat, SECCOMP_RET_KILL_PROCESS) < 0)
		return 77;
	return vm_result_write(fd, &result);
}

/* A process of its own, because jansson seeds its hash but once. */
static void test_writing_opens_nothing(void **state)
{
	(void)state;
	assert_int_equal(in_child(write_under_a_filter, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writing_opens_nothing), /* first: see there */
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_failure_says_why),
		cmocka_unit_test(test_panic_before_the_first_byte_names_the_reasons),
		cmocka_unit_test(test_the_kernel_log_is_cut_where_it_matters_least),
		cmocka_unit_test(test_everything_is_written),
		cmocka_unit_test(test_failures_and_signals_are_written),
		cmocka_unit_test(test_a_bad_descriptor_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
