// SPDX-License-Identifier: BSD-2-Clause
/* virtio-net (virtio 1.3, section 5.1) on a tap of the host, or a stream of frames. */
#ifndef SKEP_NET_H
#define SKEP_NET_H

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/rate.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/type.h"
#include "virtio/virtio.h"

#define NET_FRAME_START (14 + 40u) /* an Ethernet header, and the longest of IP without options */

/*
 * What a network device is connected to: a tap of the host, or a stream of frames. Packets have a
 * virtio_net_hdr_v1 before them, also where it says nothing.
 */
struct net_port {
	const struct net_port_ops *ops;
	char *name;	       /* for messages: "tap tap0" */
	int fd[NET_MAX_PAIRS]; /* of each pair, which do not block; -1: it is connected to nothing */
	int listener;	       /* for the next connection; -1: there is none after this one */
	bool reconnects;       /* when the other end has gone */
	unsigned pairs;
	unsigned mtu;
	uint32_t offloads;	 /* TUN_F_* that it can do */
	struct net_vhost *vhost; /* of a tap: the kernel moves the packets; NULL: we do */
	size_t unsent;		 /* bytes of packets that were sent, which wait for room */
	/* Of a stream: frames that are not to be sent, by their first NET_FRAME_START bytes, or all
	 * there are; NULL: none. */
	bool (*refuses)(const uint8_t *start, size_t len);
};

/* On the pair's loop; all return a negative errno: -EAGAIN until the descriptor is ready, and one
 * of which net_port_is_gone() when the port is of no more use. */
struct net_port_ops {
	/* The next packet: its length with the header; 0 when it was none, or too long. */
	ssize_t (*receive)(struct net_port *port, unsigned pair, const struct iovec *iov,
			   unsigned num);
	/* All of one, `len` bytes in at most VIRTQ_MAX_SIZE pieces, with the header. */
	int (*send)(struct net_port *port, unsigned pair, const struct iovec *iov, unsigned num,
		    size_t len);
	/* The rest may be NULL. Sends more of what is unsent. */
	int (*flush)(struct net_port *port);
	/* Which packets the guest takes: TUN_F_*. */
	int (*set_offloads)(const struct net_port *port, uint32_t offloads);
	/* Whether packets come to that pair. */
	int (*enable)(const struct net_port *port, unsigned pair, bool enable);
	/* With a listener: takes a connection that came. */
	int (*accept)(struct net_port *port);
	/* Where it reconnects: does so. */
	int (*connect)(struct net_port *port);
	/* Closes the descriptor, which is gone or of no use. */
	void (*hang_up)(struct net_port *port);
	/* Any thread, when all loops have ended; NULL: there is nothing but descriptors, and
	 * memory of malloc(), of which the struct is the start. */
	void (*close)(struct net_port *port);
};
extern const struct net_port_ops net_tap_ops;

static inline bool net_port_is_gone(int error)
{
	return error == -EBADFD || error == -ENODEV || error == -ECONNRESET || error == -EPROTO;
}

/*
 * Opens what `config` says. A negative errno with a message that has a remedy. Before the sandbox is
 * entered.
 */
int net_port_open(struct net_port **ret, const struct net_config *config, struct error *e);
/* NULL-safe. */
void net_port_close(struct net_port *port);

/*
 * The tap `name` with so many pairs of queues; it is made when there is none and the user may.
 */
int net_tap_open(struct net_port **ret, const char *name, unsigned pairs, struct error *e);
/* The one of which `fd` is a queue, and the port's then, also on error; as TUNGETIFF tells. */
struct ifreq;
int net_tap_take(struct net_port **ret, int fd, const struct ifreq *interface, struct error *e);

/*
 * Frames over a stream, as QEMU's stream netdev, passt and others have them: 32 bits of length, the
 * most significant byte first, and the frame. `fd` is connected or -1; `listener` listens or is -1;
 * both are the port's, also on error.
 */
int net_stream_new(struct net_port **ret, int fd, int listener, const char *name, unsigned mtu,
		   struct error *e);

/* When the other end has gone, such a port connects to this address again. */
struct sockaddr_un;
void net_stream_reconnects(struct net_port *port, const struct sockaddr_un *peer);

/* passt (passt(1)), which goes when the port is closed: at the latest when the process has ended. */
int net_passt_open(struct net_port **ret, const struct net_config *config, struct error *e);

/* `loops` has one for each pair, all of LOOP_EPOLL. The device takes the port over (it is closed by
 * destroy, and on error). */
int net_device_new(struct virtio_dev **ret, const struct gmem *mem, struct net_port *port,
		   const uint8_t mac[NET_MAC_LEN], struct loop *const *loops, struct error *e);

/* The cable: the guest sees a link that is down, and no packet passes. Any thread. */
void net_set_link(struct virtio_dev *dev, bool up);

/* How fast packets may come and go: all pairs together, at most a burst more. What has to wait stays
 * in the guest's queue, or in the host's. New limits count at once. Any thread. */
enum net_direction {
	NET_RX, /* to the guest */
	NET_TX,
	NET_DIRECTIONS,
};
struct net_limits {
	struct rate_limits of[NET_DIRECTIONS];
};
void net_set_limits(struct virtio_dev *dev, const struct net_limits *limits);
/* With vhost there are none. */
bool net_has_limits(const struct virtio_dev *dev);
void net_get_limits(const struct virtio_dev *dev, struct net_limits *ret);

bool net_link(const struct virtio_dev *dev);
/* The address that the driver uses. */
void net_current_mac(struct virtio_dev *dev, uint8_t ret[NET_MAC_LEN]);

/* For `skep check`: tap, vhost and passt. */
void net_check_host(device_tell tell, void *ctx);

struct net_counters {
	int64_t rx_packets, rx_bytes, rx_dropped; /* to the guest */
	int64_t tx_packets, tx_bytes, tx_dropped; /* from it */
};
/* Any thread. */
void net_counters(const struct virtio_dev *dev, struct net_counters *ret);

#endif
