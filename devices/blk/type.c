// SPDX-License-Identifier: BSD-2-Clause
/* The disk as a device of a VM: its image, a loop for each queue, what it tells. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "commands.h"

#define LOOP_ENTRIES 256u

static enum loop_engine loop_engine(enum disk_engine engine)
{
	static const enum loop_engine map[] = {
		[ENGINE_AUTO] = LOOP_AUTO,
		[ENGINE_URING] = LOOP_URING,
		[ENGINE_SYNC] = LOOP_EPOLL,
	};

	return map[engine];
}

static int add_loop(struct vm_device *d, unsigned queue, struct loop **ret, struct error *e)
{
	const struct disk_config *config = d->config;
	char name[16];
	int r;

	snprintf(name, sizeof(name), config->queues > 1 ? "disk%u.%u" : "disk%u", d->index, queue);
	r = loop_new(ret, name, loop_engine(config->engine), LOOP_ENTRIES, e);
	if (r == 0)
		device_add_loop(d, *ret, loop_is_uring(*ret) ? "disk-uring" : "disk-sync");
	return r;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	struct disk_config config = *(const struct disk_config *)d->config;
	struct loop *loop[BLK_MAX_QUEUES];
	struct blk_image *image;
	int r = blk_image_open(&image, &config, e);

	if (r < 0)
		return error_prefix(e, r, "disk %s", config.path);
	for (unsigned q = 0; r == 0 && q < config.queues; q++)
		r = add_loop(d, q, &loop[q], e);
	if (r < 0) {
		blk_image_close(image);
		return error_prefix(e, r, "disk %s", config.path);
	}
	disk_serial(d->config, d->index, config.serial);
	r = blk_device_new(&d->dev, host->mem, image, &config, loop, e);
	if (r < 0)
		return error_prefix(e, r, "disk %s", config.path);
	/* Last: it posts to the others until it ends. */
	if (blk_device_worker(d->dev))
		device_add_loop(d, blk_device_worker(d->dev), "disk-sync");
	return 0;
}

/* In the order of docs/result.md. */
static const struct device_counter counters[] = {
	DEVICE_COUNTER(disk_result, reads),
	DEVICE_COUNTER(disk_result, writes),
	DEVICE_COUNTER(disk_result, flushes),
	DEVICE_COUNTER(disk_result, discards),
	DEVICE_COUNTER(disk_result, write_zeroes),
	DEVICE_COUNTER(disk_result, secure_erases),
	DEVICE_COUNTER(disk_result, errors),
	DEVICE_COUNTER(disk_result, read_bytes),
	DEVICE_COUNTER(disk_result, written_bytes),
	DEVICE_COUNTER(disk_result, discarded_bytes),
	DEVICE_COUNTER(disk_result, detected_zero_bytes),
	DEVICE_COUNTER(disk_result, space_pauses),
	DEVICE_COUNTER(disk_result, returned_bytes),
	{"allocated_bytes_start", offsetof(struct disk_result, allocated_start)},
	{"allocated_bytes", offsetof(struct disk_result, allocated_end)},
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	struct disk_result *result = ret;

	if (!d->dev) /* until it is asked, nobody knows */
		*result = (struct disk_result){
			.allocated_start = -1, .allocated_end = -1, .returned_bytes = -1};
	else if (wait)
		blk_device_result(d->dev, result);
	else
		blk_device_counters(d->dev, result);
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct disk_config *config = d->config;

	json_object_set_new(ret, "path", json_from_bytes(config->path));
}

static void add_status(const struct vm_device *d, json_t *ret)
{
	char serial[BLK_SERIAL_LEN + 1];
	struct rate_limits limits;

	disk_serial(d->config, d->index, serial);
	blk_device_limits(d->dev, &limits);
	json_object_set_new(ret, "serial", json_from_bytes(serial));
	json_object_set_new(ret, "size", json_integer((json_int_t)blk_device_size(d->dev)));
	blk_add_limits(ret, &limits);
}

static void print_status(size_t i, const json_t *disk, FILE *out)
{
	char size[FORMAT_BYTES], read[FORMAT_BYTES], written[FORMAT_BYTES], discarded[FORMAT_BYTES];

	print_line(out, "disk %zu (%s): %s, %s", i, answer_text(disk, "serial"),
		   answer_bytes(disk, "size", size), answer_text(disk, "path"));
	fprintf(out,
		"  %" PRIu64 " reads of %s, %" PRIu64 " writes of %s, %" PRIu64
		" discards of %s, %" PRIu64 " flushes, %" PRIu64 " errors\n",
		answer_number(disk, "reads"), answer_bytes(disk, "read_bytes", read),
		answer_number(disk, "writes"), answer_bytes(disk, "written_bytes", written),
		answer_number(disk, "discards"), answer_bytes(disk, "discarded_bytes", discarded),
		answer_number(disk, "flushes"), answer_number(disk, "errors"));
}

const struct device_type blk_type = {
	.name = "blk",
	.options = &blk_options,
	.build = build,
	.counters = counters,
	.count = count,
	.describe = describe,
	.add_status = add_status,
	.print_status = print_status,
	.commands = blk_commands,
};
