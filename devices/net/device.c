// SPDX-License-Identifier: BSD-2-Clause
/*
 * virtio-net (virtio 1.3, section 5.1): features, configuration space, queues and their life.
 *
 * DOC: Theory of operation. A pair of queues has a loop and a queue of the tap, so pairs do not meet.
 * What arrives is read while the guest has buffers (rx.c), what the guest sends is written at once
 * (tx.c), where to is the port's matter (tap.c, stream.c). Checksums and segmentation are left to
 * whoever needs them: the header that virtio puts before a packet is the one that the host's kernel
 * puts there, too, so offloads that the driver accepts are set on the tap and the packets pass as
 * they are. A stream has no place for that header, and so no offloads.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "virtio/state.h"

static bool is_control(const struct net_device *net, unsigned q)
{
	return q == (virtio_has(&net->dev, VIRTIO_NET_F_MQ) ? 2 * net->num_pairs : 2);
}

static void stop_vhost(void *device)
{
	struct net_device *net = device;

	for (unsigned q = 0; q < 2 * net->num_pairs; q++)
		net_vhost_stop(net, q);
}

static void net_kick(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);

	if (is_control(net, q))
		net_control(net, q);
	else if (net->port->vhost && net_link(dev))
		net_vhost_start(net, q);
	else if (q % 2)
		net_transmit(&net->pair[q / 2]);
	else if (!net->port->vhost)
		net_receive(&net->pair[q / 2]);
	if (net->port->vhost && atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET)
		stop_vhost(net);
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
		net_enable_pair(net, q / 2, true);
}

static void net_stop_queue(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);
	struct net_pair *p = &net->pair[q / 2];

	if (is_control(net, q))
		return;
	if (net->port->vhost)
		net_vhost_stop(net, q);
	if (q % 2) {
		p->tx.busy = p->waits = p->limited[NET_TX] = false;
	} else {
		p->receives = p->limited[NET_RX] = false;
		net_receive_reset(&p->rx);
		if (q)
			net_enable_pair(net, q / 2, false);
	}
	net_watch(p);
}

static void net_give_back(struct virtio_dev *dev, unsigned q)
{
	struct net_device *net = to_net(dev);
	struct net_pair *p = &net->pair[q / 2];

	if (is_control(net, q))
		return;
	if (net->port->vhost)
		net_vhost_stop(net, q);
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
	struct net_device *net = to_net(dev);

	net->used_pairs = 1;
	net->announce = net->can_announce = false;
	net_filter_reset(&net->filter);
	net_show_link(net);
}

/* Without MQ there is one pair, and the control queue comes right after it. */
static void net_features_ok(struct virtio_dev *dev)
{
	unsigned n = virtio_has(dev, VIRTIO_NET_F_MQ) ? 2 * to_net(dev)->num_pairs : 2;

	to_net(dev)->can_announce = virtio_has(dev, VIRTIO_NET_F_GUEST_ANNOUNCE);

	dev->usable_queues = n + virtio_has(dev, VIRTIO_NET_F_CTRL_VQ);
}

/* What the driver said on the control queue; its MAC address is in the configuration. */
struct state {
	uint64_t offloads;
	uint16_t pairs;
	uint8_t link;
	uint8_t zero[7];
	uint8_t mac[NET_MAC_LEN];
	struct net_filter_state filter;
};
static_assert(sizeof(struct state) <= VIRTIO_STATE_OWN, "a state has room for it");

static int net_save(struct virtio_dev *dev, void *state, struct error *e)
{
	struct net_device *net = to_net(dev);
	struct state s = {.offloads = net->offloads, .pairs = net->used_pairs, .link = net->link};

	(void)e;
	memcpy(s.mac, dev->config, sizeof(s.mac));
	net_filter_save(&net->filter, &s.filter);
	memcpy(state, &s, sizeof(s));
	return 0;
}

static int net_restore(struct virtio_dev *dev, const void *state, struct error *e)
{
	struct net_device *net = to_net(dev);
	struct state s;

	memcpy(&s, state, sizeof(s));
	if (s.offloads & ~dev->driver_features || s.pairs < 1 || s.pairs > net->num_pairs ||
	    s.link > 1 || !net_filter_restore(&net->filter, &s.filter))
		return error_set(
			e, -EINVAL,
			"the state has offloads, queues or filters that were not accepted");
	net->offloads = s.offloads;
	net->is_restored = true;
	net->used_pairs = s.pairs;
	net->link = s.link;
	virtio_dev_set_config_locked(dev, offsetof(struct virtio_net_config, mac), s.mac,
				     sizeof(s.mac), false);
	net_filter_own(&net->filter, s.mac);
	/* It may be at another place of the network. */
	net_announce(net);
	return 0;
}

