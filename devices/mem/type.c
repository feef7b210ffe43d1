// SPDX-License-Identifier: BSD-2-Clause
/* The memory device as a device of a VM, and `skep control PATH memory`. */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "config/config.h"
#include "mem.h"

/* Its option is --memory, which all VMs have. */
static bool is_there(const struct vm_config *config)
{
	return config->memory.max > config->memory.start;
}

const struct device_options mem_options = {
	.name = "memory",
	.what = "the memory device",
	.max = 1,
	.defaults = "", /* a struct of no fields */
	.is_there = is_there,
};

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct ram_size *size = &host->config->memory;
	struct loop *loop;
	int r;

	if (config_pins_memory(host->config))
		return error_set(e, -EINVAL,
				 "--memory: max: a disk pins the guest's memory, which then cannot "
				 "grow or shrink: leave out max, or the disk's pin");
	r = loop_new(&loop, "mem", LOOP_EPOLL, 0, e);
	if (r < 0)
		return r;
	device_add_loop(d, loop, "mem");
	return mem_device_new(&d->dev, host, size->start, size->max, loop, e);
}

static const struct device_counter counters[] = {
	DEVICE_COUNTER(mem_counters, size),
	DEVICE_COUNTER(mem_counters, target),
	DEVICE_COUNTER(mem_counters, max),
	DEVICE_COUNTER(mem_counters, plugged_bytes),
	DEVICE_COUNTER(mem_counters, returned_bytes),
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		mem_counters(d->dev, ret);
}

static void print_sizes(const json_t *answer, FILE *out)
{
	char size[DEVICE_BYTES_LEN], target[DEVICE_BYTES_LEN];

	fprintf(out, "memory: %s", answer_bytes(answer, "size", size));
	if (answer_number(answer, "size") != answer_number(answer, "target"))
		fprintf(out, ", on its way to %s", answer_bytes(answer, "target", target));
}

static void print_status(size_t i, const json_t *status, FILE *out)
{
	char max[DEVICE_BYTES_LEN], returned[DEVICE_BYTES_LEN];

	(void)i;
	if (!answer_number(status, "max")) /* there is none */
		return;
	print_sizes(status, out);
	fprintf(out, ", at most %s; %s given back to the host\n", answer_bytes(status, "max", max),
		answer_bytes(status, "returned_bytes", returned));
}

static json_t *resize(const struct device_request *request, struct error *e)
{
	json_t *size = json_object_get(request->json, "size");
	struct mem_counters now;

	if (!request->num) {
		error_set(e, -ENODEV,
			  "the VM's memory has one size: it was started without --memory max=SIZE");
		return NULL;
	}
	if (!json_is_integer(size) || json_integer_value(size) < 0) {
		error_set(e, -EINVAL, "\"size\" must be a whole number of bytes");
		return NULL;
	}
	if (mem_set_size(request->devices->dev, (uint64_t)json_integer_value(size), e) < 0)
		return NULL;
	mem_counters(request->devices->dev, &now);
	return json_pack("{s:I, s:I}", "size", (json_int_t)now.size, "target",
			 (json_int_t)now.target);
}

static int print_size(const struct device_words *words, const json_t *answer, FILE *out)
{
	(void)words;
	print_sizes(answer, out);
	fputc('\n', out);
	return 0;
}

static const struct device_command commands[] = {
	{
		.name = "memory",
		.members = (const char *const[]){"size", NULL},
		.run = resize,
		.operands = "SIZE",
		.summary = "set how much memory the guest has, if it can grow",
		.max_operands = 1,
		.ask = ask_size,
		.print = print_size,
	},
	{.name = NULL},
};

const struct device_type mem_type = {
	.name = "mem",
	.options = &mem_options,
	.build = build,
	.counters = counters,
	.count = count,
	.print_status = print_status,
	.commands = commands,
};
