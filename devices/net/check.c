// SPDX-License-Identifier: BSD-2-Clause
/* For `skep check`: which kinds of network work here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "net.h"
#include "vhost.h"
#include "virtio/type.h"

static void check_tap(struct device_finding *f)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	f->works = fd >= 0;
	if (fd < 0) {
		snprintf(f->finding, sizeof(f->finding), "/dev/net/tun: %s (for --net tap=NAME)",
			 strerror(errno));
		snprintf(f->remedy, sizeof(f->remedy), "%s",
			 errno == EACCES || errno == EPERM
				 ? "give your user access to it (chmod 666)"
				 : "modprobe tun, or give the container the device");
	} else if (geteuid() == 0) {
		snprintf(f->finding, sizeof(f->finding), "--net tap=NAME works");
	} else {
		snprintf(f->finding, sizeof(f->finding),
			 "--net tap=NAME works with taps that were made for you");
		snprintf(f->remedy, sizeof(f->remedy),
			 "as root: ip tuntap add NAME mode tap user %u", (unsigned)geteuid());
	}
}

static void check_vhost(struct device_finding *f)
{
	_cleanup_close_ int fd = open(NET_VHOST_PATH, O_RDWR | O_CLOEXEC);

	f->works = fd >= 0;
	if (fd >= 0) {
		snprintf(f->finding, sizeof(f->finding), "--net tap=NAME,vhost works");
		return;
	}
	snprintf(f->finding, sizeof(f->finding), "%s: %s (for --net tap=NAME,vhost)",
		 NET_VHOST_PATH, strerror(errno));
	snprintf(f->remedy, sizeof(f->remedy), "%s",
		 errno == EACCES || errno == EPERM
			 ? "give your user access to it (setfacl -m u:USER:rw " NET_VHOST_PATH ")"
			 : "modprobe vhost_net, or give the container the device");
}

static void check_passt(struct device_finding *f)
{
	static const struct net_config config = {.passt = true, .queues = 1};
	struct net_port *port;
	struct error e = {""};
	int r = net_passt_open(&port, &config, &e);

	f->works = r == 0;
	if (r == 0)
		net_port_close(port);
	snprintf(f->finding, sizeof(f->finding), "%s",
		 r == 0 ? "--net passt works" : "--net passt does not work");
	snprintf(f->remedy, sizeof(f->remedy), "%s%s", r == 0 ? "" : "passt ", e.msg);
}

void net_check_host(device_tell tell, void *ctx)
{
	struct device_finding tap = {.name = "tun"}, vhost = {.name = "vhost-net"},
			      passt = {.name = "passt"};

	check_tap(&tap);
	tell(ctx, &tap);
	check_vhost(&vhost);
	tell(ctx, &vhost);
	check_passt(&passt);
	tell(ctx, &passt);
}
