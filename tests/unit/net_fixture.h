// SPDX-License-Identifier: BSD-2-Clause
/* A network device on a tap in a network namespace of its own, at the host's end of which is a packet
 * socket. */
#ifndef SKEP_NET_FIXTURE_H
#define SKEP_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "driver.h"
#include "net/net.h"
#include "virtio/state.h"

#define ALL    UINT64_MAX
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define BIT(n) (1ull << (n))
#define TYPE   0x88b5 /* of Ethernet frames: for local experiments */

static const uint8_t mac[NET_MAC_LEN] = {2, 0, 0, 0, 0, 1};

struct fixture {
	struct drv d;
	struct loop *loop[2];
	unsigned num_loops;
	struct virtio_dev *dev;
	int host; /* packet socket at the tap */
	int index;
};

static inline void set_up_interface(struct fixture *f, const char *name)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct ifreq request = {.ifr_flags = IFF_UP};
	int large = 4 << 20;

	strcpy(request.ifr_name, name);
	f->host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(f->host >= 0);
	assert_int_equal(ioctl(f->host, SIOCSIFFLAGS, &request), 0);
	assert_int_equal(ioctl(f->host, SIOCGIFINDEX, &request), 0);
	addr.sll_ifindex = f->index = request.ifr_ifindex;
	assert_int_equal(bind(f->host, (struct sockaddr *)&addr, sizeof(addr)), 0);
	setsockopt(f->host, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
}

static inline void up_on(struct fixture *f, struct net_port *port)
{
	struct error e = {""};

	for (unsigned i = 0; i < f->num_loops; i++)
		assert_int_equal(loop_new(&f->loop[i], "test", LOOP_EPOLL, 8, NULL), 0);
	for (unsigned i = f->num_loops; i < port->pairs; i++)
		f->loop[i] = f->loop[0];
	assert_int_equal(net_device_new(&f->dev, &f->d.mem, port, mac, f->loop, &e), 0);
	drv_attach(&f->d, f->dev);
	for (unsigned i = 0; i < f->num_loops; i++)
		assert_int_equal(loop_start(f->loop[i], NULL, NULL, NULL), 0);
}

static inline void up(struct fixture *f)
{
	struct error e = {""};
	struct net_port *port;

	if (net_tap_open(&port, "skep0", f->num_loops, &e) < 0)
		fail_msg("%s", e.msg);
	set_up_interface(f, "skep0");
	up_on(f, port);
}

static inline void down(struct fixture *f)
{
	for (unsigned i = 0; i < f->num_loops; i++)
		loop_stop(f->loop[i]);
	virtio_dev_free(f->dev);
	for (unsigned i = 0; i < f->num_loops; i++)
		loop_free(f->loop[i]);
	if (f->host >= 0)
		close(f->host);
}

static inline struct fixture *start_pairs(uint64_t features, unsigned pairs)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->num_loops = pairs;
	drv_init(&f->d, 16 * MIB);
	up(f);
	drv_start(&f->d, features, 0);
	return f;
}

static inline struct fixture *start(uint64_t features)
{
	return start_pairs(features, 1);
}

/* A device on this port, of one pair. */
static inline struct fixture *start_on(struct net_port *port, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->num_loops = 1;
	f->host = -1;
	drv_init(&f->d, 16 * MIB);
	up_on(f, port);
	drv_start(&f->d, features, 0);
	return f;
}

static inline void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	down(f);
	drv_free(&f->d);
	free(f);
}

static inline struct net_counters counters(const struct fixture *f)
{
	struct net_counters c;

	net_counters(f->dev, &c);
	return c;
}

/* What the guest sees: VIRTIO_NET_S_LINK_UP and VIRTIO_NET_S_ANNOUNCE; the first alone. */
static inline uint16_t whole_status(struct fixture *f)
{
	return (uint16_t)(drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 4) >> 16);
}

static inline uint16_t status(struct fixture *f)
{
	return whole_status(f) & VIRTIO_NET_S_LINK_UP;
}

