// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to and from virtio-net, and its control queue. Input: options, then one command after the
 * other. In the tap's place is a socket that keeps packets apart, as a tap does. What must hold: see
 * guest_check().
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "device.h"
#include "net/net.h"

enum { RX, TX, CTRL, NUM_QUEUES };

static void receive(int host)
{
	static uint8_t frame[70000];
	size_t len = MIN((size_t)take(2) + sizeof(struct virtio_net_hdr_v1), sizeof(frame));

	memset(frame, (int)take(1), len);
	(void)!send(host, frame, len, MSG_DONTWAIT);
}

static void command(int host)
{
	uint64_t what = take(1);
	unsigned index = (unsigned)(take(1) % NUM_QUEUES);
	struct drv_queue *q = &guest.drv.queue[index];
	uint8_t packet[256];

	if (!q->size) /* of a feature that was declined */
		return;
	if (what < 160)
		guest_send_any(q, index == RX);
	else if (what < 190)
		receive(host);
	else if (what < 200)
		net_set_link(guest.dev, what & 1);
	else
		guest_damage(q, what);
	guest_kick(q);
	/* What arrived is read when the guest offers buffers: nobody else looks here. */
	drv_kick(&guest.drv.queue[RX]);
	drv_pump(&guest.drv);
	while (recv(host, packet, sizeof(packet), MSG_DONTWAIT) > 0)
		;
	for (unsigned i = 0; i < NUM_QUEUES; i++)
		if (guest.drv.queue[i].size)
			guest_reap(&guest.drv.queue[i]);
	guest_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[NET_MAC_LEN] = {2};
	struct net_tap tap = {.name = "fuzz", .pairs = 1, .mtu = 1500, .offloads = 0xf};
	unsigned commands = 0;
	int end[2];

	guest.in = (struct input){data, size};
	guest_init(take(1) & 1);
	check(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, end) == 0);
	tap.fd[0] = end[0];
	check(net_device_new(&guest.dev, &guest.drv.mem, &tap, mac, &guest.loop, NULL) == 0);
	guest_start(take(3));
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command(end[1]);
	guest_end();
	close(end[1]);
	return 0;
}
