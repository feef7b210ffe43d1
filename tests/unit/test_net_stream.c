// SPDX-License-Identifier: BSD-2-Clause
/* A network device on a stream of frames: its peer is the other end of a pair of sockets. */
#include "net_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/un.h>

#include "base/unixsocket.h"

#define MTU 1500u
#define LEN sizeof(uint32_t)

static const struct virtio_net_hdr_v1 plain;

static struct fixture *start_stream(uint64_t features)
{
	struct net_port *port;
	struct fixture *f;
	int both[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), 0);
	assert_true(fcntl(both[0], F_SETFL, O_NONBLOCK) == 0);
	assert_int_equal(net_stream_new(&port, both[0], -1, "test", MTU, NULL), 0);
	f = start_on(port, features);
	f->host = both[1];
	return f;
}

static void put(int fd, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)data + done, len - done);

		assert_true(n > 0);
		done += (size_t)n;
	}
}

static void get(int fd, void *data, size_t len)
{
	assert_int_equal(recv(fd, data, len, MSG_WAITALL), len);
}

/* A frame as make_frame() makes it, with its length. */
static size_t pack(uint8_t *ret, size_t len, uint8_t seed)
{
	uint32_t be = htonl((uint32_t)len);

	memcpy(ret, &be, LEN);
	make_frame(ret + LEN, len, seed);
	return LEN + len;
}

static void peer_sends(int fd, size_t len, uint8_t seed)
{
	uint8_t packed[LEN + 70000];

	put(fd, packed, pack(packed, len, seed));
}

static void peer_gets(int fd, size_t len, uint8_t seed)
{
	uint8_t want[LEN + 70000], got[LEN + 70000];
	size_t n = pack(want, len, seed);

	get(fd, got, n);
	assert_memory_equal(got, want, n);
}

/* The same, after frames of fill_up(). */
static void peer_gets_in_the_end(int fd, size_t len, uint8_t seed)
{
	uint32_t be;

	while (recv(fd, &be, LEN, MSG_PEEK | MSG_WAITALL) == LEN && ntohl(be) == 60000)
		peer_gets(fd, 60000, 3);
	peer_gets(fd, len, seed);
}

static void guest_sends_frame(struct fixture *f, uint32_t len, uint8_t seed)
{
	uint8_t frame[70000];

	make_frame(frame, len, seed);
	guest_sends(f, &plain, frame, len);
}

static void test_features(void **state)
{
	struct fixture *f = start_stream(ALL);
	uint64_t offered = drv_device_features(&f->d);

	(void)state;
	for (unsigned bit = VIRTIO_NET_F_GUEST_TSO4; bit <= VIRTIO_NET_F_HOST_UFO; bit++)
		assert_false(offered & BIT(bit));
	assert_false(offered & (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
				BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_MQ)));
	assert_true(offered & BIT(VIRTIO_NET_F_MTU) && offered & BIT(VIRTIO_NET_F_MRG_RXBUF));
	end(f);
}

