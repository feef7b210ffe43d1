// SPDX-License-Identifier: BSD-2-Clause
/* virtio-vsock (virtio 1.3, section 5.10): stream sockets between the guest and Unix sockets. */
#ifndef SKEP_VSOCK_H
#define SKEP_VSOCK_H

#include <linux/vm_sockets.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

/* Of the host's end, behind which "_4294967295" finds room. */
#define VSOCK_MAX_PATH (sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("_4294967295"))
/* At a time; each is a descriptor. */
#define VSOCK_MAX_CONNECTIONS 4096u
#define VSOCK_BACKLOG	      4096

/*
 * Takes a CID for as long as the descriptor that is returned is open, whatever ends the process: no
 * other VM of this host (of this network namespace, that is) gets it. `cid` 0: the first free one.
 * -EADDRINUSE and others, with a message.
 */
int vsock_take_cid(uint32_t cid, uint32_t *ret, struct error *e);

/*
 * Clients that connect to `listener`, a socket that listens at `path` and does not block, say
 * "CONNECT PORT\n" and are connected to the guest; the guest is connected to sockets at `path`_PORT.
 * `loop` is of LOOP_EPOLL. The device takes the listener over (it is closed by destroy, and on
 * error).
 */
int vsock_device_new(struct virtio_dev **ret, const struct gmem *mem, uint32_t cid,
		     const char *path, int listener, struct loop *loop, struct error *e);

struct vsock_counters {
	int64_t connections;	       /* now */
	int64_t from_guest, from_host; /* connections that were made */
	int64_t refused;	       /* or were not, whoever asked */
	int64_t rx_bytes, rx_packets;  /* to the guest; packets with data */
	int64_t tx_bytes, tx_packets;  /* from it */
};
/* Any thread. */
void vsock_counters(const struct virtio_dev *dev, struct vsock_counters *ret);

#endif
