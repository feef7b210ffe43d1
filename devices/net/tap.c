// SPDX-License-Identifier: BSD-2-Clause
/* A tap of the host (Documentation/networking/tuntap.rst). */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

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

static_assert(sizeof(((struct net_tap *)0)->name) == IFNAMSIZ, "an interface's name");

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
static int ask_interface(struct net_tap *tap, struct error *e)
{
	struct ifreq request = {0};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0)
		r = error_set(e, -errno, "cannot ask for its MTU: %s", strerror(errno));
	else
		tap->mtu = (unsigned)request.ifr_mtu;
	if (!r && ioctl(fd, SIOCGIFFLAGS, &request) == 0)
		tap->up = request.ifr_flags & IFF_UP;
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

int net_tap_open(struct net_tap *ret, const char *name, unsigned pairs, struct error *e)
{
	int r = 0;

	*ret = (struct net_tap){.pairs = 0};
	if (strlen(name) >= sizeof(ret->name))
		return error_set(e, -EINVAL,
				 "a network interface's name has at most %zu characters",
				 sizeof(ret->name) - 1);
	strcpy(ret->name, name);
	while (ret->pairs < pairs) {
		r = open_queue(name, pairs > 1, e);
		if (r < 0)
			break;
		ret->fd[ret->pairs++] = r;
	}
	if (r >= 0)
		r = ask_interface(ret, e);
	if (r < 0) {
		net_tap_close(ret);
		return r;
	}
	ret->offloads = probe_offloads(ret->fd[0]);
	/* Those that the guest has not asked for would get their share of the packets, too. */
	for (unsigned i = 1; i < pairs; i++)
		net_tap_enable(ret, i, false);
	return 0;
}

void net_tap_close(struct net_tap *tap)
{
	for (unsigned i = 0; i < tap->pairs; i++)
		close(tap->fd[i]);
	tap->pairs = 0;
}

int net_tap_set_offloads(const struct net_tap *tap, uint32_t offloads)
{
	return ioctl(tap->fd[0], TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

int net_tap_enable(const struct net_tap *tap, unsigned pair, bool enable)
{
	struct ifreq request = {.ifr_flags = enable ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	return ioctl(tap->fd[pair], TUNSETQUEUE, &request) < 0 ? -errno : 0;
}