/* One at a time, all at once, and byte by byte. */
static void test_frames_to_the_guest(void **state)
{
	(void)state;
	for (int merge = 0; merge < 2; merge++) {
		struct fixture *f = start_stream(merge ? ALL : ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
		gpa_t at = offer(f, 96, 1600);
		uint8_t packed[LEN + 2000], many[40000];
		size_t len = 0;
		uint8_t i = 0;

		for (; i < 10; i++) {
			peer_sends(f->host, 60 + i * 100u, i);
			guest_gets(f, GPA(at.v + i * 1600u), 1600, 60 + i * 100u, i);
		}
		for (; i < 40; i++)
			len += pack(many + len, 200 + i * 20u, i);
		put(f->host, many, len);
		for (i = 10; i < 40; i++)
			guest_gets(f, GPA(at.v + i * 1600u), 1600, 200 + i * 20u, i);
		len = pack(packed, 400, i);
		for (size_t n = 0; n < len; n++)
			put(f->host, packed + n, 1);
		guest_gets(f, GPA(at.v + i * 1600u), 1600, 400, i);
		assert_int_equal(counters(f).rx_packets, 41);
		assert_int_equal(counters(f).rx_dropped, 0);
		end(f);
	}
}

/* Two frames came with one read; the guest has a buffer for the first only, and gets the second
 * though nothing more comes. */
static void test_frames_that_were_read_before_there_were_buffers(void **state)
{
	struct fixture *f = start_stream(ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
	uint8_t many[4000];
	size_t len = 0;
	gpa_t at;

	(void)state;
	for (uint8_t i = 0; i < 3; i++)
		len += pack(many + len, 1000, i);
	put(f->host, many, len);
	for (uint8_t i = 0; i < 3; i++) {
		at = offer(f, 1, 1600);
		guest_gets(f, at, 1600, 1000, i);
	}
	end(f);
}

/* More than a turn's worth of frames came with one read. */
static void test_many_small_frames(void **state)
{
	struct fixture *f = start_stream(ALL);
	uint8_t many[200 * (LEN + 14)], header[14];
	struct virtio_net_hdr_v1 *got;
	size_t len = 0;

	(void)state;
	make_frame(header, sizeof(header), 5);
	for (unsigned i = 0; i < 200; i++)
		len += pack(many + len, 14, 5);
	for (unsigned round = 0; round < 20; round++) {
		gpa_t at = offer(f, 200, 64);

		put(f->host, many, len);
		for (unsigned i = 0; i < 200; i++) {
			uint32_t id, used;

			drv_wait_used(&f->d.queue[0], &id, &used);
			assert_int_equal(used, HEADER + 14);
			got = drv_ptr(&f->d, GPA(at.v + i * 64), used);
			assert_memory_equal(got + 1, header, 14);
		}
	}
	assert_int_equal(counters(f).rx_packets, 4000);
	end(f);
}

/* Too large for the guest's MTU, for all buffers, or no frames at all: they are dropped, others not. */
static void test_frames_that_do_not_fit(void **state)
{
	(void)state;
	for (int merge = 0; merge < 2; merge++) {
		struct fixture *f = start_stream(merge ? ALL : ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
		gpa_t at = offer(f, 4, 1600);

		peer_sends(f->host, 14 + 4 + MTU + 1, 1);
		peer_sends(f->host, 65554, 1);
		peer_sends(f->host, 0, 1);
		peer_sends(f->host, 13, 1);
		peer_sends(f->host, 100, 2);
		guest_gets(f, at, 1600, 100, 2);
		peer_sends(f->host, 14 + 4 + MTU, 3);
		guest_gets(f, GPA(at.v + 1600), 1600, 14 + 4 + MTU, 3);
		assert_int_equal(counters(f).rx_dropped, 4);
		assert_int_equal(counters(f).rx_packets, 2);
		assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
		end(f);
	}
}

static void await_link(struct fixture *f, uint16_t want)
{
	while (status(f) != want)
		drv_wait_irq(&f->d);
}

/* Nobody knows where the next frame begins: that is the end of the connection. */
static void test_a_length_that_no_frame_has(void **state)
{
	static const uint32_t wrong[] = {65555, 1u << 24, UINT32_MAX};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct fixture *f = start_stream(ALL);
		uint32_t be = htonl(wrong[i]);

		offer(f, 64, 1600);
		put(f->host, &be, LEN);
		await_link(f, 0);
		guest_sends_frame(f, 100, 1); /* is dropped */
		assert_int_equal(counters(f).tx_dropped, 1);
		assert_false(is_broken(f));
		end(f);
	}
}

static void test_the_other_end_goes_away(void **state)
{
	(void)state;
	for (int while_sending = 0; while_sending < 2; while_sending++) {
		struct fixture *f = start_stream(ALL);

		if (!while_sending)
			offer(f, 64, 1600);
		peer_sends(f->host, 100, 1);
		close(f->host);
		f->host = -1;
		if (while_sending)
			guest_sends_frame(f, 100, 1);
		await_link(f, 0);
		assert_false(net_link(f->dev));
		for (unsigned i = 0; i < 3; i++)
			guest_sends_frame(f, 100, 1);
		assert_false(is_broken(f));
		end(f);
	}
}

static void test_frames_from_the_guest(void **state)
{
	struct fixture *f = start_stream(ALL);
	struct virtio_net_hdr_v1 partial = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					    .csum_start = 34,
					    .csum_offset = 16},
				 large = {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1460};
	uint8_t frame[100];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		guest_sends_frame(f, 60 + i * 4, (uint8_t)i);
		peer_gets(f->host, 60 + i * 4, (uint8_t)i);
	}
	guest_sends_frame(f, 65554, 7);
	peer_gets(f->host, 65554, 7);
	assert_int_equal(counters(f).tx_packets, 301);
	/* What is not whole, too short or too long. */
	make_frame(frame, sizeof(frame), 1);
	guest_sends(f, &partial, frame, sizeof(frame));
	guest_sends(f, &large, frame, sizeof(frame));
	guest_sends_frame(f, 13, 1);
	guest_sends_frame(f, 65555, 1);
	assert_int_equal(counters(f).tx_dropped, 4);
	guest_sends_frame(f, 100, 9);
	peer_gets(f->host, 100, 9);
	assert_false(is_broken(f));
	end(f);
}

