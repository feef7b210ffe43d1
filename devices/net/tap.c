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

static int explain_open(const char *name, int err, struct error *e)
{
	switch (err) {
	case ENOENT:
	case ENODEV:
		return error_set(e, -err,
				 TUN " is not there: load the module (modprobe tun), or give the "
				     "container the device");
	case EACCES:
	case EPERM:
		return error_set(e, -err,
				 "not permitted: make the tap for this user first (as root: ip "
				 "tuntap add %s mode tap user %u)",
				 name, (unsigned)getuid());
	case EBUSY:
		return error_set(e, -err, "is in use by another program");
	case EINVAL:
		return error_set(
			e, -err,
			"is no tap, or a tap of one queue (queues= needs one that was made "
			"with multi_queue)");
	default:
		return error_set(e, -err, "cannot open it: %s", strerror(err));
	}
}

static int open_queue(const char *name, bool several, struct error *e)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open(TUN, O_RDWR | O_CLOEXEC | O_NONBLOCK), size = (int)NET_HEADER;

	if (fd < 0)
		return explain_open(name, errno, e);
	if (several)
		request.ifr_flags = (short)(request.ifr_flags | IFF_MULTI_QUEUE);
	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
		int err = errno;

		close(fd);
		return explain_open(name, err, e);
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

	if (strlen(name) >= IFNAMSIZ)
		return error_set(e, -EINVAL, "a network interface's name has at most %d characters",
				 IFNAMSIZ - 1);
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
