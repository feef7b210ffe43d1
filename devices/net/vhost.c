// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The kernel has the ioeventfds that the guest kicks, the irqfd that
 * interrupts it, guest memory and the tap: so nothing of skep runs for a packet. It writes to the
 * irqfd without a word to us, so the guest always reads the interrupt status of a used buffer
 * (virtio_dev_share_interrupt()). A queue is the kernel's from its first kick until it is reset,
 * paused, or has no link: then the ring is ours again, at the position that the kernel got to. What
 * is still sent without a link is dropped here.
 *
 * A driver that breaks the protocol is reported by an eventfd. That the tap has gone is not: so news
 * of links (rtnetlink(7)) have us look.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "device.h"
#include "vhost.h"

/* That every kernel which skep runs on has, and without which it is not worth it. */
#define FEATURES                                                                                   \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |                            \
	 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_NET_F_MRG_RXBUF)

struct net_vhost {
	struct net_device *net;
	int fd[NET_MAX_PAIRS];
	unsigned num;
	bool works[2 * NET_MAX_PAIRS]; /* on that queue */
	int broken, news;	       /* an eventfd, and a socket */
	struct loop_fd broken_watch, news_watch;
};

static int open_one(struct net_vhost *v)
{
	int fd = open(NET_VHOST_PATH, O_RDWR | O_CLOEXEC);
	uint64_t features = 0;

	if (fd < 0)
		return -errno;
	v->fd[v->num++] = fd;
	if (ioctl(fd, VHOST_SET_OWNER, NULL) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0)
		return -errno;
	return (features & FEATURES) == FEATURES ? 0 : -ENOTSUP;
}

static int open_all(struct net_vhost *v, unsigned num)
{
	struct sockaddr_nl links = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int r = 0;

	while (r == 0 && v->num < num)
		r = open_one(v);
	if (r < 0)
		return r;
	v->broken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->news = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (v->broken < 0 || v->news < 0 ||
	    bind(v->news, (struct sockaddr *)&links, sizeof(links)) < 0)
		return -errno;
	return 0;
}

int net_vhost_open(struct net_port *port, struct error *e)
{
	struct net_vhost *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return error_set(e, -ENOMEM, "out of memory");
	v->broken = v->news = -1;
	r = open_all(v, port->pairs);
	if (r == 0) {
		port->vhost = v;
		return 0;
	}
	log_warn("%s: no vhost, as " NET_VHOST_PATH " does not work here (%s): packets go through "
		 "skep",
		 port->name, strerror(-r));
	net_vhost_close(v);
	return 0;
}

void net_vhost_check_memory(struct net_port *port, const struct gmem *mem)
{
	if (!port->vhost || !mem->hotplug.size)
		return;
	log_warn("%s: no vhost, as it knows nothing of memory that comes and goes: packets go "
		 "through skep",
		 port->name);
	net_vhost_close(port->vhost);
	port->vhost = NULL;
}

void net_vhost_close(struct net_vhost *v)
{
	if (!v)
		return;
	for (unsigned i = 0; i < v->num; i++)
		close(v->fd[i]);
	if (v->broken >= 0)
		close(v->broken);
	if (v->news >= 0)
		close(v->news);
	free(v);
}

static int set_memory(const struct net_vhost *v, const struct gmem *mem)
{
	struct vhost_memory *table =
		calloc(1, sizeof(*table) + mem->num_regions * sizeof(table->regions[0]));
	int r = table ? 0 : -ENOMEM;

	for (unsigned i = 0; table && i < mem->num_regions; i++)
		table->regions[table->nregions++] = (struct vhost_memory_region){
			.guest_phys_addr = mem->region[i].base.v,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].host,
		};
	for (unsigned i = 0; r == 0 && i < v->num; i++)
		r = ioctl(v->fd[i], VHOST_SET_MEM_TABLE, table) < 0 ? -errno : 0;
	free(table);
	return r;
}

static void stop_all(struct net_vhost *v)
{
	for (unsigned q = 0; q < 2 * v->num; q++)
		net_vhost_stop(v->net, q);
}

static void broken(struct loop_fd *w, uint32_t events)
{
	struct net_vhost *v = container_of(w, struct net_vhost, broken_watch);

	(void)events;
	loop_drain_eventfd(w);
	stop_all(v);
	virtio_dev_fail(&v->net->dev, "vhost cannot work on its queues");
}