static void net_destroy(struct virtio_dev *dev)
{
	struct net_device *net = to_net(dev);

	net_port_close(net->port);
	loop_timer_close(&net->retry);
	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		rate_destroy(&net->rate[i]);
	for (unsigned i = 0; i < net->num_pairs; i++) {
		loop_timer_close(&net->pair[i].patience);
		loop_timer_close(&net->pair[i].rate_timer.timer);
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
	if (up)
		net_announce(net);
	else
		net_show_link(net);
	if (!net->port->vhost)
		return;
	if (!up)
		loop_call(dev->queue[0].loop, stop_vhost, net);
	for (unsigned q = 0; q < 2 * net->num_pairs; q++)
		virtio_queue_kick_later(dev, q);
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
	if (net->port->vhost) /* unknown */
		*ret = (struct net_counters){-1, -1, -1, -1, -1, -1};
	for (unsigned i = 0; !net->port->vhost && i < net->num_pairs; i++) {
		const struct net_pair *p = &net->pair[i];

		ret->rx_packets += p->rx.packets;
		ret->rx_bytes += p->rx.total;
		ret->rx_dropped += p->rx.dropped;
		ret->tx_packets += p->tx.packets;
		ret->tx_bytes += p->tx.total;
		ret->tx_dropped += p->tx.dropped;
	}
}

static void fill_config(struct net_device *net, const uint8_t mac[NET_MAC_LEN])
{
	struct virtio_net_config c = {
		.max_virtqueue_pairs = htole16((uint16_t)net->num_pairs),
		.mtu = htole16((uint16_t)net->port->mtu),
	};

	memcpy(c.mac, mac, NET_MAC_LEN);
	net_filter_own(&net->filter, mac);
	net_filter_reset(&net->filter);
	net->dev.config_len = offsetof(struct virtio_net_config, speed);
	virtio_dev_set_config(&net->dev, 0, &c, net->dev.config_len);
	net_show_link(net);
}

/* What had to wait for the limits. */
static void waited(struct loop_timer *t)
{
	struct net_pair *p = container_of(t, struct net_pair, rate_timer.timer);

	p->rate_timer.due = 0;
	if (p->limited[NET_RX])
		net_receive(p);
	if (p->limited[NET_TX])
		net_transmit(p);
}

static int set_up(struct net_device *net, const struct gmem *mem, struct loop *const *loops,
		  struct error *e)
{
	int r = virtio_dev_init(&net->dev, &net_ops, mem, 2 * net->num_pairs + 1, VIRTQ_MAX_SIZE,
				loops[0], e);

	for (unsigned i = 0; r >= 0 && i < net->num_pairs; i++) {
		struct net_pair *p = &net->pair[i];

		p->net = net;
		p->index = i;
		net->dev.queue[2 * i].loop = net->dev.queue[2 * i + 1].loop = loops[i];
		r = loop_timer_init(loops[i], &p->patience, net_receive_impatient);
		if (r >= 0)
			r = loop_timer_init(loops[i], &p->rate_timer.timer, waited);
	}
	if (r >= 0)
		r = net_watch_port(net, loops);
	if (r < 0)
		error_set(e, r, "cannot watch %s: %s", net->port->name, strerror(-r));
	return r;
}

int net_device_new(struct virtio_dev **ret, const struct gmem *mem, struct net_port *port,
		   const uint8_t mac[NET_MAC_LEN], struct loop *const *loops, struct error *e)
{
	struct net_device *net = calloc(1, sizeof(*net) + port->pairs * sizeof(net->pair[0]));
	int r;

	if (!net) {
		net_port_close(port);
		return error_set(e, -ENOMEM, "virtio-net: out of memory");
	}
	net->port = port;
	net->gone = port->fd[0] < 0;
	net->num_pairs = port->pairs;
	net->retry.watch.fd = -1;
	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		rate_init(&net->rate[i], &(struct rate_limits){0});
	for (unsigned i = 0; i < port->pairs; i++)
		net->pair[i].patience.watch.fd = net->pair[i].rate_timer.timer.watch.fd = -1;
	net->link = true;
	net->used_pairs = 1;
	net->dev.features = net_features(port);
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
