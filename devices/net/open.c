// SPDX-License-Identifier: BSD-2-Clause
/* What a network device is connected to, as its options say. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/unixsocket.h"
#include "device.h"
#include "vhost.h"

static int connect_to(struct sockaddr_un *addr, const char *path, struct error *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;
	struct stat st;

	if (fd < 0)
		return error_set(e, -errno, "cannot make a socket: %s", strerror(errno));
	r = unix_address(addr, path, e);
	if (r == 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		r = -errno;
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			error_set(e, r, "is not a socket");
		else if (r == -EAGAIN)
			error_set(e, r, "who listens there accepts nobody: is it stuck?");
		else if (r == -ENOENT || r == -ECONNREFUSED)
			error_set(e, r,
				  "nobody listens there: start the other end first, or let this "
				  "one be it (socket=%s,listen)",
				  path);
		else
			error_set(e, r, "cannot connect: %s", strerror(-r));
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int open_socket(struct net_port **ret, const struct net_config *config, struct error *e)
{
	struct sockaddr_un peer;
	int fd = config->listen ? unix_listen(config->socket, 8, e)
				: connect_to(&peer, config->socket, e),
	    r;
	char name[256];

	if (fd < 0)
		return fd;
	snprintf(name, sizeof(name), "socket %.200s", config->socket);
	r = net_stream_new(ret, config->listen ? -1 : fd, config->listen ? fd : -1, name,
			   config->mtu ? config->mtu : NET_STREAM_MTU, e);
	if (r == 0 && !config->listen)
		net_stream_reconnects(*ret, &peer);
	return r;
}

static int open_descriptor(struct net_port **ret, const struct net_config *config, struct error *e)
{
	int fd = inherited_take((int)config->fd, e);
	struct ifreq request = {0};
	char name[32];

	if (fd < 0)
		return fd;
	if (ioctl(fd, TUNGETIFF, &request) == 0)
		return net_tap_take(ret, fd, &request, e);
	if (!is_connected_stream(fd)) {
		close(fd);
		return error_set(e, -EINVAL, "is neither a tap nor a connected stream socket");
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	snprintf(name, sizeof(name), "descriptor %u", config->fd);
	return net_stream_new(ret, fd, -1, name, config->mtu ? config->mtu : NET_STREAM_MTU, e);
}

int net_port_open(struct net_port **ret, const struct net_config *config, struct error *e)
{
	int r;

	*ret = NULL;
	if (config->passt)
		r = net_passt_open(ret, config, e);
	else if (config->socket)
		r = open_socket(ret, config, e);
	else if (config->fd)
		r = open_descriptor(ret, config, e);
	else
		r = net_tap_open(ret, config->tap, config->queues, e);
	if (r == 0 && config->vhost && (*ret)->ops != &net_tap_ops)
		r = error_set(e, -EINVAL, "vhost is for taps: this is none");
	else if (r == 0 && config->vhost)
		r = net_vhost_open(*ret, e);
	if (r < 0 && *ret) {
		net_port_close(*ret);
		*ret = NULL;
	}
	if (r == 0 && config->mtu)
		(*ret)->mtu = config->mtu;
	return r;
}
