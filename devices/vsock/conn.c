// SPDX-License-Identifier: BSD-2-Clause
/* Connections: how they are found, and their life. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"

#define FIRST_PORT (1u << 30) /* of the host, for connections that it begins */

static struct vsock_conn **bucket_of(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	uint32_t h = (guest_port * 0x9e3779b1u) ^ (host_port * 0x85ebca6bu);

	return (struct vsock_conn **)&v->bucket[(h ^ h >> 16) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c = *bucket_of(v, guest_port, host_port);

	while (c && (c->guest_port != guest_port || c->host_port != host_port))
		c = c->next_in_bucket;
	return c;
}

void vsock_set_ports(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn **bucket = bucket_of(c->vsock, guest_port, host_port);

	c->guest_port = guest_port;
	c->host_port = host_port;
	c->has_ports = true;
	c->next_in_bucket = *bucket;
	*bucket = c;
}

void vsock_forget_ports(struct vsock_conn *c)
{
	struct vsock_conn **at = bucket_of(c->vsock, c->guest_port, c->host_port);

	if (!c->has_ports)
		return;
	while (*at != c)
		at = &(*at)->next_in_bucket;
	*at = c->next_in_bucket;
	c->has_ports = false;
}

/* There are fewer connections than ports. */
uint32_t vsock_pick_port(struct vsock *v, uint32_t guest_port)
{
	do {
		if (++v->next_port < FIRST_PORT)
			v->next_port = FIRST_PORT;
	} while (v->next_port == UINT32_MAX || vsock_find(v, guest_port, v->next_port));
	return v->next_port;
}

void vsock_look_at_listener(struct vsock *v)
{
	if (v->num < VSOCK_MAX_CONNECTIONS && !v->listener_failed)
		loop_resume(&v->listener);
	else
		loop_pause(&v->listener);
}

struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, int fd)
{
	bool much = v->promised + VSOCK_PROMISE <= VSOCK_PROMISES;
	struct vsock_conn *c = v->num < VSOCK_MAX_CONNECTIONS ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->vsock = v;
	c->state = state;
	c->socket.fd = fd;
	c->promise = much ? VSOCK_PROMISE : VSOCK_LEAST_PROMISE;
	c->batch = 1;
	v->promised += c->promise;
	c->next = v->all;
	c->at = &v->all;
	if (c->next)
		c->next->at = &c->next;
	v->all = c;
	v->connections = ++v->num;
	vsock_look_at_listener(v);
	return c;
}

void vsock_drop_held(struct vsock_conn *c)
{
	free(c->held);
	c->held = NULL;
	c->forwarded += c->held_len;
	c->held_size = c->held_at = c->held_len = 0;
}

void vsock_close_socket(struct vsock_conn *c)
{
	if (c->socket.loop)
		loop_unwatch(&c->socket);
	if (c->socket.fd >= 0)
		close(c->socket.fd);
	c->socket = (struct loop_fd){.fd = -1};
	vsock_drop_held(c);
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct vsock *v = c->vsock;

	vsock_close_socket(c);
	vsock_forget_ports(c);
	if (c->is_ready)
		fifo_remove(&v->ready, &c->ready_link);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	v->promised -= c->promise;
	v->connections = --v->num;
	free(c);
	vsock_look_at_listener(v);
}

void vsock_free_all(struct vsock *v)
{
	while (v->all)
		vsock_conn_free(v->all);
	v->first_reset = v->num_resets = 0;
}

void vsock_fail(struct vsock *v, unsigned q, const char *why)
{
	virtio_dev_fail(&v->dev, "queue %u: %s", q, why);
	v->runs = false;
	vsock_free_all(v);
}

void vsock_make_ready(struct vsock_conn *c)
{
	if (!c->is_ready)
		fifo_append(&c->vsock->ready, &c->ready_link);
	c->is_ready = true;
}

void vsock_tell(struct vsock_conn *c, unsigned op)
{
	c->due |= 1u << op;
	vsock_make_ready(c);
}

void vsock_reset_guest(struct vsock_conn *c)
{
	if (!c->has_ports) {
		vsock_conn_free(c);
		return;
	}
	vsock_close_socket(c);
	c->state = VSOCK_RESETTING;
	c->due = 0;
	vsock_tell(c, VIRTIO_VSOCK_OP_RST);
}
