// SPDX-License-Identifier: BSD-2-Clause
/* How a VM ended: as an exit status, as a line for the user, as JSON. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "vm/vm.h"

static const struct {
	const char *name;
	int status;
	const char *text; /* NULL: success, nothing to say */
} ends[] = {
	[VM_POWER_OFF] = {"power-off", 0, NULL},
	[VM_REBOOT] = {"reboot", 120, "the guest asked for a reboot"},
	[VM_PANIC] = {"panic", 121, "the guest's kernel panicked"},
	[VM_RESET] = {"reset", 122, "the guest reset itself unasked"},
	[VM_HALTED] = {"halted", 123,
		       "the guest halted: its CPUs wait with interrupts off, for ever"},
	[VM_TIMEOUT] = {"timeout", 124, "the guest was ended: --timeout ran out"},
	[VM_FAILED] = {"failed", 125, "skep failed"},
	[VM_STOPPED] = {"stopped", 130, "the guest was ended with the escape key"},
};
static_assert(ARRAY_SIZE(ends) == VM_STOPPED + 1, "each way to end has a name");

void vm_result_destroy(struct vm_result *result)
{
	if (!result)
		return;
	free(result->disks);
	result->disks = NULL;
	result->num_disks = 0;
}

int vm_result_status(const struct vm_result *result)
{
	if (result->end == VM_STOPPED && result->signal > 0)
		return 128 + result->signal;
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
			why = "see its console";
		snprintf(ret->msg, sizeof(ret->msg), "%s%s%s", text ? text : "",
			 text && *why ? ": " : "", text ? why : "");
	}
}

/* Packed as Linux's initrds are, the files take some four times as much, beside the archive. */
static uint64_t memory_for(uint64_t initrd)
{
	return ALIGN_UP(5 * initrd + 128 * MIB, 128 * MIB);
}

void vm_result_explain_silence(struct vm_result *result, uint64_t memory, uint64_t initrd,
			       bool is_linux)
{
	struct error before = result->error, memory_too = {""};

	if (result->end == VM_POWER_OFF || result->end == VM_FAILED || result->end == VM_STOPPED)
		return;
	if (is_linux && initrd && memory < memory_for(initrd))
		error_set(&memory_too, 0,
			  "%llu MiB of memory are too little for an initrd of %llu MiB, which is "
			  "unpacked beside itself (try --memory %lluM), or ",
			  (unsigned long long)(memory / MIB),
			  (unsigned long long)(ALIGN_UP(initrd, MIB) / MIB),
			  (unsigned long long)(memory_for(initrd) / MIB));
	error_set(&result->error, 0, "nothing came to its console before that; likely %s%s",
		  memory_too.msg,
		  !is_linux ? "it prints to a serial port, where there is only virtio-console"
		  : initrd  ? "its initrd does not load virtio_mmio and virtio_console"
			    : "it has no virtio_mmio and virtio_console built in, and no --initrd "
			      "to load them from");
	if (before.msg[0])
		error_prefix(&result->error, 0, "%s", before.msg);
}

/* In the order of docs/result.md. */
static const struct {
	const char *name;
	size_t offset;
} disk_numbers[] = {
#define NUMBER(name, member)                                                                       \
	{                                                                                          \
		name, offsetof(struct disk_result, member)                                         \
	}
	NUMBER("reads", reads),
	NUMBER("writes", writes),
	NUMBER("flushes", flushes),
	NUMBER("discards", discards),
	NUMBER("write_zeroes", write_zeroes),
	NUMBER("secure_erases", secure_erases),
	NUMBER("errors", errors),
	NUMBER("read_bytes", read_bytes),
	NUMBER("written_bytes", written_bytes),
	NUMBER("discarded_bytes", discarded_bytes),
	NUMBER("detected_zero_bytes", detected_zero_bytes),
	NUMBER("space_pauses", space_pauses),
	NUMBER("returned_bytes", returned_bytes),
	NUMBER("allocated_bytes_start", allocated_start),
	NUMBER("allocated_bytes", allocated_end),
};

json_t *vm_disk_json(const struct disk_config *config, const struct disk_result *disk)
{
	json_t *object = json_pack("{s:o}", "path", json_from_bytes(config->path));

	for (size_t i = 0; i < ARRAY_SIZE(disk_numbers); i++) {
		int64_t n;

		memcpy(&n, (const char *)disk + disk_numbers[i].offset, sizeof(n));
		json_object_set_new(object, disk_numbers[i].name,
				    n < 0 ? json_null() : json_integer(n));
	}
	return object;
}

static json_t *disks_json(const struct vm_config *config, const struct vm_result *result)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < result->num_disks && i < config->num_disks; i++)
		json_array_append_new(disks, vm_disk_json(&config->disks[i], &result->disks[i]));
	return disks;
}

int vm_result_write(int fd, const struct vm_config *config, const struct vm_result *result)
{
	_cleanup_free_ char *text = NULL;
	ssize_t r;

	/* We may be in the sandbox: without this, jansson opens /dev/urandom for the seed of its
	 * hash, which protects from hostile keys; ours are constants. */
	json_object_seed(1);
	text = json_to_text(json_pack(
		"{s:s, s:i, s:o, s:o, s:f, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:I, s:{s:I, "
		"s:I}, s:o}",
		"end", ends[result->end].name, "status", vm_result_status(result), "signal",
		result->end == VM_STOPPED && result->signal > 0 ? json_integer(result->signal)
								: json_null(),
		"error", result->error.msg[0] ? json_from_bytes(result->error.msg) : json_null(),
		"seconds", (double)result->run_ns / 1e9, "exits", "mmio_read",
		(json_int_t)result->exits.mmio_read, "mmio_write",
		(json_int_t)result->exits.mmio_write, "pio_in", (json_int_t)result->exits.pio_in,
		"pio_out", (json_int_t)result->exits.pio_out, "unknown_mmio",
		(json_int_t)result->exits.unknown_mmio, "unknown_pio",
		(json_int_t)result->exits.unknown_pio, "other", (json_int_t)result->exits.other,
		"coalesced", (json_int_t)result->coalesced, "console", "bytes",
		(json_int_t)result->console.written, "lost_bytes", (json_int_t)result->console.lost,
		"disks", disks_json(config, result)));
	if (!text)
		return -ENOMEM;
	r = write_full(fd, text, strlen(text));
	return r < 0 ? (int)r : 0;
}