/* Frames of which byte 20 is 1 are not to be sent. */
static bool refuses(const uint8_t *start, size_t len)
{
	return len > 20 && start[20] == 1;
}

static _Atomic bool stop;
/* Another vCPU, which TSan cannot know. */
__attribute__((no_sanitize("thread"))) static void *flip(void *byte)
{
	while (!stop)
		*(volatile uint8_t *)byte ^= 1;
	return NULL;
}

/* What was looked at is what is sent, though another vCPU changes it meanwhile. */
static void test_frames_that_are_refused(void **state)
{
	struct net_port *port;
	struct drv_buf buf;
	struct fixture *f;
	pthread_t flipper;
	uint8_t *data;
	unsigned sent = 0;
	int both[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), 0);
	assert_int_equal(net_stream_new(&port, both[0], -1, "test", MTU, NULL), 0);
	port->refuses = refuses;
	f = start_on(port, ALL);
	f->host = both[1];
	buf = (struct drv_buf){drv_alloc(&f->d, HEADER + 100, 1), HEADER + 100, false};
	data = drv_ptr(&f->d, buf.addr, buf.len);
	memset(data, 0, buf.len);
	while (sent < 100 || counters(f).tx_dropped < 100) {
		uint8_t got[LEN + 100];
		uint32_t id, used;

		stop = false;
		pthread_create(&flipper, NULL, flip, data + HEADER + 20);
		assert_true(drv_add(&f->d.queue[1], &buf, 1) >= 0);
		drv_kick_if_needed(&f->d.queue[1]);
		drv_wait_used(&f->d.queue[1], &id, &used);
		stop = true;
		pthread_join(flipper, NULL);
		for (; sent < counters(f).tx_packets; sent++) {
			get(f->host, got, sizeof(got));
			assert_int_equal(got[LEN + 20], 0);
		}
	}
	end(f);
}

/* Posts frames of 60,000 bytes until the socket is full; how many. */
static unsigned fill_up(struct fixture *f)
{
	struct drv_buf buf = {drv_alloc(&f->d, HEADER + 60000, 1), HEADER + 60000, false};
	uint8_t *data = drv_ptr(&f->d, buf.addr, buf.len);
	unsigned num = 0;

	memset(data, 0, HEADER);
	make_frame(data + HEADER, 60000, 3);
	for (; num < 64; num++)
		assert_true(drv_add(&f->d.queue[1], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[1]);
	while (!counters(f).tx_packets)
		usleep(1000);
	return num;
}

/* Nothing is lost: what waits for room is sent when there is some. */
static void test_a_peer_that_is_slow(void **state)
{
	struct fixture *f = start_stream(ALL);
	unsigned num = fill_up(f);

	(void)state;
	assert_true(counters(f).tx_packets < num);
	for (unsigned i = 0; i < num; i++) {
		uint32_t id, used;

		peer_gets(f->host, 60000, 3);
		drv_wait_used(&f->d.queue[1], &id, &used);
	}
	assert_int_equal(counters(f).tx_packets, num);
	assert_int_equal(counters(f).tx_dropped, 0);
	end(f);
}

/* A frame of which a part has left goes on: else the peer would take what follows for the rest. */
static void test_reset_in_the_middle_of_a_frame(void **state)
{
	struct fixture *f = start_stream(ALL);
	int64_t sent;

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		sent = counters(f).tx_packets;
		fill_up(f);
		drv_start(&f->d, ALL, 0);
		sent = counters(f).tx_packets - sent;
		for (int64_t i = 0; i < sent; i++)
			peer_gets(f->host, 60000, 3);
		guest_sends_frame(f, 100, 4);
		peer_gets(f->host, 100, 4);
	}
	end(f);
}

