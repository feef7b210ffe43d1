// SPDX-License-Identifier: BSD-2-Clause
/* Limits of packets and bytes a second. */
#include "device.h"

bool net_must_wait(struct net_pair *p, enum net_direction direction)
{
	struct rate *rate = &p->net->rate[direction];
	uint64_t wait = rate->limited ? rate_wait(rate, now_ns()) : 0;

	p->limited[direction] = wait;
	if (wait)
		rate_timer_set(&p->rate_timer, wait);
	return wait;
}

void net_charge(struct net_pair *p, enum net_direction direction, size_t bytes)
{
	struct rate *rate = &p->net->rate[direction];

	if (rate->limited)
		rate_charge(rate, bytes, now_ns());
}

void net_set_limits(struct virtio_dev *dev, const struct net_limits *limits)
{
	struct net_device *net = to_net(dev);

	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		rate_set(&net->rate[i], &limits->of[i]);
	for (unsigned q = 0; q < 2 * net->num_pairs; q++)
		virtio_queue_kick_later(dev, q);
}

void net_get_limits(const struct virtio_dev *dev, struct net_limits *ret)
{
	struct net_device *net = to_net(dev);

	for (unsigned i = 0; i < NET_DIRECTIONS; i++)
		rate_get(&net->rate[i], &ret->of[i]);
}

bool net_has_limits(const struct virtio_dev *dev)
{
	return !to_net(dev)->port->vhost;
}
