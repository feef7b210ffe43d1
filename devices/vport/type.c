// SPDX-License-Identifier: BSD-2-Clause
/* The port as a device of a VM. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "virtio/type.h"
#include "vport.h"

/* What a VM has from open() to close(). */
struct place {
	struct vport_end end; /* the device's, once there is one */
	bool built;
	bool confined; /* the sandbox forbids to remove the socket */
};

static int open_place(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct vport_config *config = d->config;
	struct place *place = calloc(1, sizeof(*place));
	int r;

	if (!place)
		return error_set(e, -ENOMEM, "out of memory");
	r = vport_end_open(&place->end, config, host, e);
	if (r < 0) {
		vport_end_close(&place->end);
		free(place);
		return r;
	}
	d->own = place;
	return 0;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct vport_config *config = d->config;
	struct place *place = d->own;
	struct loop *loop;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "port%u", d->index);
	r = loop_new(&loop, name, LOOP_EPOLL, 0, e);
	if (r < 0)
		return r;
	device_add_loop(d, loop, "port");
	place->built = true;
	return vport_device_new(&d->dev, host->mem, config->name, &place->end, loop, e);
}

static int start(struct vm_device *d, device_setup setup, struct error *e)
{
	const struct vport_config *config = d->config;
	struct place *place = d->own;

	(void)e;
	place->confined = setup;
	if (config->pty)
		log_notice("port %s is at %s", config->name, place->end.where);
	return 0;
}

static void close_place(struct vm_device *d)
{
	const struct vport_config *config = d->config;
	struct place *place = d->own;

	if (!place)
		return;
	if (config->socket && !place->confined)
		unlink(config->socket);
	if (!place->built)
		vport_end_close(&place->end);
	free(place);
	d->own = NULL;
}

static const struct device_counter counters[] = {
	DEVICE_COUNTER(vport_counters, rx_bytes),
	DEVICE_COUNTER(vport_counters, tx_bytes),
	DEVICE_COUNTER(vport_counters, lost_bytes),
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		vport_counters(d->dev, ret);
}

static void stop(struct vm_device *d)
{
	const struct vport_config *config = d->config;
	struct vport_counters c = {0};

	count(d, false, &c);
	if (c.lost_bytes)
		log_warn("port %s: %lld bytes are lost: %s", config->name, (long long)c.lost_bytes,
			 c.error ? strerror(c.error) : "nobody took them in time");
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct vport_config *config = d->config;
	const struct place *place = d->own;

	json_object_set_new(ret, "name", json_string(config->name));
	json_object_set_new(ret, "where", place ? json_from_bytes(place->end.where) : json_null());
}

static void add_status(const struct vm_device *d, json_t *ret)
{
	json_object_set_new(ret, "host", json_boolean(vport_host_is_there(d->dev)));
	json_object_set_new(ret, "guest", json_boolean(vport_guest_is_there(d->dev)));
}

static void print_status(size_t i, const json_t *port, FILE *out)
{
	char received[DEVICE_BYTES_LEN], sent[DEVICE_BYTES_LEN], lost[DEVICE_BYTES_LEN];

	(void)i;
	print_line(out, "port %s: %s, %s; %s in the guest", answer_text(port, "name"),
		   answer_text(port, "where"),
		   json_is_true(json_object_get(port, "host")) ? "in use" : "nobody is there",
		   json_is_true(json_object_get(port, "guest")) ? "open" : "closed");
	fprintf(out, "  %s to the guest, %s from it, %s lost\n",
		answer_bytes(port, "rx_bytes", received), answer_bytes(port, "tx_bytes", sent),
		answer_bytes(port, "lost_bytes", lost));
}

const struct device_type vport_type = {
	.name = "vport",
	.options = &vport_options,
	.open = open_place,
	.build = build,
	.start = start,
	.stop = stop,
	.close = close_place,
	.counters = counters,
	.count = count,
	.describe = describe,
	.add_status = add_status,
	.print_status = print_status,
};
