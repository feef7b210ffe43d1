// SPDX-License-Identifier: BSD-2-Clause
/* `skep control PATH link` and `limit-net`, both ends: docs/control.md. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "commands.h"
#include "config/settings.h"

/* The VM's end */

void net_add_limits(json_t *ret, const struct net_limits *limits)
{
	const struct rate_limits *rx = &limits->of[NET_RX], *tx = &limits->of[NET_TX];

	json_object_set_new(ret, "rx_bps", json_integer((json_int_t)rx->bytes_per_s));
	json_object_set_new(ret, "rx_pps", json_integer((json_int_t)rx->ops_per_s));
	json_object_set_new(ret, "tx_bps", json_integer((json_int_t)tx->bytes_per_s));
	json_object_set_new(ret, "tx_pps", json_integer((json_int_t)tx->ops_per_s));
	json_object_set_new(ret, "burst_ns", json_integer((json_int_t)rx->burst_ns));
}

/* The device that "net" names, by its position or its name. */
static struct vm_device *find(const struct device_request *request, struct error *e)
{
	const json_t *net = json_object_get(request->json, "net");
	char name[NET_NAME_LEN];

	for (unsigned i = 0; i < request->num; i++) {
		net_name(request->devices[i].config, name);
		if (json_is_string(net) ? strcmp(json_string_value(net), name) == 0
					: json_is_integer(net) && json_integer_value(net) == i)
			return &request->devices[i];
	}
	error_set(e, -ENODEV,
		  "\"net\" must be the position of a network device, 0 for the first, or its name: "
		  "see what \"status\" lists");
	return NULL;
}

static json_t *set_link(const struct device_request *request, struct error *e)
{
	const char *state = json_string_value(json_object_get(request->json, "link"));
	struct vm_device *d = find(request, e);

	if (!d)
		return NULL;
	if (!state || (strcmp(state, "up") != 0 && strcmp(state, "down") != 0)) {
		error_set(e, -EINVAL, "\"link\" must be \"up\" or \"down\"");
		return NULL;
	}
	net_set_link(d->dev, strcmp(state, "up") == 0);
	return json_pack("{s:I, s:s}", "net", (json_int_t)d->index, "link",
			 net_link(d->dev) ? "up" : "down");
}

static json_t *limit_net(const struct device_request *request, struct error *e)
{
	struct vm_device *d = find(request, e);
	struct rate_limits *rx, *tx;
	struct net_limits limits;
	json_t *answer;

	if (!d)
		return NULL;
	if (!net_has_limits(d->dev)) {
		error_set(e, -EOPNOTSUPP, "with vhost there are none: limit the tap (tc(8))");
		return NULL;
	}
	net_get_limits(d->dev, &limits);
	rx = &limits.of[NET_RX];
	tx = &limits.of[NET_TX];
	if (request_number(request->json, "rx_bps", 0, &rx->bytes_per_s, e) < 0 ||
	    request_number(request->json, "rx_pps", 0, &rx->ops_per_s, e) < 0 ||
	    request_number(request->json, "tx_bps", 0, &tx->bytes_per_s, e) < 0 ||
	    request_number(request->json, "tx_pps", 0, &tx->ops_per_s, e) < 0 ||
	    request_number(request->json, "burst_ns", 0, &rx->burst_ns, e) < 0)
		return NULL;
	tx->burst_ns = rx->burst_ns;
	net_set_limits(d->dev, &limits);
	answer = json_pack("{s:I}", "net", (json_int_t)d->index);
	net_add_limits(answer, &limits);
	return answer;
}

/* The client's end */

static int ask_link(const struct device_words *words, json_t *request, struct error *e)
{
	const char *link = words->operand[1];

	if (strcmp(link, "up") != 0 && strcmp(link, "down") != 0)
		return error_set(e, -EINVAL, "'%.40s' is neither up nor down", link);
	ask_device(request, "net", words->operand[0]);
	json_object_set_new(request, "link", json_string(link));
	return 0;
}

