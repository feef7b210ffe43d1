// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-vsock (virtio 1.3, section 5.10): features, configuration, queues and their life.
 *
 * DOC: Theory of operation. A connection joins a pair of ports, the guest's and the host's, to a Unix
 * socket. What the guest sends is written to the socket at once, straight from its buffers (tx.c,
 * host.c); what the socket has is read straight into the guest's (rx.c). The guest may send as much
 * as it was promised (buf_alloc) and the host has not taken yet (fwd_cnt). So a program that reads
 * slowly stops its own connection, and what is kept for it meanwhile is bounded. In the other
 * direction a socket is read while the guest has credit for it.
 *
 * Packets that answer others are kept beside the queue (section 5.10.6.1): for a connection, they are
 * bits of it; without one they take a place among VSOCK_MAX_RESETS, and when all are taken the
 * transmit queue waits for the receive queue.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"

#define QUEUE_SIZE 256u

/* The connections of a state that was restored are gone: the driver is told as soon as it has a buffer
 * for that. */
static void send_event(struct vsock *v)
{
	const struct virtio_vsock_event event = {.id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
	struct virtq *vq = &v->dev.queue[VSOCK_EVENT].vq;
	struct virtq_chain chain = {.iov = v->tx_iov, .max_iov = ARRAY_SIZE(v->tx_iov)};
	const char *why = "";
	int r = 0;

	while (v->event_due && (r = virtq_pop(vq, &chain, &why)) > 0) {
		if (chain.num_out || chain.in_bytes < sizeof(event)) {
			vsock_fail(v, VSOCK_EVENT, "an event buffer that is no such");
			return;
		}
		iov_write(chain.iov, chain.num_in, 0, &event, sizeof(event));
		virtq_push(vq, chain.head, sizeof(event));
		v->event_due = false;
	}
	if (r < 0)
		vsock_fail(v, VSOCK_EVENT, why);
	else
		virtio_queue_publish(&v->dev, VSOCK_EVENT);
}

static void vsock_kick(struct virtio_dev *dev, unsigned q)
{
	struct vsock *v = to_vsock(dev);
	struct virtq *vq = &dev->queue[q].vq;

	if (q == VSOCK_TX) {
		vsock_transmit(v);
	} else if (q == VSOCK_RX) {
		v->starved = false; /* the hook delivers */
	} else {
		do
			send_event(v);
		while (v->event_due && virtio_queue_active(dev, q) && virtq_enable_kicks(vq));
	}
}

static bool turn_ends(struct loop_hook *hook)
{
	return vsock_deliver(container_of(hook, struct vsock, hook));
}

static bool runs(const struct vsock *v)
{
	return v->started & 1u << VSOCK_RX && v->started & 1u << VSOCK_TX;
}

static void vsock_start_queue(struct virtio_dev *dev, unsigned q)
{
	struct vsock *v = to_vsock(dev);

	v->started |= 1u << q;
	v->runs = runs(v);
}

/* A driver that takes one of its queues away has no use for connections, either. */
static void vsock_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct vsock *v = to_vsock(dev);

	v->started &= ~(1u << q);
	v->runs = v->runs && runs(v);
	v->starved = v->tx_stalled = false;
	if (!v->runs)
		vsock_free_all(v);
}

static void vsock_reset(struct virtio_dev *dev)
{
	to_vsock(dev)->event_due = false;
}

/* Nothing is saved but what all devices have; section 5.10.6.7. */
static int vsock_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct vsock *v = to_vsock(dev);
	uint64_t le = htole64(v->cid);

	(void)state;
	(void)e;
	virtio_dev_set_config_locked(dev, 0, &le, sizeof(le), false);
	v->event_due = atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK;
	return 0;
}

static void vsock_destroy(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);

	vsock_free_all(v);
	vsock_host_close(v);
	free(v->path);
	free(v);
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.start_queue = vsock_start_queue,
	.kick = vsock_kick,
	.stop_queue = vsock_stop_queue,
	.reset = vsock_reset,
	.restore = vsock_restore,
	.destroy = vsock_destroy,
};

void vsock_counters(const struct virtio_dev *dev, struct vsock_counters *ret)
{
	const struct vsock *v = to_vsock(dev);

	*ret = (struct vsock_counters){
		.connections = v->connections,
		.from_guest = v->from_guest,
		.from_host = v->from_host,
		.refused = v->refused,
		.rx_bytes = v->rx_bytes,
		.rx_packets = v->rx_packets,
		.tx_bytes = v->tx_bytes,
		.tx_packets = v->tx_packets,
	};
}

static int set_up(struct vsock *v, const struct gmem *mem, int listener, struct error *e)
{
	struct virtio_vsock_config config = {.guest_cid = htole64(v->cid)};
	int r = virtio_dev_init(&v->dev, &vsock_ops, mem, VSOCK_QUEUES, QUEUE_SIZE, v->loop, e);

	if (r < 0)
		return r;
	v->dev.config_len = sizeof(config);
	virtio_dev_set_config(&v->dev, 0, &config, sizeof(config));
	v->hook.fn = turn_ends;
	loop_add_hook(v->loop, &v->hook);
	r = v->path ? vsock_host_init(v, listener) : -ENOMEM;
	return r < 0 ? error_set(e, r, "virtio-vsock: cannot watch its socket: %m") : r;
}

int vsock_device_new(struct virtio_dev **ret, const struct gmem *mem, uint32_t cid,
		     const char *path, int listener, struct loop *loop, struct error *e)
{
	struct vsock *v = calloc(1, sizeof(*v));
	int r;

	if (!v) {
		close(listener);
		return error_set(e, -ENOMEM, "virtio-vsock: out of memory");
	}
	v->cid = cid;
	v->path = strdup(path);
	v->loop = loop;
	v->listener.fd = listener;
	v->retry.watch.fd = -1;
	v->dev.features = 1ull << VSOCK_F_STREAM | 1ull << VSOCK_F_NO_IMPLIED_STREAM;
	r = set_up(v, mem, listener, e);
	if (r < 0) {
		if (v->dev.queue)
			virtio_dev_free(&v->dev);
		else
			vsock_destroy(&v->dev);
		return r;
	}
	*ret = &v->dev;
	return 0;
}
