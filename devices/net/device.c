// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-net (virtio 1.3, section 5.1): features, configuration space, queues and their life.
 *
 * DOC: Theory of operation. A pair of queues has a loop and a queue of the tap, so pairs do not meet.
 * What arrives at the tap is read while the guest has buffers (rx.c), what the guest sends is written
 * at once (tx.c). Checksums and segmentation are left to whoever needs them: the header that virtio
 * puts before a packet is the one that the host's kernel puts there, too, so offloads that the
 * driver accepts are set on the tap and the packets pass as they are.
 */
#include <endian.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "device.h"

static const struct {
	unsigned host, guest; /* feature bits */
	uint32_t tun;
} offloads[] = {
	{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
	{VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
	{VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
	{VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	{NET_F_HOST_USO, NET_F_GUEST_USO4, NET_TUN_F_USO4},
	{NET_F_HOST_USO, NET_F_GUEST_USO6, NET_TUN_F_USO6},
};

void net_set_offloads(struct net_device *net, uint64_t features)
{
	uint32_t set = 0;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (features & 1ull << offloads[i].guest)
			set |= offloads[i].tun;
	net->offloads = features;
	r = net_tap_set_offloads(&net->tap, set);
	if (r < 0)
		log_guest("virtio-net: tap %s: the guest's offloads are refused: %s", net->tap.name,
			  strerror(-r));
}

void net_watch(struct net_pair *p)
{
	uint32_t events = 0;

	if (p->receives && p->rx.num && !p->rx.frame_len)
		events |= EPOLLIN;
	if (p->waits)
		events |= EPOLLOUT;
	if (!events || p->net->gone) {
		loop_pause(&p->tap);
		return;
	}
	loop_watch_for(&p->tap, events);
	loop_resume(&p->tap);
}

static void show_link(struct net_device *net)
{
	uint16_t le = htole16(net->link && !net->gone ? VIRTIO_NET_S_LINK_UP : 0);

	virtio_dev_set_config(&net->dev, offsetof(struct virtio_net_config, status), &le,
			      sizeof(le));
}

void net_lost(struct net_pair *p, int error)
{
	struct net_device *net = p->net;

	if (!atomic_exchange(&net->gone, true)) {
		log_warn("tap %s is gone (%s): the guest's link is down from now on", net->tap.name,
			 strerror(-error));
		show_link(net);
	}
	net_watch(p);
}

static void tap_ready(struct loop_fd *w, uint32_t events)
{
	struct net_pair *p = container_of(w, struct net_pair, tap);

	if (p->net->gone) {
		net_watch(p);
		return;
	}
	if (events & EPOLLOUT && p->waits)
		net_transmit(p);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		net_receive(p);
}

static bool is_control(const struct net_device *net, unsigned q)
{
	return q == (virtio_has(&net->dev, VIRTIO_NET_F_MQ) ? 2 * net->num_pairs : 2);
}

static void net_kick(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);

	if (is_control(net, q))
		net_control(net, q);
	else if (q % 2)
		net_transmit(&net->pair[q / 2]);
	else
		net_receive(&net->pair[q / 2]);
}

void net_use_pairs(struct net_device *net, uint16_t pairs)
{
	net->used_pairs = pairs;
	/* The first is never off. To be told twice is an error that does not matter. */
	for (unsigned i = 1; i < net->num_pairs; i++)
		net_tap_enable(&net->tap, i, i < pairs);
}

static void net_start_queue(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);

	if (q == 0)
		net_set_offloads(net, net->is_restored ? net->offloads : dev->driver_features);
	net->is_restored = false;
	if (is_control(net, q) || q % 2)
		return;
	net->pair[q / 2].receives = true;
	if (q && q / 2 < net->used_pairs)
		net_tap_enable(&net->tap, q / 2, true);
}

static void net_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);
	struct net_pair *p = &net->pair[q / 2];

	if (is_control(net, q))
		return;
	if (q % 2) {
		p->tx.busy = p->waits = false;
	} else {
		p->receives = false;
		net_receive_reset(&p->rx);
		if (q)
			net_tap_enable(&net->tap, q / 2, false);
	}
	net_watch(p);
}

static void net_give_back(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);
	struct net_pair *p = &net->pair[q / 2];

	if (is_control(net, q))
		return;
	if (q % 2 == 0)
		net_receive_give_back(p);
	else if (p->tx.busy)
		virtq_unpop(&dev->queue[q].vq, p->tx.chain.head);
	if (q % 2)
		p->tx.busy = p->waits = false;
	net_watch(p);
}

/* The next driver begins with one pair, too. */
static void net_reset(struct virtio_dev *dev)
{
	to_net(dev)->used_pairs = 1;
}

/* Without MQ there is one pair, and the control queue comes right after it. */
static void net_features_ok(struct virtio_dev *dev)
{
	unsigned n = virtio_has(dev, VIRTIO_NET_F_MQ) ? 2 * to_net(dev)->num_pairs : 2;

	dev->usable_queues = n + virtio_has(dev, VIRTIO_NET_F_CTRL_VQ);
}

/* What the driver said on the control queue; its MAC address is in the configuration. */
struct state {
	uint64_t offloads;
	uint16_t pairs;
	uint8_t link;
	uint8_t zero[7];
	uint8_t mac[NET_MAC_LEN];
};

static int net_save(struct virtio_dev *dev, void *state, struct error *e)
{
	struct net_device *net = to_net(dev);
	struct state s = {.offloads = net->offloads, .pairs = net->used_pairs, .link = net->link};

	(void)e;
	memcpy(s.mac, dev->config, sizeof(s.mac));
	memcpy(state, &s, sizeof(s));
	return 0;
}

