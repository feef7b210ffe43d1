// SPDX-License-Identifier: BSD-2-Clause
/*
 * A port of virtio-console: features, queues, life and state.
 *
 * DOC: Theory of operation. Each port is a device of its own, with the feature MULTIPORT and one port,
 * because a port has a name only with that feature; and not one of the console's, which has to work
 * without control messages, from a driver's first moment, and whose output must never wait, while a
 * port's may. So ports do not meet each other, nor the console: each has its queues, its interrupt
 * and its thread, may break, be reset or saved alone. docs/consoles.md has more.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

static void vport_kick(struct virtio_dev *dev, unsigned q)
{
	struct vport *v = to_vport(dev);

	if (q == VPORT_TX)
		vport_transmit(v);
	if (q == VPORT_CTRL_TX)
		virtio_queue_work(dev, q, vport_ctrl_turn);
	if (q == VPORT_CTRL_TX || q == VPORT_CTRL_RX)
		vport_ctrl_send(v);
	if (q == VPORT_CTRL_TX || q == VPORT_RX)
		vport_receive(v); /* the guest may have opened or closed it */
}

/* A driver without control messages always has the port open. */
static void vport_start_queue(struct virtio_dev *dev, unsigned q)
{
	if (q == VPORT_RX && !virtio_has(dev, VIRTIO_CONSOLE_F_MULTIPORT))
		to_vport(dev)->guest_open = true;
}

static void vport_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct vport *v = to_vport(dev);

	if (q == VPORT_TX)
		vport_flush(v);
	if (q == VPORT_CTRL_TX || !virtio_has(dev, VIRTIO_CONSOLE_F_MULTIPORT))
		v->guest_open = v->ready = v->add_due = v->name_due = false;
	if (q == VPORT_RX || q == VPORT_CTRL_TX)
		vport_receive(v);
}

static void vport_give_back(struct virtio_dev *dev, unsigned q)
{
	struct vport *v = to_vport(dev);

	if (q != VPORT_TX || !v->tx_busy || v->tx_begun)
		return;
	virtq_unpop(&dev->queue[q].vq, v->tx.head);
	v->tx_busy = v->tx_waits = false;
}

/* Without MULTIPORT there are no control queues. */
static void vport_features_ok(struct virtio_dev *dev)
{
	dev->usable_queues =
		virtio_has(dev, VIRTIO_CONSOLE_F_MULTIPORT) ? VPORT_QUEUES : VPORT_CTRL_RX;
}

/* What the driver said, and was told. The end is another one for who is restored. */
struct vport_state {
	uint8_t add_due, name_due, ready, guest_open, told_open;
};

struct transfer {
	struct vport *v;
	struct vport_state *state;
};

static void save_here(void *arg)
{
	const struct transfer *t = arg;
	const struct vport *v = t->v;

	*t->state = (struct vport_state){.add_due = v->add_due,
					 .name_due = v->name_due,
					 .ready = v->ready,
					 .guest_open = v->guest_open,
					 .told_open = v->told_open};
}

static int vport_save(struct virtio_dev *dev, void *state, struct error *e)
{
	struct transfer t = {to_vport(dev), state};

	(void)e;
	loop_call(t.v->loop, save_here, &t);
	return 0;
}

static void restore_here(void *arg)
{
	const struct transfer *t = arg;
	struct vport *v = t->v;

	v->add_due = t->state->add_due;
	v->name_due = t->state->name_due;
	v->ready = t->state->ready;
	v->guest_open = t->state->guest_open;
	v->told_open = v->was_gone = t->state->told_open;
}

static int vport_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct vport_state s = *(const struct vport_state *)state;
	struct transfer t = {to_vport(dev), &s};

	if ((s.add_due | s.name_due | s.ready | s.guest_open | s.told_open) > 1)
		return error_set(e, -EINVAL, "it has flags that are neither set nor clear");
	if (virtio_has(dev, VIRTIO_CONSOLE_F_MULTIPORT))
		loop_call(t.v->loop, restore_here, &t);
	return 0;
}

void vport_counters(const struct virtio_dev *dev, struct vport_counters *ret)
{
	const struct vport *v = to_vport(dev);

	*ret = (struct vport_counters){.rx_bytes = v->rx_bytes,
				       .tx_bytes = v->tx_bytes,
				       .lost_bytes = v->lost_bytes,
				       .error = v->error};
}

bool vport_host_is_there(const struct virtio_dev *dev)
{
	return to_vport(dev)->host_open;
}

bool vport_guest_is_there(const struct virtio_dev *dev)
{
	return to_vport(dev)->guest_open;
}

static void vport_destroy(struct virtio_dev *dev)
{
	vport_stream_close(to_vport(dev));
	free(to_vport(dev));
}

static const struct virtio_ops vport_ops = {
	.name = "port",
	.device_id = VIRTIO_ID_CONSOLE,
	.features_ok = vport_features_ok,
	.start_queue = vport_start_queue,
	.kick = vport_kick,
	.stop_queue = vport_stop_queue,
	.give_back = vport_give_back,
	.state_size = sizeof(struct vport_state),
	.save = vport_save,
	.restore = vport_restore,
	.destroy = vport_destroy,
};

int vport_device_new(struct virtio_dev **ret, const struct gmem *mem, const char *name,
		     const struct vport_end *end, struct loop *loop, struct error *e)
{
	struct virtio_console_config config = {.max_nr_ports = htole32(1)};
	struct vport *v = calloc(1, sizeof(*v));
	int r = v ? 0 : error_set(e, -ENOMEM, "virtio-port: out of memory");

	if (r == 0) {
		v->name = name;
		v->end = *end;
		v->loop = loop;
		v->timer.watch.fd = -1;
		v->dev.features = 1ull << VIRTIO_CONSOLE_F_MULTIPORT;
		v->dev.config_len = offsetof(struct virtio_console_config, emerg_wr);
		memcpy(v->dev.config, &config, v->dev.config_len);
		r = virtio_dev_init(&v->dev, &vport_ops, mem, VPORT_QUEUES, VPORT_QUEUE_SIZE, loop,
				    e);
	}
	if (r < 0) {
		vport_end_close(end);
		free(v);
		return r;
	}
	for (unsigned q = VPORT_CTRL_RX; q < VPORT_QUEUES; q++)
		v->dev.queue[q].vq.max_size = VPORT_CTRL_QUEUE_SIZE;
	r = vport_stream_init(v);
	if (r < 0) {
		virtio_dev_free(&v->dev);
		return error_set(e, r, "virtio-port: cannot watch %s: %m", end->where);
	}
	*ret = &v->dev;
	return 0;
}
