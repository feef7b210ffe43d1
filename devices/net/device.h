// SPDX-License-Identifier: BSD-2-Clause
/* What the files of the device share: device.c (configuration, queues, life), connect.c, features.c,
 * link.c, rate.c, rx.c, tx.c and ctrl.c. */
#ifndef SKEP_NET_DEVICE_H
#define SKEP_NET_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"
#include "net.h"

#define NET_HEADER sizeof(struct virtio_net_hdr_v1)
/* The most that a packet has with segmentation offloads: an Ethernet header, a VLAN tag and 64 KiB. */
#define NET_MAX_PACKET (14 + 4 + 65536u)
#define NET_MAX_FRAME  (NET_HEADER + NET_MAX_PACKET)
#define NET_MAX_IOV    1024u /* that one system call takes (UIO_MAXIOV) */
/* Packets and bytes in one go, before other descriptors of the loop have their turn. */
#define NET_TURN_PACKETS 256u
#define NET_TURN_BYTES	 (4 * MIB)

/* Linux 6.2; not in older headers. */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO	 56
#define NET_TUN_F_USO4	 0x20u
#define NET_TUN_F_USO6	 0x40u

/* Receive buffers that were popped and wait for packets: their heads, and their memory as one
 * array, from the first buffer to the last. */
struct net_rx {
	struct {
		uint16_t head;
		uint16_t num_iov;
		uint32_t bytes;
	} held[VIRTQ_MAX_SIZE];
	struct iovec iov[2 * NET_MAX_IOV];
	unsigned first, num;	     /* of `held` */
	unsigned first_iov, num_iov; /* of `iov` */
	uint64_t bytes;
	uint8_t *frame; /* a packet that came where there was no room for the longest one */
	size_t frame_len;
	_Atomic int64_t packets, dropped, total;
};

struct net_tx {
	struct iovec iov[VIRTQ_MAX_SIZE];
	struct virtq_chain chain; /* that the port did not take yet, when `busy` */
	bool busy;
	_Atomic int64_t packets, dropped, total;
};

struct net_pair {
	struct net_device *net;
	unsigned index;
	struct loop_fd watch;	      /* of the port's descriptor; not before it has one */
	struct loop_timer patience;   /* of a packet that waits for buffers */
	struct rate_timer rate_timer; /* of what waits for the limits */
	bool limited[NET_DIRECTIONS]; /* it does */
	bool receives;		      /* the receive queue is active */
	bool waits;		      /* for room in the port */
	struct net_rx rx;
	struct net_tx tx;
};

/* Which packets the driver wants. */
enum {
	NET_PROMISC = 1u << VIRTIO_NET_CTRL_RX_PROMISC, /* all of them */
	NET_ALLMULTI = 1u << VIRTIO_NET_CTRL_RX_ALLMULTI,
	NET_ALLUNI = 1u << VIRTIO_NET_CTRL_RX_ALLUNI,
	NET_NOMULTI = 1u << VIRTIO_NET_CTRL_RX_NOMULTI,
	NET_NOUNI = 1u << VIRTIO_NET_CTRL_RX_NOUNI,
	NET_NOBCAST = 1u << VIRTIO_NET_CTRL_RX_NOBCAST,
	NET_MORE_UNI = 1u << 6, /* than there is room for */
	NET_MORE_MULTI = 1u << 7,
	NET_MODES = (1u << 8) - 1,
};
#define NET_FILTER_MACS 32u
#define NET_VLANS	4096u

struct net_filter {
	_Atomic uint32_t mode, num;
	_Atomic uint64_t own, mac[NET_FILTER_MACS]; /* the first 6 bytes */
	_Atomic uint64_t vlans[NET_VLANS / 64];
};
struct net_filter_state {
	uint32_t mode, num;
	uint64_t mac[NET_FILTER_MACS];
	uint64_t vlans[NET_VLANS / 64];
};