/* The rest of a frame comes without the driver's help, which may never come again. */
static void test_the_rest_of_a_frame_without_a_driver(void **state)
{
	struct fixture *f = start_stream(ALL);

	(void)state;
	fill_up(f);
	drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
	for (int64_t i = counters(f).tx_packets; i; i--)
		peer_gets(f->host, 60000, 3);
	end(f);
}

/* Listening */

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void expect_end(int fd)
{
	char byte;

	assert_true(read(fd, &byte, 1) <= 0);
	close(fd);
}

static void test_a_socket_that_listens(void **state)
{
	char dir[] = "/tmp/skep-net.XXXXXX", path[64];
	struct net_config config = {.socket = path, .listen = true, .queues = 1};
	struct net_port *port;
	struct error e = {""};
	struct fixture *f;
	gpa_t at;
	int peer;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	f = start_on(port, ALL);
	at = offer(f, 64, 1600);
	assert_int_equal(status(f), 0);
	guest_sends_frame(f, 100, 1);
	assert_int_equal(counters(f).tx_dropped, 1);
	for (uint8_t i = 0; i < 4; i++) {
		peer = connect_to(path);
		await_link(f, VIRTIO_NET_S_LINK_UP);
		peer_sends(peer, 100, i);
		guest_gets(f, GPA(at.v + i * 1600u), 1600, 100, i);
		expect_end(connect_to(path)); /* one at a time */
		guest_sends_frame(f, 200, i);
		peer_gets_in_the_end(peer, 200, i);
		put(peer, "abc", 3); /* half a length goes with the connection */
		if (i == 2)
			fill_up(f); /* and so does what waits to be sent */
		close(peer);
		await_link(f, 0);
	}
	end(f);
	unlink(path);
	rmdir(dir);
}

static int listen_at(const char *path)
{
	struct error e = {""};
	int fd = unix_listen(path, 8, &e);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	return fd;
}

/* The other end goes in the middle of a frame, from one peer to the next, and with its socket. */
static void test_a_connection_that_comes_back(void **state)
{
	char dir[] = "/tmp/skep-net.XXXXXX", path[64];
	struct net_config config = {.socket = path, .queues = 1};
	struct net_port *port;
	struct error e = {""};
	struct fixture *f;
	int listener, peer;
	gpa_t at;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	assert_int_equal(net_port_open(&port, &config, &e), -ENOENT);
	listener = listen_at(path);
	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	f = start_on(port, ALL);
	at = offer(f, 64, 1600);
	for (uint8_t i = 0; i < 4; i++) {
		peer = accept(listener, NULL, NULL);
		await_link(f, VIRTIO_NET_S_LINK_UP);
		peer_sends(peer, 100, i);
		guest_gets(f, GPA(at.v + i * 1600u), 1600, 100, i);
		guest_sends_frame(f, 200, i);
		peer_gets_in_the_end(peer, 200, i);
		put(peer, "abc", 3);
		if (i == 1)
			fill_up(f);
		if (i == 2)
			close(listener);
		close(peer);
		await_link(f, 0);
		guest_sends_frame(f, 100, 1); /* is dropped */
		if (i == 2)
			listener = listen_at(path);
	}
	end(f);
	close(listener);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_frames_to_the_guest),
		cmocka_unit_test(test_frames_that_were_read_before_there_were_buffers),
		cmocka_unit_test(test_many_small_frames),
		cmocka_unit_test(test_frames_that_do_not_fit),
		cmocka_unit_test(test_a_length_that_no_frame_has),
		cmocka_unit_test(test_the_other_end_goes_away),
		cmocka_unit_test(test_frames_from_the_guest),
		cmocka_unit_test(test_frames_that_are_refused),
		cmocka_unit_test(test_a_peer_that_is_slow),
		cmocka_unit_test(test_reset_in_the_middle_of_a_frame),
		cmocka_unit_test(test_the_rest_of_a_frame_without_a_driver),
		cmocka_unit_test(test_a_socket_that_listens),
		cmocka_unit_test(test_a_connection_that_comes_back),
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
