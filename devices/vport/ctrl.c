// SPDX-License-Identifier: BSD-2-Clause
/*
 * Control messages (virtio 1.3, section 5.3.6.2).
 *
 * DOC: Theory of operation. Nothing is queued for the driver: what it has to be told is what differs
 * from what it was told. So a driver that never offers a buffer, or says that it is ready a million
 * times, costs nothing. Only that somebody left meanwhile is kept, as the driver must see that even
 * when the next one is there already.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "device.h"

#define PORT 0u /* the only one of a device */

struct message {
	struct virtio_console_control header;
	char name[VPORT_NAME_MAX];
	size_t len;
};

/* What the driver is to be told next; false: nothing. */
static bool next_message(const struct vport *v, struct message *ret)
{
	uint16_t event, value = 1;

	ret->len = sizeof(ret->header);
	if (v->add_due) {
		event = VIRTIO_CONSOLE_PORT_ADD;
	} else if (v->name_due) {
		event = VIRTIO_CONSOLE_PORT_NAME;
		memcpy(ret->name, v->name, strlen(v->name));
		ret->len += strlen(v->name);
	} else if (v->ready && (v->told_open ? v->was_gone : v->host_open)) {
		event = VIRTIO_CONSOLE_PORT_OPEN;
		value = !v->told_open;
	} else {
		return false;
	}
	ret->header = (struct virtio_console_control){
		.id = htole32(PORT), .event = htole16(event), .value = htole16(value)};
	return true;
}

static void told(struct vport *v, const struct message *m)
{
	switch (le16toh(m->header.event)) {
	case VIRTIO_CONSOLE_PORT_ADD:
		v->add_due = false;
		break;
	case VIRTIO_CONSOLE_PORT_NAME:
		v->name_due = false;
		break;
	default:
		v->told_open = !v->told_open;
		v->was_gone = false;
	}
}

void vport_ctrl_send(struct vport *v)
{
	struct virtq *vq = &v->dev.queue[VPORT_CTRL_RX].vq;
	struct iovec iov[VPORT_CTRL_QUEUE_SIZE];
	struct virtq_chain chain = {.iov = iov, .max_iov = ARRAY_SIZE(iov)};
	const char *why = "a control buffer is device-readable, or too small";
	struct message m;
	int r = 1;

	if (!virtio_queue_active(&v->dev, VPORT_CTRL_RX))
		return;
	virtq_disable_kicks(vq); /* until a message waits for a buffer */
	while (r > 0 && next_message(v, &m)) {
		r = virtq_pop(vq, &chain, &why);
		if (r == 0) {
			r = virtq_enable_kicks(vq);
			continue;
		}
		if (r < 0 || chain.num_out || iov_write(iov, chain.num_in, 0, &m, m.len) < m.len) {
			virtio_dev_fail(&v->dev, "queue %u: %s", VPORT_CTRL_RX, why);
			return;
		}
		virtq_push(vq, chain.head, (uint32_t)m.len);
		told(v, &m);
	}
	virtio_queue_publish(&v->dev, VPORT_CTRL_RX);
}

/* One that is not known is none that matters. */
static int obey(struct vport *v, const struct virtio_console_control *m, const char **why)
{
	uint16_t event = le16toh(m->event);
	bool value = m->value != 0;

	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		v->add_due = value;
		return 0;
	}
	if (event != VIRTIO_CONSOLE_PORT_READY && event != VIRTIO_CONSOLE_PORT_OPEN)
		return 0;
	if (le32toh(m->id) != PORT) {
		*why = "a control message names a port that is not there";
		return -EBADMSG;
	}
	if (event == VIRTIO_CONSOLE_PORT_OPEN) {
		v->guest_open = value;
		return 0;
	}
	v->ready = v->name_due = value;
	v->told_open = v->was_gone = false; /* it knows nothing of the port yet */
	return 0;
}

int vport_ctrl_turn(struct virtio_dev *dev, unsigned q, const char **why)
{
	struct virtq *vq = &dev->queue[q].vq;
	struct iovec iov[VPORT_CTRL_QUEUE_SIZE];
	struct virtq_chain chain = {.iov = iov, .max_iov = ARRAY_SIZE(iov)};
	struct virtio_console_control m;

	for (unsigned i = 0; i < VPORT_CTRL_QUEUE_SIZE; i++) {
		int r = virtq_pop(vq, &chain, why);

		if (r <= 0)
			return r;
		if (chain.num_in || iov_read(iov, chain.num_out, 0, &m, sizeof(m)) < sizeof(m)) {
			*why = "a control message is device-writable, or too short";
			return -EBADMSG;
		}
		r = obey(to_vport(dev), &m, why);
		if (r < 0)
			return r;
		virtq_push(vq, chain.head, 0);
	}
	return 1;
}
