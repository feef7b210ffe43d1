// SPDX-License-Identifier: BSD-2-Clause
/* `skep control PATH resize-disk` and `limit-disk`, both ends: docs/control.md. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "commands.h"
#include "config/settings.h"
#include "config/units.h"

/* The VM's end */

void blk_add_limits(json_t *ret, const struct rate_limits *limits)
{
	json_object_set_new(ret, "bps", json_integer((json_int_t)limits->bytes_per_s));
	json_object_set_new(ret, "iops", json_integer((json_int_t)limits->ops_per_s));
	json_object_set_new(ret, "burst_ns", json_integer((json_int_t)limits->burst_ns));
}

static struct vm_device *find_by_serial(const struct device_request *request, const char *wanted,
					struct error *e)
{
	struct vm_device *ret = NULL;
	char serial[BLK_SERIAL_LEN + 1];
	size_t found = 0;

	for (unsigned i = 0; i < request->num; i++) {
		disk_serial(request->devices[i].config, i, serial);
		if (strcmp(serial, wanted) == 0) {
			ret = &request->devices[i];
			found++;
		}
	}
	if (found == 1)
		return ret;
	error_set(e, -ENODEV, "%s the serial number '%.40s': see what \"status\" lists",
		  found ? "more than one disk has" : "no disk has", wanted);
	return NULL;
}

/* The disk that "disk" names, by its position or its serial number. */
static struct vm_device *find_disk(const struct device_request *request, struct error *e)
{
	const json_t *disk = json_object_get(request->json, "disk");
	json_int_t i;

	if (json_is_string(disk))
		return find_by_serial(request, json_string_value(disk), e);
	if (!json_is_integer(disk)) {
		error_set(e, -EINVAL,
			  "\"disk\" must be the position of a disk, 0 for the first, or its "
			  "serial number");
		return NULL;
	}
	i = json_integer_value(disk);
	if (i >= 0 && (uint64_t)i < request->num)
		return &request->devices[i];
	error_set(e, -ENODEV, "there is no disk %lld: the VM has %u", (long long)i, request->num);
	return NULL;
}

static json_t *resize_disk(const struct device_request *request, struct error *e)
{
	struct vm_device *d = find_disk(request, e);
	const struct disk_config *config;
	uint64_t size = 0, grow = 0;
	int64_t now;

	if (!d || request_number(request->json, "size", 1, &size, e) < 0 ||
	    request_number(request->json, "grow", 1, &grow, e) < 0)
		return NULL;
	if (size && grow) {
		error_set(e, -EINVAL, "both \"size\" and \"grow\": give one of them");
		return NULL;
	}
	if (grow)
		size = blk_device_size(d->dev) + grow; /* neither is 2^63 */
	now = blk_device_resize(d->dev, size, e);
	if (now < 0) {
		config = d->config;
		error_prefix(e, (int)now, "disk %s", config->path);
		return NULL;
	}
	return json_pack("{s:I, s:I}", "disk", (json_int_t)d->index, "size", (json_int_t)now);
}

static json_t *limit_disk(const struct device_request *request, struct error *e)
{
	struct vm_device *d = find_disk(request, e);
	struct rate_limits limits;
	json_t *answer;

	if (!d)
		return NULL;
	blk_device_limits(d->dev, &limits);
	if (request_number(request->json, "bps", 0, &limits.bytes_per_s, e) < 0 ||
	    request_number(request->json, "iops", 0, &limits.ops_per_s, e) < 0 ||
	    request_number(request->json, "burst_ns", 0, &limits.burst_ns, e) < 0)
		return NULL;
	blk_device_set_limits(d->dev, &limits);
	answer = json_pack("{s:I}", "disk", (json_int_t)d->index);
	blk_add_limits(answer, &limits);
	return answer;
}

/* The client's end */

static int ask_resize(const struct device_words *words, json_t *request, struct error *e)
{
	const char *text = words->operand[1];
	bool grow = text && text[0] == '+';
	uint64_t size;
	int r;

	ask_device(request, "disk", words->operand[0]);
	if (!text)
		return 0;
	r = config_parse_size(text + grow, MIB, &size, e);
	if (r < 0)
		return r;
	if (size == 0 || size > INT64_MAX)
		return error_set(e, -EINVAL, "'%s' is no size of a disk", text);
	json_object_set_new(request, grow ? "grow" : "size", json_integer((json_int_t)size));
	return 0;
}

static int print_resize(const struct device_words *words, const json_t *answer, FILE *out)
{
	char size[FORMAT_BYTES];

	fprintf(out, "disk %s: %" PRIu64 " bytes (%s)\n", words->operand[0],
		answer_number(answer, "size"), answer_bytes(answer, "size", size));
	return 0;
}

/* As in struct disk_config; UINT64_MAX and UINT_MAX: what it is now. */
struct limit_options {
	uint64_t bps, burst_ns;
	unsigned iops;
};

static const struct limit_options no_limits = {
	.bps = UINT64_MAX, .burst_ns = UINT64_MAX, .iops = UINT_MAX};

static const struct setting limit_settings[] = {
	{"bps", .arg = "SIZE", BYTES_FIELD(limit_options, bps),
	 .help = "bytes per second, like 100M; a bare number is bytes, 0 means no limit"},
	{"iops", .arg = "N", COUNT_FIELD(limit_options, iops), .max = BLK_MAX_IOPS,
	 .help = "requests per second; 0 means no limit"},
	{"burst", .arg = "TIME", DURATION_FIELD(limit_options, burst_ns),
	 .help = "for how long unused limits may be saved up"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int ask_limit(const struct device_words *words, json_t *request, struct error *e)
{
	const struct limit_options *options = words->options;

	(void)e;
	ask_device(request, "disk", words->operand[0]);
	ask_number(request, "bps", options->bps);
	ask_number(request, "iops", options->iops == UINT_MAX ? UINT64_MAX : options->iops);
	ask_number(request, "burst_ns", options->burst_ns);
	return 0;
}

static int print_limit(const struct device_words *words, const json_t *answer, FILE *out)
{
	char bps[FORMAT_BYTES];

	fprintf(out, "disk %s:", words->operand[0]);
	if (answer_number(answer, "bps"))
		fprintf(out, " %s/s", answer_bytes(answer, "bps", bps));
	if (answer_number(answer, "iops"))
		fprintf(out, " %" PRIu64 " requests/s", answer_number(answer, "iops"));
	if (!answer_number(answer, "bps") && !answer_number(answer, "iops"))
		fprintf(out, " no limit\n");
	else
		fprintf(out, ", bursts of %.6g ms\n",
			(double)answer_number(answer, "burst_ns") / 1e6);
	return 0;
}

const struct device_command blk_commands[] = {
	{
		.name = "resize-disk",
		.members = (const char *const[]){"disk", "size", "grow", NULL},
		.run = resize_disk,
		.operands = "DISK [[+]SIZE]",
		.summary = "enlarge a disk, by default to what its file has now; DISK is its "
			   "position, 0 for the first, or its serial number",
		.max_operands = 2,
		.ask = ask_resize,
		.print = print_resize,
	},
	{
		.name = "limit-disk",
		.members = (const char *const[]){"disk", "bps", "iops", "burst_ns", NULL},
		.run = limit_disk,
		.operands = "DISK",
		.summary = "change a disk's limits; what is not given stays",
		.max_operands = 1,
		.settings = limit_settings,
		.defaults = &no_limits,
		.options_size = sizeof(no_limits),
		.ask = ask_limit,
		.print = print_limit,
	},
	{.name = NULL},
};
