// SPDX-License-Identifier: BSD-2-Clause
/* What the guest sees of its link, and what is watched at the other end of it. */
#include <endian.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "device.h"

#define RETRY_MIN_NS (NSEC_PER_SEC / 8)
#define RETRY_MAX_NS (4 * NSEC_PER_SEC)

void net_watch(struct net_pair *p)
{
	const struct net_port *port = p->net->port;
	uint32_t events = 0;

	if (!p->watch.loop)
		return;
	if (p->receives && p->rx.num && !p->rx.frame_len && !p->limited[NET_RX])
		events |= EPOLLIN;
	if (p->waits || port->unsent)
		events |= EPOLLOUT;
	if (!events || p->net->gone) {
		loop_pause(&p->watch);
		return;
	}
	loop_watch_for(&p->watch, events);
	loop_resume(&p->watch);
}

void net_show_link(struct net_device *net)
{
	bool up = net->link && !net->gone;
	uint16_t le = htole16((uint16_t)((up ? VIRTIO_NET_S_LINK_UP : 0) |
					 (up && net->announce ? VIRTIO_NET_S_ANNOUNCE : 0)));

	virtio_dev_set_config(&net->dev, offsetof(struct virtio_net_config, status), &le,
			      sizeof(le));
}

void net_announce(struct net_device *net)
{
	net->announce = atomic_load(&net->can_announce);
	net_show_link(net);
}

void net_try_later(struct net_device *net)
{
	loop_timer_set(&net->retry, net->retry_ns);
	net->retry_ns = MIN(2 * net->retry_ns, RETRY_MAX_NS);
}

static const char *until_when(const struct net_port *port)
{
	if (port->reconnects)
		return "until it is back";
	return port->listener < 0 ? "from now on" : "until somebody connects";
}

void net_lost(struct net_pair *p, int error)
{
	struct net_device *net = p->net;
	struct net_port *port = net->port;

	if (!atomic_exchange(&net->gone, true)) {
		log_warn("%s is gone (%s): the guest's link is down %s", port->name,
			 strerror(-error), until_when(port));
		if (port->ops->hang_up) {
			loop_unwatch(&p->watch);
			port->ops->hang_up(port);
		}
		net_show_link(net);
		if (!net->retry_ns || now_ns() - net->connected_at > RETRY_MAX_NS)
			net->retry_ns = RETRY_MIN_NS;
		if (port->reconnects)
			net_try_later(net);
		/* What waits for room is not for whoever comes next. */
		virtio_queue_kick_later(&net->dev, 2 * p->index + 1);
	}
	net_watch(p);
}
