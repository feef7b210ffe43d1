// SPDX-License-Identifier: BSD-2-Clause
/* virtio-net (virtio 1.3, section 5.1) on a tap device of the host. */
#ifndef SKEP_NET_H
#define SKEP_NET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"
#include "kvm/gmem.h"
#include "virtio/virtio.h"

/* A tap of the host, opened once a pair of queues. */
struct net_tap {
	char name[16];
	int fd[NET_MAX_PAIRS];
	unsigned pairs;
	unsigned mtu;
	bool up;
	uint32_t offloads; /* TUN_F_* that the host's kernel can do */
};

/*
 * Opens the tap `name` with so many pairs of queues; it is made when there is none and the user may.
 * A negative errno with a message that has a remedy.
 */
int net_tap_open(struct net_tap *ret, const char *name, unsigned pairs, struct error *e);
void net_tap_close(struct net_tap *tap);
/* Which packets the guest takes: TUN_F_*. On the device's loop. */
int net_tap_set_offloads(const struct net_tap *tap, uint32_t offloads);
/* Whether the host sends packets to that pair. */
int net_tap_enable(const struct net_tap *tap, unsigned pair, bool enable);

/* `loops` has one for each pair, all of LOOP_EPOLL. The device takes the tap over (it is closed by
 * destroy, and on error). */
int net_device_new(struct virtio_dev **ret, const struct gmem *mem, struct net_tap *tap,
		   const uint8_t mac[NET_MAC_LEN], struct loop *const *loops, struct error *e);

/* The cable: the guest sees a link that is down, and no packet passes. Any thread. */
void net_set_link(struct virtio_dev *dev, bool up);

bool net_link(const struct virtio_dev *dev);
/* The address that the driver uses. */
void net_current_mac(struct virtio_dev *dev, uint8_t ret[NET_MAC_LEN]);

struct net_counters {
	int64_t rx_packets, rx_bytes, rx_dropped; /* to the guest */
	int64_t tx_packets, tx_bytes, tx_dropped; /* from it */
};
/* Any thread. */
void net_counters(const struct virtio_dev *dev, struct net_counters *ret);

#endif
