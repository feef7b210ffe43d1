// SPDX-License-Identifier: BSD-2-Clause
#include "net_fixture.h"

#include <linux/if_tun.h>

static void test_link(void **state)
{
	struct fixture *f = start(ALL);
	struct virtio_net_hdr_v1 plain = {0};
	uint8_t frame[100], got[200];
	gpa_t at;

	(void)state;
	assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
	drv_irqs(&f->d);
	net_set_link(f->dev, false);
	assert_int_equal(status(f), 0);
	assert_int_equal(drv_irqs(&f->d), 1);
	make_frame(frame, sizeof(frame), 1);
	guest_sends(f, &plain, frame, sizeof(frame));
	assert_int_equal(host_gets(f, got, sizeof(got), 20), -1);
	at = offer(f, 64, 1536);
	host_sends(f, 100, 1);
	host_sends(f, 100, 1);
	guest_sends(f, &plain, frame, sizeof(frame)); /* the loop has had a turn */
	assert_int_equal(counters(f).rx_packets, 0);
	net_set_link(f->dev, true);
	assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
	host_sends(f, 100, 2);
	guest_gets(f, at, 1536, 100, 2);
	end(f);
}

/* As `ip link delete` does. */
static void delete_interface(int index)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} message = {{sizeof(message), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
		     {.ifi_index = index}};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	char answer[256];

	assert_int_equal(send(fd, &message, sizeof(message), 0), sizeof(message));
	assert_true(recv(fd, answer, sizeof(answer), 0) > 0);
	close(fd);
}

static void test_a_tap_that_goes_away(void **state)
{
	struct fixture *f = start(ALL);
	struct virtio_net_hdr_v1 plain = {0};
	uint8_t frame[100];

	(void)state;
	offer(f, 64, 1536);
	make_frame(frame, sizeof(frame), 1);
	guest_sends(f, &plain, frame, sizeof(frame));
	drv_irqs(&f->d);
	delete_interface(f->index);
	guest_sends(f, &plain, frame, sizeof(frame));
	while (status(f))
		drv_wait_irq(&f->d);
	assert_int_equal(net_link(f->dev), false);
	for (int i = 0; i < 3; i++) /* what is sent all the same is dropped */
		guest_sends(f, &plain, frame, sizeof(frame));
	assert_false(is_broken(f));
	end(f);
}

static void test_control_queue(void **state)
{
	static const uint8_t other[NET_MAC_LEN] = {2, 9, 8, 7, 6, 5};
	struct fixture *f = start(ALL);
	uint64_t none = 0, too_much = ALL;
	uint8_t byte = 1;

	(void)state;
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 2);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6),
			 VIRTIO_NET_OK);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 0x07080902);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 5),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				 VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &none, 8),
			 VIRTIO_NET_OK);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				 VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &too_much, 8),
			 VIRTIO_NET_ERR);
	assert_int_equal(control(f, 2, 99, 99, &byte, 1), VIRTIO_NET_ERR);
	assert_false(is_broken(f));
	end(f);
}

