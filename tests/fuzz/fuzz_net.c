// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to and from virtio-net, and its control queue. Input: options, then one command after the
 * other. In the tap's place is a socket that keeps packets apart, as a tap does; or there is a stream,
 * of which the other end is hostile, too. What must hold: see guest_check(), and whatever a guest
 * does, the stream from it is one of whole frames.
 */
#include <endian.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "device.h"
#include "net/net.h"

enum { RX, TX, CTRL, NUM_QUEUES };

#define STREAM 2u /* an option */

/* Where the other end is in the stream of frames. */
static struct {
	bool is_stream;
	uint8_t length[4];
	unsigned num;  /* bytes of `length` */
	uint32_t left; /* of the frame */
} peer;

static void follow(const uint8_t *data, size_t len)
{
	uint32_t be;

	for (size_t i = 0; i < len;) {
		if (peer.left) {
			uint32_t n = MIN(peer.left, (uint32_t)(len - i));

			peer.left -= n;
			i += n;
			continue;
		}
		peer.length[peer.num++] = data[i++];
		if (peer.num < sizeof(peer.length))
			continue;
		memcpy(&be, peer.length, sizeof(be));
		peer.left = be32toh(be);
		peer.num = 0;
		check(peer.left >= 14 && peer.left <= 14 + 4 + 65536);
	}
}

static void drain(int host)
{
	static uint8_t data[70000];
	ssize_t n;

	while ((n = recv(host, data, sizeof(data), MSG_DONTWAIT)) > 0)
		if (peer.is_stream)
			follow(data, (size_t)n);
}

/* A packet; on a stream a frame, of which the length may be wrong, or something is missing. */
static void receive(int host)
{
	static uint8_t frame[70000];
	uint32_t len = MIN((uint32_t)take(2) + 12, (uint32_t)sizeof(frame)), said = htobe32(len);
	size_t start = peer.is_stream ? sizeof(said) : 0;

	memset(frame, (int)take(1), sizeof(frame));
	if (peer.is_stream) {
		uint64_t damage = take(1);

		if (damage > 250)
			said ^= htobe32((uint32_t)take(4));
		memcpy(frame, &said, sizeof(said));
		if (damage > 200 && damage <= 250)
			len = len * (uint32_t)(damage - 200) / 50;
	}
	(void)!send(host, frame, MIN(len + start, sizeof(frame)), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A command of the control queue that may be one: two lists of addresses, of which the first is the
 * data of all others, too. */
static void ask(struct drv_queue *q)
{
	struct drv_buf bufs[2] = {{GPA(RAM - AREA), 2 + 2 * 4 + 100 * 6, false},
				  {pick_address(), 1, true}};
	uint8_t *at = drv_ptr(&guest.drv, bufs[0].addr, bufs[0].len);

	memset(at, 0, bufs[0].len);
	at[0] = (uint8_t)(take(1) % 6);
	at[1] = (uint8_t)(take(1) % 7);
	at[2] = (uint8_t)(take(1) % 64);
	at[3] = (uint8_t)(take(1) % 32);
	at[6 + at[2] * 6] = (uint8_t)(take(1) % 64);
	bufs[0].len -= (uint32_t)(take(2) % bufs[0].len);
	guest_send(q, bufs, 2, false);
}

static void command(int host)
{
	uint64_t what = take(1);
	unsigned index = (unsigned)(take(1) % NUM_QUEUES);
	struct drv_queue *q = &guest.drv.queue[index];

	if (!q->size) /* of a feature that was declined */
		return;
	if (index == CTRL && what < 140)
		ask(q);
	else if (what < 160)
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
	/* The other end of a stream may also be slow. */
	if (!peer.is_stream || what % 4)
		drain(host);
	drv_pump(&guest.drv);
	for (unsigned i = 0; i < NUM_QUEUES; i++)
		if (guest.drv.queue[i].size)
			guest_reap(&guest.drv.queue[i]);
	guest_check();
}

static struct net_port *make_port(int fd)
{
	struct net_port *port;
	int small = 4096;

	if (peer.is_stream) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		check(net_stream_new(&port, fd, -1, "fuzz", 1500, NULL) == 0);
		return port;
	}
	port = calloc(1, sizeof(*port));
	check(port);
	*port = (struct net_port){.ops = &net_tap_ops,
				  .name = strdup("fuzz"),
				  .fd = {fd},
				  .listener = -1,
				  .pairs = 1,
				  .mtu = 1500,
				  .offloads = 0xf};
	return port;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[NET_MAC_LEN] = {2};
	unsigned commands = 0, options;
	int end[2];

	guest.in = (struct input){data, size};
	options = (unsigned)take(1);
	guest_init(options & 1);
	memset(&peer, 0, sizeof(peer));
	peer.is_stream = options & STREAM;
	check(socketpair(AF_UNIX, (peer.is_stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0,
			 end) == 0);
	check(net_device_new(&guest.dev, &guest.drv.mem, make_port(end[0]), mac, &guest.loop,
			     NULL) == 0);
	guest_start(take(3));
	while (input_left(&guest.in) && !drv_is_broken(&guest.drv) && commands++ < 64)
		command(end[1]);
	if (peer.is_stream)
		drain(end[1]);
	guest_end();
	close(end[1]);
	return 0;
}
