// SPDX-License-Identifier: BSD-2-Clause
/* The network device as a device of a VM. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "commands.h"
#include "net.h"
#include "vhost.h"
#include "virtio/type.h"

static_assert(NET_MAX_PAIRS <= DEVICE_MAX_LOOPS, "a loop for each pair");

static int add_loops(struct vm_device *d, unsigned num, const char *role, struct loop **ret,
		     struct error *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < num; i++) {
		char name[16];

		snprintf(name, sizeof(name), num > 1 ? "net%u.%u" : "net%u", d->index, i);
		r = loop_new(&ret[i], name, LOOP_EPOLL, 0, e);
		if (r == 0)
			device_add_loop(d, ret[i], role);
	}
	return r;
}

static const char *role_of(const struct net_port *port)
{
	if (port->vhost)
		return "net-vhost";
	if (port->ops == &net_tap_ops)
		return "net-tap";
	if (port->reconnects)
		return "net-connect";
	return port->listener >= 0 ? "net-listen" : "net-stream";
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct net_config *config = d->config;
	struct loop *loop[NET_MAX_PAIRS];
	struct net_port *port = NULL;
	char name[NET_NAME_LEN];
	uint8_t mac[NET_MAC_LEN];
	int r = net_mac(config, d->index, mac, e);

	if (r == 0)
		r = net_port_open(&port, config, e);
	if (r == 0)
		net_vhost_check_memory(port, host->mem);
	if (r == 0)
		r = add_loops(d, port->vhost ? 1 : port->pairs, role_of(port), loop, e);
	for (unsigned i = 1; r == 0 && port->vhost && i < port->pairs; i++)
		loop[i] = loop[0];
	if (r < 0)
		net_port_close(port);
	else
		r = net_device_new(&d->dev, host->mem, port, mac, loop, e);
	if (r == 0)
		net_set_limits(
			d->dev,
			&(struct net_limits){{
				[NET_RX] = {config->rx_bps, config->rx_pps, config->burst_ns},
				[NET_TX] = {config->tx_bps, config->tx_pps, config->burst_ns},
			}});
	return r < 0 ? error_prefix(e, r, "%s%s", config->tap ? "tap " : "", net_name(config, name))
		     : 0;
}

#define NUMBER(member)                                                                             \
	{                                                                                          \
#member, offsetof(struct net_counters, member)                                     \
	}
static const struct device_counter counters[] = {
	NUMBER(rx_packets), NUMBER(rx_bytes),	NUMBER(rx_dropped), NUMBER(tx_packets),
	NUMBER(tx_bytes),   NUMBER(tx_dropped), {.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		net_counters(d->dev, ret);
}

static void describe(const struct vm_device *d, json_t *ret)
{
	char name[NET_NAME_LEN];

	json_object_set_new(ret, "name", json_from_bytes(net_name(d->config, name)));
}

static void add_status(const struct vm_device *d, json_t *ret)
{
	uint8_t mac[NET_MAC_LEN];
	struct net_limits limits;

	net_current_mac(d->dev, mac);
	net_get_limits(d->dev, &limits);
	json_object_set_new(ret, "mac",
			    json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
					 mac[3], mac[4], mac[5]));
	json_object_set_new(ret, "link", json_string(net_link(d->dev) ? "up" : "down"));
	net_add_limits(ret, &limits);
}

static void print_status(size_t i, const json_t *net, FILE *out)
{
	char received[DEVICE_BYTES_LEN], sent[DEVICE_BYTES_LEN];

	print_line(out, "net %zu (%s): %s, link %s", i, answer_text(net, "name"),
		   answer_text(net, "mac"), answer_text(net, "link"));
	if (json_is_null(json_object_get(net, "rx_packets"))) {
		fprintf(out,
			"  the host's kernel moves its packets, and counts them (ip -s link)\n");
		return;
	}
	fprintf(out,
		"  %" PRIu64 " packets (%s) to the guest, %" PRIu64 " dropped; %" PRIu64
		" packets (%s) from it, %" PRIu64 " dropped\n",
		answer_number(net, "rx_packets"), answer_bytes(net, "rx_bytes", received),
		answer_number(net, "rx_dropped"), answer_number(net, "tx_packets"),
		answer_bytes(net, "tx_bytes", sent), answer_number(net, "tx_dropped"));
}

const struct device_type net_type = {
	.name = "net",
	.options = &net_options,
	.build = build,
	.counters = counters,
	.count = count,
	.describe = describe,
	.add_status = add_status,
	.print_status = print_status,
	.commands = net_commands,
	.check_host = net_check_host,
};