/* As in struct net_config; UINT64_MAX and UINT_MAX: what it is now. */
struct limit_options {
	uint64_t rx_bps, tx_bps, burst_ns;
	unsigned rx_pps, tx_pps;
};
static_assert(sizeof(struct limit_options) <= DEVICE_MAX_OPTIONS, "what a command may have");

static const struct limit_options no_limits = {.rx_bps = UINT64_MAX,
					       .tx_bps = UINT64_MAX,
					       .burst_ns = UINT64_MAX,
					       .rx_pps = UINT_MAX,
					       .tx_pps = UINT_MAX};

static const struct setting limit_settings[] = {
	{"rx-bps", .arg = "SIZE", BYTES_FIELD(limit_options, rx_bps),
	 .help = "bytes per second to the guest, like 100M; a bare number is bytes, 0 means no "
		 "limit"},
	{"tx-bps", .arg = "SIZE", BYTES_FIELD(limit_options, tx_bps),
	 .help = "the same from the guest"},
	{"rx-pps", .arg = "N", COUNT_FIELD(limit_options, rx_pps), .max = NET_MAX_PPS,
	 .help = "packets per second to the guest; 0 means no limit"},
	{"tx-pps", .arg = "N", COUNT_FIELD(limit_options, tx_pps), .max = NET_MAX_PPS,
	 .help = "the same from the guest"},
	{"burst", .arg = "TIME", DURATION_FIELD(limit_options, burst_ns),
	 .help = "for how long unused limits may be saved up"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static uint64_t pps(unsigned n)
{
	return n == UINT_MAX ? UINT64_MAX : n;
}

static int ask_limit(const struct device_words *words, json_t *request, struct error *e)
{
	const struct limit_options *options = words->options;

	(void)e;
	ask_device(request, "net", words->operand[0]);
	ask_number(request, "rx_bps", options->rx_bps);
	ask_number(request, "tx_bps", options->tx_bps);
	ask_number(request, "rx_pps", pps(options->rx_pps));
	ask_number(request, "tx_pps", pps(options->tx_pps));
	ask_number(request, "burst_ns", options->burst_ns);
	return 0;
}

static void print_direction(const json_t *answer, const char *bps, const char *pps,
			    const char *what, FILE *out)
{
	char bytes[FORMAT_BYTES];

	fprintf(out, "  %s:", what);
	if (answer_number(answer, bps))
		fprintf(out, " %s/s", answer_bytes(answer, bps, bytes));
	if (answer_number(answer, pps))
		fprintf(out, " %" PRIu64 " packets/s", answer_number(answer, pps));
	if (!answer_number(answer, bps) && !answer_number(answer, pps))
		fprintf(out, " no limit");
	fprintf(out, "\n");
}

static int print_limit(const struct device_words *words, const json_t *answer, FILE *out)
{
	fprintf(out, "net %s: bursts of %.6g ms\n", words->operand[0],
		(double)answer_number(answer, "burst_ns") / 1e6);
	print_direction(answer, "rx_bps", "rx_pps", "to the guest", out);
	print_direction(answer, "tx_bps", "tx_pps", "from it", out);
	return 0;
}

const struct device_command net_commands[] = {
	{
		.name = "link",
		.members = (const char *const[]){"net", "link", NULL},
		.run = set_link,
		.operands = "NET up|down",
		.summary = "plug a network device in, or pull its plug",
		.max_operands = 2,
		.ask = ask_link,
	},
	{
		.name = "limit-net",
		.members = (const char *const[]){"net", "rx_bps", "rx_pps", "tx_bps", "tx_pps",
						 "burst_ns", NULL},
		.run = limit_net,
		.operands = "NET",
		.summary = "change a network device's limits; what is not given stays",
		.max_operands = 1,
		.settings = limit_settings,
		.defaults = &no_limits,
		.options_size = sizeof(no_limits),
		.ask = ask_limit,
		.print = print_limit,
	},
	{.name = NULL},
};
