// SPDX-License-Identifier: BSD-2-Clause
/*
 * The port's descriptors on their loops, and connections that come and go. A loop does not try to
 * connect again at once, nor does a peer that it can do nothing with fill the log: the time between
 * tries doubles, until a connection has lasted.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "device.h"

static void port_ready(struct loop_fd *w, uint32_t events)
{
	struct net_pair *p = container_of(w, struct net_pair, watch);
	struct net_port *port = p->net->port;
	int r = 0;

	if (p->net->gone) {
		net_watch(p);
		return;
	}
	if (events & EPOLLOUT && port->unsent)
		r = port->ops->flush(port);
	if (net_port_is_gone(r)) {
		net_lost(p, r);
		return;
	}
	if (events & EPOLLOUT && p->waits)
		net_transmit(p);
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		net_receive(p);
	net_watch(p);
}

/* Watches what there is for the first time, with nothing to wait for yet. */
static int watch_port(struct net_pair *p, struct loop *loop)
{
	int r = loop_watch(loop, &p->watch, p->net->port->fd[p->index], EPOLLIN, port_ready);

	if (r >= 0)
		loop_pause(&p->watch);
	return r;
}

/* The other end is there, again or for the first time. */
static void connected(struct net_device *net)
{
	struct net_pair *p = &net->pair[0];

	net->gone = false;
	net->connected_at = now_ns();
	net_announce(net);
	net_receive(p);
	net_transmit(p);
	net_watch(p);
}

/* Somebody connects: one at a time, as the second would see a link without anybody at its end. */
static void listener_ready(struct loop_fd *w, uint32_t events)
{
	struct net_device *net = container_of(w, struct net_device, listener);
	struct pollfd other = {.fd = net->port->fd[0]};
	int r;

	(void)events;
	if (!net->gone && poll(&other, 1, 0) == 1 && other.revents & (POLLHUP | POLLERR))
		net_lost(&net->pair[0], -ECONNRESET);
	r = net->port->ops->accept(net->port);
	if (r == 0)
		r = watch_port(&net->pair[0], w->loop);
	if (r >= 0) {
		log_info("%s: somebody has connected", net->port->name);
		connected(net);
	} else if (r != -EAGAIN && r != -EBUSY) {
		log_warn("%s: nobody can connect any more: %s", net->port->name, strerror(-r));
		loop_pause(w);
	}
}

static void retry(struct loop_timer *t)
{
	struct net_device *net = container_of(t, struct net_device, retry);
	int r = net->port->ops->connect(net->port);

	if (r == 0) {
		r = watch_port(&net->pair[0], t->watch.loop);
		if (r < 0)
			net->port->ops->hang_up(net->port);
	}
	if (r < 0) {
		net_try_later(net);
		return;
	}
	log_notice("%s is back: the guest's link is up", net->port->name);
	connected(net);
}

int net_watch_port(struct net_device *net, struct loop *const *loops)
{
	const struct net_port *port = net->port;
	int r = 0;

	if (port->vhost)
		return net_vhost_attach(net, loops[0]);
	for (unsigned i = 0; r >= 0 && i < net->num_pairs; i++)
		if (port->fd[i] >= 0)
			r = watch_port(&net->pair[i], loops[i]);
	if (r >= 0 && port->listener >= 0)
		r = loop_watch(loops[0], &net->listener, port->listener, EPOLLIN, listener_ready);
	if (r >= 0 && port->reconnects)
		r = loop_timer_init(loops[0], &net->retry, retry);
	return r;
}
