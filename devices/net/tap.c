// SPDX-License-Identifier: BSD-2-Clause
/* A tap of the host (Documentation/networking/tuntap.rst). */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "device.h"

#define TUN "/dev/net/tun"

static int explain_tun(int err, struct error *e)
{
	if (err == ENOENT || err == ENODEV || err == ENXIO)
		return error_set(e, -err,
				 TUN " is not there: load the module (modprobe tun), or give the "
				     "container the device");
	return error_set(e, -err, TUN ": %s%s", strerror(err),
			 err == EACCES || err == EPERM ? ": give your user access to it (chmod 666)"
						       : "");
}

static int explain_tap(const char *name, bool several, int err, struct error *e)
{
	switch (err) {
	case EACCES:
	case EPERM:
		return error_set(e, -err,
				 "not permitted: make the tap for this user first (as root: ip "
				 "tuntap add %s mode tap user %u)",
				 name, (unsigned)getuid());
	case EBUSY:
		return error_set(e, -err, "is in use by another program");
	case EINVAL:
		return error_set(e, -err, "is a network interface, but no tap%s",
				 several ? ", or one that was made without multi_queue, which "
					   "queues= needs"
					 : "");
	default:
		return error_set(e, -err, "cannot open it: %s", strerror(err));
	}
}

/* A tap that was made with multi_queue wants to be asked for as such, even for one queue. */
static int attach(int fd, const char *name, bool several)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int size = (int)NET_HEADER, r;

	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	r = several ? -1 : ioctl(fd, TUNSETIFF, &request);
	if (several || (r < 0 && errno == EINVAL)) {
		request.ifr_flags = (short)(request.ifr_flags | IFF_MULTI_QUEUE);
		r = ioctl(fd, TUNSETIFF, &request);
	}
	return r < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ? -errno : 0;
}

static int open_queue(const char *name, bool several, struct error *e)
{
	int fd = open(TUN, O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return explain_tun(errno, e);
	r = attach(fd, name, several);
	if (r < 0) {
		close(fd);
		return explain_tap(name, several, -r, e);
	}
	return fd;
}

/* What the interface says of itself: its MTU, and whether it is up. */
static int ask_interface(struct net_port *port, const char *name, struct error *e)
{
	struct ifreq request = {0};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0)
		r = error_set(e, -errno, "cannot ask for its MTU: %s", strerror(errno));
	else
		port->mtu = (unsigned)request.ifr_mtu;
	if (!r && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP))
		log_warn("tap %s is down: no packet passes before it is up (ip link set %s up)",
			 name, name);
	if (fd >= 0)
		close(fd);
	return r;
}

/* What the host's kernel can do, the most first. */
static uint32_t probe_offloads(int fd)
{
	static const uint32_t sets[] = {
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | NET_TUN_F_USO4 |
			NET_TUN_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
		TUN_F_CSUM,
	};
	uint32_t found = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sets) && !found; i++)
		if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)sets[i]) == 0)
			found = sets[i];
	ioctl(fd, TUNSETOFFLOAD, 0ul);
	return found;
}

/* The tap whose queues are open, of that name. */
static int finish(struct net_port *port, const char *name, struct error *e)
{
	int r = ask_interface(port, name, e);

	if (r < 0)
		return r;
	if (asprintf(&port->name, "tap %s", name) < 0) {
		port->name = NULL;
		return error_set(e, -ENOMEM, "out of memory");
	}
	port->offloads = probe_offloads(port->fd[0]);
	/* Those that the guest has not asked for would get their share of the packets, too. */
	for (unsigned i = 1; i < port->pairs; i++)
		net_tap_ops.enable(port, i, false);
	return 0;
}

int net_tap_open(struct net_port **ret, const char *name, unsigned pairs, struct error *e)
{
	struct net_port *port;
	int r = 0;

	port = calloc(1, sizeof(*port));
	if (!port)
		return error_set(e, -ENOMEM, "out of memory");
	*port = (struct net_port){.ops = &net_tap_ops, .listener = -1};
	while (port->pairs < pairs) {
		r = open_queue(name, pairs > 1, e);
		if (r < 0)
			break;
		port->fd[port->pairs++] = r;
	}
	if (r >= 0)
		r = finish(port, name, e);
	if (r < 0)
		net_port_close(port);
	else
		*ret = port;
	return r;
}

int net_tap_take(struct net_port **ret, int fd, const struct ifreq *interface, struct error *e)
{
	struct net_port *port = calloc(1, sizeof(*port));
	int size = (int)NET_HEADER, r = 0;
	char name[IFNAMSIZ + 1] = "";

	if (!port) {
		close(fd);
		return error_set(e, -ENOMEM, "out of memory");
	}
	*port = (struct net_port){.ops = &net_tap_ops, .fd = {fd}, .listener = -1, .pairs = 1};
	memcpy(name, interface->ifr_name, IFNAMSIZ);
	if (!(interface->ifr_flags & IFF_TAP) || !(interface->ifr_flags & IFF_VNET_HDR))
		r = error_set(e, -EINVAL,
			      "is no tap, or one without headers: open it with IFF_TAP | IFF_NO_PI "
			      "| IFF_VNET_HDR");
	else if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0 ||
		 ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
		r = error_set(e, -errno, "tap %s: %s", name, strerror(errno));
	else
		r = finish(port, name, e);
	if (r < 0)
		net_port_close(port);
	else
		*ret = port;
	return r;
}

static ssize_t tap_receive(struct net_port *port, unsigned pair, const struct iovec *iov,
			   unsigned num)
{
	ssize_t n = readv(port->fd[pair], iov, (int)num);

	return n < 0 ? -errno : n;
}

/* One that the kernel refuses is dropped; it checks the header. */
static int tap_send(struct net_port *port, unsigned pair, const struct iovec *iov, unsigned num,
		    size_t len)
{
	(void)len;
	if (writev(port->fd[pair], iov, (int)num) >= 0)
		return 0;
	return errno == ENOBUFS || errno == EINTR ? -EAGAIN : -errno;
}

static int tap_set_offloads(const struct net_port *port, uint32_t offloads)
{
	return ioctl(port->fd[0], TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

static int tap_enable(const struct net_port *port, unsigned pair, bool enable)
{
	struct ifreq request = {.ifr_flags = enable ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	return ioctl(port->fd[pair], TUNSETQUEUE, &request) < 0 ? -errno : 0;
}

const struct net_port_ops net_tap_ops = {
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.enable = tap_enable,
};
