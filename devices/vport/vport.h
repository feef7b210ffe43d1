// SPDX-License-Identifier: BSD-2-Clause
/* A port of virtio-console (virtio 1.3, section 5.3): a stream of bytes between guest and host. */
#ifndef SKEP_VPORT_H
#define SKEP_VPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/type.h"
#include "virtio/virtio.h"

/* A guest that writes waits for a reader that takes nothing for so long; then, until it takes
 * something, what is written is lost, and counted. */
#define VPORT_PATIENCE_NS (5 * NSEC_PER_SEC)
/* What a driver wrote before it let go of the port has so long to be taken. */
#define VPORT_LAST_NS NSEC_PER_SEC

/* The host's end. */
struct vport_end {
	int fd;	      /* does not block, unless it is a file's; -1: nobody is there */
	int listener; /* for those who come next; -1: nobody will */
	int other;    /* of a pseudo-terminal, to be kept open; else -1 */
	bool reads, writes;
	bool patient;	 /* who reads there is waited for as long as it takes */
	char where[128]; /* for people: the path, "descriptor 5" */
};

/* Opens what `config` says. A negative errno with a message. Before the sandbox is entered. */
int vport_end_open(struct vport_end *ret, const struct vport_config *config,
		   const struct device_host *host, struct error *e);
void vport_end_close(const struct vport_end *end);

/* `loop` is of LOOP_EPOLL, `name` is borrowed. The device takes the end over (it is closed by destroy,
 * and on error). */
int vport_device_new(struct virtio_dev **ret, const struct gmem *mem, const char *name,
		     const struct vport_end *end, struct loop *loop, struct error *e);

struct vport_counters {
	int64_t rx_bytes;   /* to the guest */
	int64_t tx_bytes;   /* from it, of which the host has taken these ... */
	int64_t lost_bytes; /* ... and not those, ... */
	int error;	    /* ... for this reason; 0: nobody took them in time */
};
/* Any thread. */
void vport_counters(const struct virtio_dev *dev, struct vport_counters *ret);
/* Whether somebody is at the host's end; whether a program of the guest has opened the port. Any thread. */
bool vport_host_is_there(const struct virtio_dev *dev);
bool vport_guest_is_there(const struct virtio_dev *dev);

#endif