struct net_device {
	struct virtio_dev dev;
	struct net_port *port;
	struct loop_fd listener;
	struct loop_timer retry;	 /* to connect again ... */
	uint64_t retry_ns, connected_at; /* ... after so long; CLOCK_MONOTONIC */
	_Atomic bool link;		 /* up, as it was asked for */
	_Atomic bool gone;		 /* the host took the tap away, or nobody is connected */
	struct net_filter filter;
	struct rate rate[NET_DIRECTIONS];
	_Atomic bool announce, can_announce; /* the driver is to tell the network of itself */
	unsigned num_pairs;
	uint16_t used_pairs; /* as the driver set */
	uint64_t offloads;   /* feature bits in use ... */
	bool is_restored;    /* ... or to be used, of a saved state */
	struct net_pair pair[];
};

static inline struct net_device *to_net(const struct virtio_dev *dev)
{
	return container_of(dev, struct net_device, dev);
}

static inline struct virtio_queue *net_rx_queue(const struct net_pair *p)
{
	return &p->net->dev.queue[2 * (p - p->net->pair)];
}

static inline struct virtio_queue *net_tx_queue(const struct net_pair *p)
{
	return &p->net->dev.queue[2 * (p - p->net->pair) + 1];
}

/* Watches what there is for the first time, with nothing to wait for yet. */
int net_watch_port(struct net_device *net, struct loop *const *loops);
/* What is to be waited for at the pair's port. On its loop, as all here. */
void net_watch(struct net_pair *p);
/* The port is gone: link down, and one line that says so. */
void net_lost(struct net_pair *p, int error);
/* Connects again after a while. */
void net_try_later(struct net_device *net);
/* What the guest sees of the link; it is told to announce itself if that is up. Any thread. */
void net_announce(struct net_device *net);
/* What the guest sees of the link. Any thread. */
void net_show_link(struct net_device *net);

/* Moves packets to the guest until there are none, or a turn's worth. */
void net_receive(struct net_pair *p);
void net_receive_reset(struct net_rx *rx);
/* Buffers that no packet is in go back to the queue, which is paused. */
void net_receive_give_back(struct net_pair *p);
void net_receive_impatient(struct loop_timer *t);
/* The same from the guest. */
void net_transmit(struct net_pair *p);

/* All packets are wanted until the driver says otherwise. */
void net_filter_reset(struct net_filter *f);
void net_filter_own(struct net_filter *f, const uint8_t mac[NET_MAC_LEN]);
void net_filter_mode(struct net_filter *f, uint32_t bit, bool on);
/* `overflow` has NET_MORE_* for those that are not among them. */
void net_filter_table(struct net_filter *f, const uint8_t (*macs)[NET_MAC_LEN], unsigned num,
		      uint32_t overflow);
void net_filter_vlan(struct net_filter *f, unsigned id, bool add);
/* Whether the driver wants the packet, which has its header before it. */
bool net_filter_wants(const struct net_device *net, const struct iovec *iov, unsigned num);
void net_filter_save(const struct net_filter *f, struct net_filter_state *ret);
/* False for what no driver can set. */
bool net_filter_restore(struct net_filter *f, const struct net_filter_state *s);

/* Whether the next packet has to wait for the limits; one of so many bytes did not. The pair's loop
 * goes on when it may. */
bool net_must_wait(struct net_pair *p, enum net_direction direction);
void net_charge(struct net_pair *p, enum net_direction direction, size_t bytes);

/* The control queue. */
void net_control(struct net_device *net, unsigned q);

/* What can be offered on this port. */
uint64_t net_features(const struct net_port *port);
/* Tells the port what the driver accepted. */
void net_set_offloads(struct net_device *net, uint64_t features);
/* Whether packets come to that pair. */
void net_enable_pair(struct net_device *net, unsigned pair, bool enable);
/* The driver uses the first so many pairs. */
void net_use_pairs(struct net_device *net, uint16_t pairs);

/* With vhost (vhost.h). */

/* Tells the kernel of guest memory, and watches for what it reports. All queues are on this loop. */
int net_vhost_attach(struct net_device *net, struct loop *loop);

/* The kernel works on queue `q` from now on, unless it does, or no longer. On the loop. */
void net_vhost_start(struct net_device *net, unsigned q);
void net_vhost_stop(struct net_device *net, unsigned q);

#endif
