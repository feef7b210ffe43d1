// SPDX-License-Identifier: BSD-2-Clause
/* The balloon as a device of a VM, and `skep control PATH balloon`. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "balloon.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "config/config.h"
#include "idle.h"
#include "virtio/type.h"

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct balloon_config *config = d->config;
	bool pinned = config_pins_memory(host->config);
	struct idle *idle = NULL;
	int r;

	if (pinned && (config->size || config->idle_ns)) {
		const char *what = config->size ? "size" : "drop-caches";

		return error_set(e, -EINVAL,
				 "--balloon: %s: a disk pins the guest's memory, so that none can "
				 "go back: leave out %s, or the disk's pin",
				 what, what);
	}
	r = balloon_device_new(&d->dev, host->mem, config, pinned, host->loop, e);
	if (r == 0 && config->idle_ns)
		r = idle_new(&idle, d->dev, host, config->idle_ns, host->loop, e);
	d->own = idle;
	return r;
}

static void close_idle(struct vm_device *d)
{
	idle_free(d->own);
	d->own = NULL;
}

static const struct device_counter counters[] = {
	DEVICE_COUNTER(balloon_counters, size),
	DEVICE_COUNTER(balloon_counters, target),
	DEVICE_COUNTER(balloon_counters, inflated_bytes),
	DEVICE_COUNTER(balloon_counters, reported_bytes),
	DEVICE_COUNTER(balloon_counters, returned_bytes),
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		balloon_counters(d->dev, ret);
}

/* In the order of VIRTIO_BALLOON_S_*; docs/control.md. */
static const char *const stat_names[VIRTIO_BALLOON_S_NR] = {
	"swap_in_bytes",       "swap_out_bytes",   "major_faults",    "minor_faults",
	"free_bytes",	       "total_bytes",	   "available_bytes", "cache_bytes",
	"hugetlb_allocations", "hugetlb_failures",
};

/* What is known now; and asks for news, which the next status has. */
static void add_status(const struct vm_device *d, json_t *ret)
{
	int64_t stats[VIRTIO_BALLOON_S_NR], age = balloon_stats(d->dev, stats);
	json_t *guest = age < 0 ? json_null() : json_object();

	if (age >= 0)
		json_object_set_new(guest, "age_seconds", json_real((double)age / 1e9));
	for (unsigned i = 0; age >= 0 && i < VIRTIO_BALLOON_S_NR; i++)
		if (stats[i] >= 0)
			json_object_set_new(guest, stat_names[i], json_integer(stats[i]));
	json_object_set_new(ret, "guest", guest);
	balloon_ask_for_stats(d->dev);
}

static void print_status(size_t i, const json_t *status, FILE *out)
{
	char size[DEVICE_BYTES_LEN], returned[DEVICE_BYTES_LEN], total[DEVICE_BYTES_LEN],
		available[DEVICE_BYTES_LEN];
	const json_t *guest = json_object_get(status, "guest");

	(void)i;
	print_line(out, "balloon: %s, %s given back to the host",
		   answer_bytes(status, "size", size),
		   answer_bytes(status, "returned_bytes", returned));
	if (json_is_object(guest))
		print_line(out, "  the guest has %s of memory available, of %s",
			   answer_bytes(guest, "available_bytes", available),
			   answer_bytes(guest, "total_bytes", total));
}

/* The command */

static json_t *resize(const struct device_request *request, struct error *e)
{
	const json_t *size = json_object_get(request->json, "size");
	struct vm_device *d = request->num ? request->devices : NULL;
	struct balloon_counters now;

	if (!d) {
		error_set(e, -ENODEV, "the VM has no balloon: it was started with --balloon off");
		return NULL;
	}
	if (balloon_is_pinned(d->dev)) {
		error_set(e, -ENOTSUP, "a disk pins the guest's memory: none of it can go back");
		return NULL;
	}
	if (!json_is_integer(size) || json_integer_value(size) < 0) {
		error_set(e, -EINVAL, "\"size\" must be a whole number of bytes");
		return NULL;
	}
	balloon_set_size(d->dev, (uint64_t)json_integer_value(size));
	balloon_counters(d->dev, &now);
	return json_pack("{s:I, s:I}", "size", (json_int_t)now.size, "target",
			 (json_int_t)now.target);
}

static int print_size(const struct device_words *words, const json_t *answer, FILE *out)
{
	char size[DEVICE_BYTES_LEN], target[DEVICE_BYTES_LEN];

	(void)words;
	print_line(out, "balloon: %s, on its way to %s", answer_bytes(answer, "size", size),
		   answer_bytes(answer, "target", target));
	return 0;
}

static const struct device_command commands[] = {
	{
		.name = "balloon",
		.members = (const char *const[]){"size", NULL},
		.run = resize,
		.operands = "SIZE",
		.summary = "set how much memory the guest is to do without",
		.max_operands = 1,
		.ask = ask_size,
		.print = print_size,
	},
	{.name = NULL},
};

const struct device_type balloon_type = {
	.name = "balloon",
	.options = &balloon_options,
	.build = build,
	.close = close_idle,
	.counters = counters,
	.count = count,
	.add_status = add_status,
	.print_status = print_status,
	.commands = commands,
};
