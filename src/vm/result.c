// SPDX-License-Identifier: BSD-2-Clause
/* How a VM ended: as an exit status, as a line for the user, as JSON. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "vm/devices.h"
#include "vm/vm.h"

static const struct {
	const char *name;
	int status;
	const char *text; /* NULL: success, nothing to say */
} ends[] = {
	[VM_POWER_OFF] = {"power-off", 0, NULL},
	[VM_REBOOT] = {"reboot", 120, "the guest asked for a reboot"},
	[VM_PANIC] = {"panic", 121, "the guest's kernel panicked"},
	[VM_RESET] = {"reset", 122, "the guest reset unexpectedly"},
	[VM_HALTED] = {"halted", 123,
		       "the guest halted: all its CPUs wait forever, with interrupts off"},
	[VM_TIMEOUT] = {"timeout", 124, "the guest was ended: --timeout ran out"},
	[VM_FAILED] = {"failed", STATUS_FAILED, "skep failed"},
	[VM_STOPPED] = {"stopped", 130, "the guest was ended with the escape key"},
};
static_assert(ARRAY_SIZE(ends) == VM_STOPPED + 1, "each way to end has a name");

void vm_result_destroy(struct vm_result *result)
{
	if (!result)
		return;
	klog_page_free(&result->kernel_log);
	free(result->devices);
	result->devices = NULL;
	result->num_devices = 0;
}

int vm_result_status(const struct vm_result *result)
{
	if (result->end == VM_STOPPED && result->signal > 0)
		return 128 + result->signal;
	if (result->end == VM_POWER_OFF)
		return result->command_status;
	return ends[result->end].status;
}

void vm_result_describe(const struct vm_result *result, struct error *ret)
{
	const char *text = ends[result->end].text, *why = result->error.msg;

	if (result->end == VM_STOPPED && result->signal > 0) {
		const char *name = sigabbrev_np(result->signal);

		snprintf(ret->msg, sizeof(ret->msg), "the guest was ended by force after SIG%s",
			 name ? name : "?");
	} else if ((result->end == VM_FAILED || result->end == VM_STOPPED) && *why) {
		*ret = result->error;
	} else {
		if (result->end == VM_PANIC && !*why)
			why = "see what it printed";
		snprintf(ret->msg, sizeof(ret->msg), "%s%s%s", text ? text : "",
			 text && *why ? ": " : "", text ? why : "");
	}
}

void vm_result_add_reason(struct vm_result *result, const struct error *why)
{
	struct error before = result->error;

	if (result->end == VM_POWER_OFF || result->end == VM_FAILED || result->end == VM_STOPPED)
		return;
	result->error = *why;
	if (before.msg[0])
		error_prefix(&result->error, 0, "%s", before.msg);
}

/* What was printed to a stream, line by line. */
static void add_lines(json_t *list, char *text)
{
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")) && rest)
		json_array_append_new(list, json_from_bytes(line));
}

static json_t *kernel_log_of(const struct vm_result *result)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = result->kernel_log.num ? open_memstream(&text, &len) : NULL;
	json_t *list;

	if (!out)
		return json_null();
	for (size_t i = 0; i < result->kernel_log.num; i++)
		klog_print(&result->kernel_log.record[i], out);
	if (fclose(out) != 0)
		return json_null();
	list = json_array();
	add_lines(list, text);
	return list;
}

/* What is shown: where it went wrong, which is what the kernel calls critical or worse, and the end. */
#define SHOWN_RECORDS	  20u
#define CRITICAL_RECORDS  12u
#define BEFORE_CRITICAL	  2u
#define LEVEL_OF_CRITICAL 2u

static void print_records(const struct klog_page *log, size_t from, size_t to, FILE *out)
{
	for (size_t i = from; i < to; i++)
		klog_print(&log->record[i], out);
}

static void print_log(const struct klog_page *log, FILE *out)
{
	size_t end = log->num - MIN(log->num, SHOWN_RECORDS), critical = 0;

	while (critical < end && log->record[critical].level > LEVEL_OF_CRITICAL)
		critical++;
	if (critical < end) {
		critical -= MIN(critical, BEFORE_CRITICAL);
		print_records(log, critical, critical + CRITICAL_RECORDS, out);
		fputs("[...]\n", out);
		end += CRITICAL_RECORDS;
	}
	print_records(log, end, log->num, out);
}

char *vm_result_kernel_log(const struct vm_result *result)
{
	char *text = NULL;
	size_t len;
	FILE *out = result->log_is_news ? open_memstream(&text, &len) : NULL;

	if (!out)
		return NULL;
	print_log(&result->kernel_log, out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

json_t *vm_result_end(const struct vm_result *result)
{
	return json_pack(
		"{s:s, s:i, s:o, s:o, s:f}", "end", ends[result->end].name, "status",
		vm_result_status(result), "signal",
		result->end == VM_STOPPED && result->signal > 0 ? json_integer(result->signal)
								: json_null(),
		"error", result->error.msg[0] ? json_from_bytes(result->error.msg) : json_null(),
		"seconds", (double)result->run_ns / 1e9);
}

int vm_result_write(int fd, const struct vm_result *result)
{
	_cleanup_free_ char *text = NULL;
	json_t *doc;
	ssize_t r;

	/* We may be in the sandbox: without this, jansson opens /dev/urandom for the seed of its
	 * hash, which protects from hostile keys; ours are constants. */
	json_object_seed(1);
	doc = vm_result_end(result);
	json_object_update_new(
		doc, json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:I, s:o}", "exits",
			       "mmio_read", (json_int_t)result->exits.mmio_read, "mmio_write",
			       (json_int_t)result->exits.mmio_write, "pio_in",
			       (json_int_t)result->exits.pio_in, "pio_out",
			       (json_int_t)result->exits.pio_out, "unknown_mmio",
			       (json_int_t)result->exits.unknown_mmio, "unknown_pio",
			       (json_int_t)result->exits.unknown_pio, "other",
			       (json_int_t)result->exits.other, "coalesced",
			       (json_int_t)result->coalesced, "kernel_log", kernel_log_of(result)));
	devices_to_json(doc, device_types, result->devices, result->num_devices, false);
	text = json_to_text(doc);
	if (!text)
		return -ENOMEM;
	r = write_full(fd, text, strlen(text));
	return r < 0 ? (int)r : 0;
}