static void test_several_queues(void **state)
{
	struct fixture *f = start_pairs(ALL, 2);
	uint16_t pairs[] = {1, 2, 0, 3};
	struct virtio_net_hdr_v1 plain = {0};
	uint8_t frame[100], got[200];
	gpa_t at = offer(f, 64, 1536);

	(void)state;
	/* The second pair gets nothing before the driver says so. */
	for (uint8_t i = 0; i < 16; i++) {
		host_sends(f, 100, i);
		guest_gets(f, GPA(at.v + i * 1536u), 1536, 100, i);
	}
	assert_int_equal(
		control(f, 4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs[1], 2),
		VIRTIO_NET_OK);
	for (unsigned i = 2; i < 4; i++)
		assert_int_equal(control(f, 4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
					 &pairs[i], 2),
				 VIRTIO_NET_ERR);
	make_frame(frame, sizeof(frame), 7);
	f->d.queue[1].drv = &f->d;
	guest_sends(f, &plain, frame, sizeof(frame));
	assert_int_equal(host_gets(f, got, sizeof(got), 10000), sizeof(frame));
	assert_int_equal(
		control(f, 4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs[0], 2),
		VIRTIO_NET_OK);
	end(f);
	/* And a driver that knows but one pair: its control queue is the third. */
	f = start_pairs(ALL & ~BIT(VIRTIO_NET_F_MQ), 2);
	assert_int_equal(control(f, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			 VIRTIO_NET_OK);
	end(f);
}

/* Saved while it holds receive buffers; the driver has two pairs and no offloads. */
static void test_another_device_goes_on(void **state)
{
	struct fixture *f = start_pairs(ALL, 2);
	static struct virtio_state saved;
	struct virtio_net_hdr_v1 plain = {0};
	uint8_t frame[100], got[200];
	uint16_t pairs = 2;
	uint64_t none = 0;
	struct error e = {""};
	gpa_t at = offer(f, 64, 1536);

	(void)state;
	host_sends(f, 100, 1);
	guest_gets(f, at, 1536, 100, 1);
	control(f, 4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2);
	control(f, 4, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &none, 8);
	net_set_link(f->dev, false);
	virtio_dev_pause(f->dev);
	if (virtio_dev_save(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	down(f);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(f);
	saved.own[8] = 3; /* pairs */
	assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), -EINVAL);
	saved.own[8] = 2;
	if (virtio_dev_restore(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(status(f), 0);
	net_set_link(f->dev, true);
	assert_int_equal(whole_status(f), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	control(f, 4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &(uint16_t){1}, 2);
	host_sends(f, 200, 2);
	guest_gets(f, GPA(at.v + 1536), 1536, 200, 2);
	make_frame(frame, sizeof(frame), 7);
	guest_sends(f, &plain, frame, sizeof(frame));
	assert_int_equal(host_gets(f, got, sizeof(got), 10000), sizeof(frame));
	end(f);
}

static void test_taps_that_cannot_be_had(void **state)
{
	struct fixture *f = start(ALL);
	struct net_port *port;
	struct error e;

	(void)state;
	assert_int_equal(net_tap_open(&port, "skep0", 1, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "in use"));
	assert_int_equal(net_tap_open(&port, "lo", 1, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "no tap"));
	assert_int_equal(net_tap_open(&port, "lo", 2, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "multi_queue"));
	end(f);
}

/* As it is made for several queues, which nobody needs to use. */
static void test_one_queue_of_a_tap_of_several(void **state)
{
	struct ifreq request = {.ifr_name = "skep2",
				.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
	int fd = open("/dev/net/tun", O_RDWR);
	struct net_port *port;
	struct error e = {""};

	(void)state;
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1ul) < 0)
		fail_msg("the tap: %s", strerror(errno));
	close(fd);
	if (net_tap_open(&port, "skep2", 1, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(port->pairs, 1);
	assert_int_equal(ioctl(port->fd[0], TUNSETPERSIST, 0ul), 0);
	net_port_close(port);
}

/* Where the host has none, packets go through skep. */
static void test_a_host_with_vhost_or_without(void **state)
{
	struct net_config config = {.tap = (char[]){"skep0"}, .queues = 1, .vhost = true};
	struct error e = {""};
	struct net_port *port;

	(void)state;
	assert_int_equal(net_port_open(&port, &config, &e), 0);
	assert_int_equal(port->vhost != NULL, access("/dev/vhost-net", R_OK | W_OK) == 0);
	net_port_close(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_a_tap_that_goes_away),
		cmocka_unit_test(test_control_queue),
		cmocka_unit_test(test_several_queues),
		cmocka_unit_test(test_another_device_goes_on),
		cmocka_unit_test(test_taps_that_cannot_be_had),
		cmocka_unit_test(test_one_queue_of_a_tap_of_several),
		cmocka_unit_test(test_a_host_with_vhost_or_without),
	};

	return NET_TESTS(tests);
}