static inline bool is_broken(struct fixture *f)
{
	return drv_read32(&f->d, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* A frame of `len` bytes that no other is like. */
static inline void make_frame(uint8_t *frame, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed + i * 7 + i / 256);
	memset(frame, 2, 12);
	frame[12] = TYPE >> 8;
	frame[13] = TYPE & 0xff;
}

static inline void host_sends(struct fixture *f, size_t len, uint8_t seed)
{
	uint8_t frame[2048];

	make_frame(frame, len, seed);
	assert_int_equal(send(f->host, frame, len, 0), len);
}

/* What the host's end gets next of our type, its length; -1: nothing comes. */
static inline ssize_t host_gets(struct fixture *f, uint8_t *frame, size_t max, int ms)
{
	struct pollfd p = {.fd = f->host, .events = POLLIN};
	struct sockaddr_ll from;
	socklen_t len = sizeof(from);

	while (poll(&p, 1, ms) == 1) {
		ssize_t n = recvfrom(f->host, frame, max, 0, (struct sockaddr *)&from, &len);

		if (n >= 14 && from.sll_pkttype != PACKET_OUTGOING)
			return n;
	}
	return -1;
}

/* Offers `num` receive buffers of `len` bytes; the address of the first. */
static inline gpa_t offer(struct fixture *f, unsigned num, uint32_t len)
{
	gpa_t first = drv_alloc(&f->d, (size_t)num * len, 1);

	for (unsigned i = 0; i < num; i++)
		assert_true(drv_add(&f->d.queue[0],
				    &(struct drv_buf){GPA(first.v + i * len), len, true}, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[0]);
	return first;
}

/* The guest gets a frame like that: in how many buffers of `size` bytes, from `at` on. */
static inline unsigned guest_gets(struct fixture *f, gpa_t at, uint32_t size, size_t len,
				  uint8_t seed)
{
	struct virtio_net_hdr_v1 *header = drv_ptr(&f->d, at, sizeof(*header));
	uint8_t want[2048], got[4096];
	size_t have = 0;
	unsigned n = 0;

	make_frame(want, len, seed);
	do {
		uint32_t id, used;

		drv_wait_used(&f->d.queue[0], &id, &used);
		assert_in_range(used, 1, size);
		memcpy(got + have, drv_ptr(&f->d, GPA(at.v + n * size), used), used);
		have += used;
		n++;
	} while (n < header->num_buffers);
	assert_int_equal(have, HEADER + len);
	assert_memory_equal(got + HEADER, want, len);
	return n;
}

/* Sends a packet in two buffers, and waits until it is used. */
static inline void guest_sends(struct fixture *f, const void *header, const uint8_t *frame,
			       uint32_t len)
{
	struct drv_buf bufs[2] = {{drv_alloc(&f->d, HEADER, 1), HEADER, false},
				  {drv_alloc(&f->d, len, 1), len, false}};
	uint32_t id, used;

	memcpy(drv_ptr(&f->d, bufs[0].addr, HEADER), header, HEADER);
	memcpy(drv_ptr(&f->d, bufs[1].addr, len), frame, len);
	assert_true(drv_add(&f->d.queue[1], bufs, 2) >= 0);
	drv_kick_if_needed(&f->d.queue[1]);
	drv_wait_used(&f->d.queue[1], &id, &used);
	assert_int_equal(used, 0);
}

/* Carries a command out on the control queue `q`: its ack. */
static inline uint8_t control(struct fixture *f, unsigned q, uint8_t class, uint8_t cmd,
			      const void *data, uint32_t len)
{
	struct drv_buf bufs[3] = {{drv_alloc(&f->d, 2, 1), 2, false},
				  {drv_alloc(&f->d, len + 1, 8), len, false},
				  {drv_alloc(&f->d, 1, 1), 1, true}};
	uint8_t *ack = drv_ptr(&f->d, bufs[2].addr, 1);
	uint32_t id, used;

	memcpy(drv_ptr(&f->d, bufs[0].addr, 2), (uint8_t[]){class, cmd}, 2);
	memcpy(drv_ptr(&f->d, bufs[1].addr, len), data, len);
	*ack = 0x55;
	assert_true(drv_add(&f->d.queue[q], bufs, 3) >= 0);
	drv_kick_if_needed(&f->d.queue[q]);
	drv_wait_used(&f->d.queue[q], &id, &used);
	return *ack;
}

static inline bool has_taps(void)
{
	int fd;

	if (access("/dev/net/tun", R_OK | W_OK) < 0 || unshare(CLONE_NEWNET) < 0)
		return false;
	/* No packets but those of the test. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
	if (fd >= 0) {
		(void)!write(fd, "1", 1);
		close(fd);
	}
	return true;
}

#define NET_TESTS(tests)                                                                           \
	({                                                                                         \
		log_set_level(LOG_ERROR);                                                          \
		if (!has_taps()) {                                                                 \
			printf("1..0 # SKIP needs /dev/net/tun and a network namespace (root)\n"); \
			return 0;                                                                  \
		}                                                                                  \
		cmocka_run_group_tests(tests, NULL, NULL);                                         \
	})

#endif
