// SPDX-License-Identifier: BSD-2-Clause
/*
 * What ctrl.c (control messages), stream.c (the host's end, and bytes both ways) and device.c (life and
 * state) share; each calls those before it. All is done on the device's loop.
 */
#ifndef SKEP_VPORT_DEVICE_H
#define SKEP_VPORT_DEVICE_H

#include <linux/virtio_console.h>
#include <stdatomic.h>

#include "base/util.h"
#include "vport.h"

enum { VPORT_RX, VPORT_TX, VPORT_CTRL_RX, VPORT_CTRL_TX, VPORT_QUEUES };

#define VPORT_QUEUE_SIZE      64u
#define VPORT_CTRL_QUEUE_SIZE 8u /* Linux gives each buffer a page */
#define VPORT_TURN_CHAINS     VPORT_QUEUE_SIZE
#define VPORT_TURN_BYTES      (256 * KIB)

struct vport {
	struct virtio_dev dev;
	const char *name;
	struct vport_end end;
	struct loop *loop;
	struct loop_fd listener, watch; /* of the end's descriptors */
	struct loop_timer timer;	/* for the reader's patience, or to accept once more */
	bool watched;			/* `watch` is in use */
	bool hung_up, ended;		/* the end: both ways; nothing more comes from it */

	/* What the driver said, and was told. */
	bool add_due, name_due; /* it is to be told that there is a port, and its name */
	bool ready;		/* it has the port */
	_Atomic bool guest_open;
	bool told_open; /* that somebody is at the host's end ... */
	bool was_gone;	/* ... who has gone since */

	bool starved;		/* there are no receive buffers */
	struct virtq_chain tx;	/* being written if tx_busy; its entries shrink */
	unsigned tx_next;	/* entry to go on with */
	bool tx_busy, tx_waits; /* tx_waits: for the reader */
	bool tx_begun;		/* some of the chain is gone */
	bool last_try,
		tx_stuck;  /* the reader takes nothing: to be tried once more; what comes is lost */
	size_t bytes_left; /* of this turn */
	struct iovec tx_iov[VPORT_QUEUE_SIZE], rx_iov[VPORT_QUEUE_SIZE];

	_Atomic bool host_open;
	_Atomic int64_t rx_bytes, tx_bytes, lost_bytes;
	_Atomic int error; /* of the last write that failed */
};

static inline struct vport *to_vport(const struct virtio_dev *dev)
{
	return container_of(dev, struct vport, dev);
}

/* ctrl.c */

/* Tells the driver what it has to be told, as far as it gives buffers. */
void vport_ctrl_send(struct vport *v);
/* Reads what the driver says: a turn of virtio_queue_work(). */
int vport_ctrl_turn(struct virtio_dev *dev, unsigned q, const char **why);

/* stream.c */

int vport_stream_init(struct vport *v);
void vport_stream_close(struct vport *v);
/* Something may go on: buffers, the guest opened or closed the port. */
void vport_receive(struct vport *v);
void vport_transmit(struct vport *v);
/* The transmit queue ends: what is there is written, or lost. */
void vport_flush(struct vport *v);

#endif