static int net_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct net_device *net = to_net(dev);
	struct state s;

	memcpy(&s, state, sizeof(s));
	if (s.offloads & ~dev->driver_features || s.pairs < 1 || s.pairs > net->num_pairs ||
	    s.link > 1)
		return error_set(e, -EINVAL,
				 "the state has offloads or queues that were not accepted");
	net->offloads = s.offloads;
	net->is_restored = true;
	net->used_pairs = s.pairs;
	net->link = s.link;
	virtio_dev_set_config_locked(dev, offsetof(struct virtio_net_config, mac), s.mac,
				     sizeof(s.mac), false);
	show_link(net);
	return 0;
}

static void net_destroy(struct virtio_dev *dev)
{
	struct net_device *net = to_net(dev);

	net_tap_close(&net->tap);
	for (unsigned i = 0; i < net->num_pairs; i++) {
		loop_timer_close(&net->pair[i].patience);
		free(net->pair[i].rx.frame);
	}
	free(net);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.features_ok = net_features_ok,
	.start_queue = net_start_queue,
	.kick = net_kick,
	.stop_queue = net_stop_queue,
	.give_back = net_give_back,
	.reset = net_reset,
	.state_size = sizeof(struct state),
	.save = net_save,
	.restore = net_restore,
	.destroy = net_destroy,
};

void net_set_link(struct virtio_dev *dev, bool up)
{
	struct net_device *net = to_net(dev);

	net->link = up;
	show_link(net);
}

bool net_link(const struct virtio_dev *dev)
{
	const struct net_device *net = to_net(dev);

	return net->link && !net->gone;
}

void net_current_mac(struct virtio_dev *dev, uint8_t ret[NET_MAC_LEN])
{
	pthread_mutex_lock(&dev->state_lock);
	memcpy(ret, dev->config + offsetof(struct virtio_net_config, mac), NET_MAC_LEN);
	pthread_mutex_unlock(&dev->state_lock);
}

void net_counters(const struct virtio_dev *dev, struct net_counters *ret)
{
	const struct net_device *net = to_net(dev);

	*ret = (struct net_counters){0};
	for (unsigned i = 0; i < net->num_pairs; i++) {
		const struct net_pair *p = &net->pair[i];

		ret->rx_packets += p->rx.packets;
		ret->rx_bytes += p->rx.total;
		ret->rx_dropped += p->rx.dropped;
		ret->tx_packets += p->tx.packets;
		ret->tx_bytes += p->tx.total;
		ret->tx_dropped += p->tx.dropped;
	}
}

static uint64_t features_of(const struct net_tap *tap)
{
	uint64_t features = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS |
			    1ull << VIRTIO_NET_F_MTU | 1ull << VIRTIO_NET_F_MRG_RXBUF |
			    1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_CTRL_MAC_ADDR;

	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (tap->offloads & offloads[i].tun)
			features |= 1ull << offloads[i].host | 1ull << offloads[i].guest;
	if (tap->offloads)
		features |= 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
	if (tap->pairs > 1)
		features |= 1ull << VIRTIO_NET_F_MQ;
	return features;
}

static void fill_config(struct net_device *net, const uint8_t mac[NET_MAC_LEN])
{
	struct virtio_net_config c = {
		.max_virtqueue_pairs = htole16((uint16_t)net->num_pairs),
		.mtu = htole16((uint16_t)net->tap.mtu),
	};

	memcpy(c.mac, mac, NET_MAC_LEN);
	net->dev.config_len = offsetof(struct virtio_net_config, speed);
	virtio_dev_set_config(&net->dev, 0, &c, net->dev.config_len);
	show_link(net);
}

static int set_up(struct net_device *net, const struct gmem *mem, struct loop *const *loops,
		  struct error *e)
{
	int r = virtio_dev_init(&net->dev, &net_ops, mem, 2 * net->num_pairs + 1, VIRTQ_MAX_SIZE,
				loops[0], e);

	for (unsigned i = 0; r >= 0 && i < net->num_pairs; i++) {
		struct net_pair *p = &net->pair[i];

		p->net = net;
		p->fd = net->tap.fd[i];
		net->dev.queue[2 * i].loop = net->dev.queue[2 * i + 1].loop = loops[i];
		r = loop_watch(loops[i], &p->tap, p->fd, EPOLLIN, tap_ready);
		if (r >= 0)
			r = loop_timer_init(loops[i], &p->patience, net_receive_impatient);
		if (r < 0)
			error_set(e, r, "cannot watch tap %s: %s", net->tap.name, strerror(-r));
		else
			loop_pause(&p->tap);
	}
	return r;
}

int net_device_new(struct virtio_dev **ret, const struct gmem *mem, struct net_tap *tap,
		   const uint8_t mac[NET_MAC_LEN], struct loop *const *loops, struct error *e)
{
	struct net_device *net = calloc(1, sizeof(*net) + tap->pairs * sizeof(net->pair[0]));
	int r;

	if (!net) {
		net_tap_close(tap);
		return error_set(e, -ENOMEM, "virtio-net: out of memory");
	}
	net->tap = *tap;
	net->num_pairs = tap->pairs;
	for (unsigned i = 0; i < tap->pairs; i++)
		net->pair[i].patience.watch.fd = -1;
	net->link = true;
	net->used_pairs = 1;
	net->dev.features = features_of(&net->tap);
	r = set_up(net, mem, loops, e);
	if (r < 0) {
		if (net->dev.queue)
			virtio_dev_free(&net->dev);
		else
			net_destroy(&net->dev);
		return r;
	}
	fill_config(net, mac);
	*ret = &net->dev;
	return 0;
}
