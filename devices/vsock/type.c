// SPDX-License-Identifier: BSD-2-Clause
/* The socket device as a device of a VM. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/runtime.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "virtio/type.h"
#include "vsock.h"

/* What a VM has from open() to close(). */
struct place {
	uint32_t cid;
	int cid_fd, listener; /* -1: none, or the device's by now */
	char *path;
	bool bound;    /* the socket at `path` is ours */
	bool confined; /* the sandbox forbids to remove it */
};

/* vsock-CID in the user's runtime directory, which is made. NULL with a message. */
static char *default_path(uint32_t cid, struct error *e)
{
	struct error why = {""};
	_cleanup_free_ char *dir = runtime_directory(true, &why);
	char *path = NULL;

	if (!dir)
		error_set(e, -ENOENT, "%s: choose a path for the socket, uds=PATH", why.msg);
	else if (asprintf(&path, "%s/vsock-%u", dir, cid) < 0)
		return error_set(e, -ENOMEM, "out of memory"), NULL;
	else if (strlen(path) <= VSOCK_MAX_PATH)
		return path;
	else
		error_set(e, -ENAMETOOLONG, "'%s' is too long: choose a path, uds=PATH", path);
	free(path);
	return NULL;
}

static int take_place(struct place *place, const struct vsock_config *config, struct error *e)
{
	uint32_t wanted;
	int r = vsock_parse_cid(config, &wanted, e);

	if (r == 0)
		r = place->cid_fd = vsock_take_cid(wanted, &place->cid, e);
	if (r < 0)
		return r;
	place->path = config->uds ? strdup(config->uds) : default_path(place->cid, e);
	if (!place->path)
		return e->msg[0] ? -ENOENT : error_set(e, -ENOMEM, "out of memory");
	r = place->listener = unix_listen(place->path, VSOCK_BACKLOG, e);
	place->bound = r >= 0;
	return r < 0 ? error_prefix(e, r, "'%s'", place->path) : 0;
}

static int open_place(struct vm_device *d, const struct device_host *host, struct error *e)
{
	struct place *place = calloc(1, sizeof(*place));
	int r;

	(void)host;
	if (!place)
		return error_set(e, -ENOMEM, "out of memory");
	place->cid_fd = place->listener = -1;
	d->own = place;
	r = take_place(place, d->config, e);
	return r < 0 ? error_prefix(e, r, "--vsock") : 0;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	struct place *place = d->own;
	int listener = place->listener;
	struct loop *loop;
	int r = loop_new(&loop, "vsock", LOOP_EPOLL, 0, e);

	if (r < 0)
		return r;
	device_add_loop(d, loop, "vsock");
	place->listener = -1;
	return vsock_device_new(&d->dev, host->mem, place->cid, place->path, listener, loop, e);
}

static int start(struct vm_device *d, device_setup setup, struct error *e)
{
	struct place *place = d->own;

	(void)e;
	place->confined = setup;
	return 0;
}

static void close_place(struct vm_device *d)
{
	struct place *place = d->own;

	if (!place)
		return;
	if (place->bound && !place->confined)
		unlink(place->path);
	if (place->listener >= 0)
		close(place->listener);
	if (place->cid_fd >= 0)
		close(place->cid_fd);
	free(place->path);
	free(place);
	d->own = NULL;
}

#define NUMBER(member)                                                                             \
	{                                                                                          \
#member, offsetof(struct vsock_counters, member)                                   \
	}
static const struct device_counter counters[] = {
	NUMBER(connections), NUMBER(from_guest), NUMBER(from_host),
	NUMBER(refused),     NUMBER(rx_packets), NUMBER(rx_bytes),
	NUMBER(tx_packets),  NUMBER(tx_bytes),	 {.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	(void)wait;
	if (d->dev)
		vsock_counters(d->dev, ret);
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct place *place = d->own;

	if (!place || !place->path)
		return;
	json_object_set_new(ret, "cid", json_integer(place->cid));
	json_object_set_new(ret, "uds", json_from_bytes(place->path));
}

static void print_status(size_t i, const json_t *vsock, FILE *out)
{
	char received[DEVICE_BYTES_LEN], sent[DEVICE_BYTES_LEN];

	(void)i;
	if (!json_object_get(vsock, "cid")) /* there is none */
		return;
	print_line(out, "vsock: CID %" PRIu64 ", %s", answer_number(vsock, "cid"),
		   answer_text(vsock, "uds"));
	fprintf(out,
		"  %" PRIu64 " connections, %" PRIu64
		" refused so far; %s to the guest, %s from it\n",
		answer_number(vsock, "connections"), answer_number(vsock, "refused"),
		answer_bytes(vsock, "rx_bytes", received), answer_bytes(vsock, "tx_bytes", sent));
}

const struct device_type vsock_type = {
	.name = "vsock",
	.options = &vsock_options,
	.open = open_place,
	.build = build,
	.start = start,
	.close = close_place,
	.counters = counters,
	.count = count,
	.describe = describe,
	.print_status = print_status,
};