static void some_link_changed(struct loop_fd *w, uint32_t events)
{
	struct net_vhost *v = container_of(w, struct net_vhost, news_watch);
	struct pollfd tap = {.fd = v->net->port->fd[0]};
	char news[4096];

	(void)events;
	while (read(v->news, news, sizeof(news)) > 0 || errno == ENOBUFS)
		;
	if (v->net->gone || poll(&tap, 1, 0) != 1 || !(tap.revents & POLLERR))
		return;
	stop_all(v);
	net_lost(&v->net->pair[0], -EBADFD);
}

int net_vhost_attach(struct net_device *net, struct loop *loop)
{
	struct net_vhost *v = net->port->vhost;
	int r = set_memory(v, net->dev.mem);

	v->net = net;
	if (r == 0)
		r = loop_watch(loop, &v->broken_watch, v->broken, EPOLLIN, broken);
	if (r >= 0)
		r = loop_watch(loop, &v->news_watch, v->news, EPOLLIN, some_link_changed);
	return r;
}

static int hand_over(const struct net_vhost *v, unsigned q)
{
	const struct virtio_dev *dev = &v->net->dev;
	const struct virtq *vq = &dev->queue[q].vq;
	unsigned i = q % 2; /* the kernel's number of it, too */
	uint64_t features = dev->driver_features & FEATURES;
	struct vhost_vring_state size = {i, vq->size}, base = {i, vq->next_avail};
	struct vhost_vring_addr rings = {.index = i,
					 .desc_user_addr = (uintptr_t)vq->desc,
					 .used_user_addr = (uintptr_t)vq->used,
					 .avail_user_addr = (uintptr_t)vq->avail};
	struct vhost_vring_file kick = {i, dev->queue[q].kick_fd}, call = {i, dev->irq_fd},
				err = {i, v->broken}, tap = {i, v->net->port->fd[q / 2]};
	const struct {
		unsigned long request;
		const void *arg;
	} steps[] = {
		{VHOST_SET_FEATURES, &features}, {VHOST_SET_VRING_NUM, &size},
		{VHOST_SET_VRING_BASE, &base},	 {VHOST_SET_VRING_ADDR, &rings},
		{VHOST_SET_VRING_KICK, &kick},	 {VHOST_SET_VRING_CALL, &call},
		{VHOST_SET_VRING_ERR, &err},	 {VHOST_NET_SET_BACKEND, &tap},
	};

	for (size_t n = 0; n < ARRAY_SIZE(steps); n++)
		if (ioctl(v->fd[q / 2], steps[n].request, steps[n].arg) < 0)
			return -errno;
	return 0;
}

void net_vhost_start(struct net_device *net, unsigned q)
{
	struct net_vhost *v = net->port->vhost;
	struct virtio_queue *queue = &net->dev.queue[q];
	int r;

	if (v->works[q] || queue->vq.paused || q / 2 >= net->used_pairs)
		return;
	virtio_dev_share_interrupt(&net->dev);
	loop_pause(&queue->watch);
	v->works[q] = true;
	r = hand_over(v, q);
	if (r == 0) {
		virtio_queue_kick_later(&net->dev, q);
		return;
	}
	stop_all(v);
	if (net_port_is_gone(r))
		net_lost(&net->pair[0], r);
	else
		virtio_dev_fail(&net->dev, "queue %u: vhost refuses it: %s", q, strerror(-r));
}

void net_vhost_stop(struct net_device *net, unsigned q)
{
	struct net_vhost *v = net->port->vhost;
	struct vhost_vring_file nothing = {q % 2, -1};
	struct vhost_vring_state base = {.index = q % 2};

	if (!v->works[q])
		return;
	v->works[q] = false;
	ioctl(v->fd[q / 2], VHOST_NET_SET_BACKEND,
	      &nothing); /* returns when nothing is in flight */
	if (ioctl(v->fd[q / 2], VHOST_GET_VRING_BASE, &base) == 0)
		virtq_go_on_at(&net->dev.queue[q].vq, (uint16_t)base.num);
	loop_resume(&net->dev.queue[q].watch);
	virtio_queue_kick_later(&net->dev, q);
}
