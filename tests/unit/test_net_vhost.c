// SPDX-License-Identifier: BSD-2-Clause
/* A network device whose packets the host's kernel moves, where it has vhost-net (the lab's has). */
#include "net/vhost.h"
#include "net_fixture.h"

static const struct virtio_net_hdr_v1 plain;

static void vhost_up(struct fixture *f, unsigned pairs)
{
	struct net_config config = {.tap = (char[]){"skep0"}, .queues = pairs, .vhost = true};
	struct error e = {""};
	struct net_port *port;

	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	assert_non_null(port->vhost);
	set_up_interface(f, "skep0");
	up_on(f, port);
}

static struct fixture *start_vhost(uint64_t features, unsigned pairs)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->num_loops = 1;
	drv_init(&f->d, 16 * MIB);
	vhost_up(f, pairs);
	drv_start(&f->d, features, 0);
	return f;
}

static void both_ways(struct fixture *f, gpa_t *at, unsigned num, uint8_t seed)
{
	uint8_t frame[2048], got[2048];

	for (unsigned i = 0; i < num; i++, at->v += 1536) {
		uint8_t s = (uint8_t)(seed + i);

		host_sends(f, 100 + i, s);
		guest_gets(f, *at, 1536, 100 + i, s);
		make_frame(frame, 200 + i, s);
		guest_sends(f, &plain, frame, 200 + i);
		assert_int_equal(host_gets(f, got, sizeof(got), -1), 200 + i);
		assert_memory_equal(got, frame, 200 + i);
	}
}

static void test_packets_both_ways(void **state)
{
	(void)state;
	for (int merge = 0; merge < 2; merge++) {
		struct fixture *f =
			start_vhost(merge ? ALL : ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF), 1);
		gpa_t at = offer(f, 200, 1536);

		both_ways(f, &at, 150, 1);
		assert_int_equal(counters(f).rx_packets, -1);
		assert_false(is_broken(f));
		end(f);
	}
}

/* Buffers are the guest's again after a reset: nothing is written there. */
static void test_reset_with_buffers(void **state)
{
	struct fixture *f = start_vhost(ALL, 1);

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		gpa_t at = offer(f, 64, 1536), rest = {at.v + 4 * 1536};

		memset(drv_ptr(&f->d, at, 64 * 1536), 0x5a, 64 * 1536);
		both_ways(f, &at, 4, (uint8_t)i);
		drv_start(&f->d, ALL, 0);
		host_sends(f, 100, 3);
		at = offer(f, 4, 1536);
		guest_gets(f, at, 1536, 100, 3);
		assert_int_equal(*(uint8_t *)drv_ptr(&f->d, rest, 1), 0x5a);
		drv_start(&f->d, ALL, 0);
	}
	end(f);
}

/* The used-buffer bit stays, whatever the driver acknowledges; that of the configuration does not. */
static void test_the_interrupt_status(void **state)
{
	struct fixture *f = start_vhost(ALL, 1);
	gpa_t at = offer(f, 64, 1536);

	(void)state;
	both_ways(f, &at, 1, 1);
	net_set_link(f->dev, false);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS),
			 VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	drv_write32(&f->d, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	end(f);
}

static void test_the_plug(void **state)
{
	struct fixture *f = start_vhost(ALL, 1);
	gpa_t at = offer(f, 64, 1536);
	uint8_t frame[100], got[200];

	(void)state;
	make_frame(frame, sizeof(frame), 9);
	for (uint8_t i = 0; i < 4; i++) {
		both_ways(f, &at, 5, i);
		net_set_link(f->dev, false);
		assert_int_equal(status(f), 0);
		guest_sends(f, &plain, frame, sizeof(frame)); /* is dropped */
		assert_int_equal(host_gets(f, got, sizeof(got), 20), -1);
		net_set_link(f->dev, true);
		assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
	}
	end(f);
}

static void test_a_tap_that_goes_away(void **state)
{
	struct fixture *f = start_vhost(ALL, 1);
	gpa_t at = offer(f, 64, 1536);
	uint8_t frame[100];

	(void)state;
	both_ways(f, &at, 2, 1);
	assert_int_equal(system("ip link delete skep0"), 0);
	while (status(f))
		drv_wait_irq(&f->d);
	assert_false(net_link(f->dev));
	make_frame(frame, sizeof(frame), 1);
	for (unsigned i = 0; i < 3; i++)
		guest_sends(f, &plain, frame, sizeof(frame));
	assert_false(is_broken(f));
	end(f);
}

static void test_broken_drivers(void **state)
{
	(void)state;
	for (unsigned q = 0; q < 2; q++) {
		struct fixture *f = start_vhost(ALL, 1);
		gpa_t at = offer(f, q ? 32 : 0, 1536);
		struct drv_buf outside = {GPA(64 * MIB), 2048, q == 0};

		if (q)
			both_ways(f, &at, 2, 1);
		assert_true(drv_add(&f->d.queue[q], &outside, 1) >= 0);
		drv_kick(&f->d.queue[q]);
		if (q == 0)
			host_sends(f, 100, 1);
		while (!is_broken(f))
			usleep(1000);
		drv_start(&f->d, ALL, 0);
		at = offer(f, 64, 1536);
		if (q == 0) { /* it was not lost */
			guest_gets(f, at, 1536, 100, 1);
			at.v += 1536;
		}
		both_ways(f, &at, 5, 9);
		end(f);
	}
}

/* Where the kernel got to is in the state: no packet comes twice, and none is lost. */
static void test_another_device_goes_on(void **state)
{
	static struct virtio_state saved;
	struct fixture *f = start_vhost(ALL, 1);
	gpa_t at = offer(f, 200, 1536);
	struct error e = {""};

	(void)state;
	for (uint8_t i = 0; i < 5; i++) {
		both_ways(f, &at, 7, i);
		virtio_dev_pause(f->dev);
		if (i % 2) {
			virtio_dev_resume(f->dev);
			continue;
		}
		if (virtio_dev_save(f->dev, &saved, &e) < 0)
			fail_msg("%s", e.msg);
		assert_int_equal(saved.queue[0].next_avail, 7 * (i + 1));
		assert_int_equal(saved.queue[1].next_used, 7 * (i + 1));
		down(f);
		memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
		vhost_up(f, 1);
		if (virtio_dev_restore(f->dev, &saved, &e) < 0)
			fail_msg("%s", e.msg);
	}
	both_ways(f, &at, 7, 9);
	end(f);
}

static void test_several_queues(void **state)
{
	struct fixture *f = start_vhost(ALL, 2);
	gpa_t at = offer(f, 200, 1536);
	struct drv_buf bufs[3] = {{drv_alloc(&f->d, 2, 1), 2, false},
				  {drv_alloc(&f->d, 2, 2), 2, false},
				  {drv_alloc(&f->d, 1, 1), 1, true}};
	uint8_t frame[100], got[200];
	uint32_t id, used;

	(void)state;
	both_ways(f, &at, 5, 1);
	memcpy(drv_ptr(&f->d, bufs[0].addr, 2),
	       (uint8_t[]){VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET}, 2);
	for (uint16_t round = 0; round < 6; round++) {
		uint16_t pairs = (uint16_t)(2 - round % 2);

		memcpy(drv_ptr(&f->d, bufs[1].addr, 2), &pairs, 2);
		assert_true(drv_add(&f->d.queue[4], bufs, 3) >= 0);
		drv_kick_if_needed(&f->d.queue[4]);
		drv_wait_used(&f->d.queue[4], &id, &used);
		assert_int_equal(*(uint8_t *)drv_ptr(&f->d, bufs[2].addr, 1), VIRTIO_NET_OK);
		if (pairs == 1)
			both_ways(f, &at, 5, 1);
		make_frame(frame, sizeof(frame), 7);
		guest_sends(f, &plain, frame, sizeof(frame));
		assert_int_equal(host_gets(f, got, sizeof(got), -1), sizeof(frame));
	}
	assert_false(is_broken(f));
	end(f);
}

static void test_hotplug_memory(void **state)
{
	struct net_config config = {.tap = (char[]){"skep0"}, .queues = 1, .vhost = true};
	struct gmem mem = {.num_regions = 0};
	struct error e = {""};
	struct net_port *port;

	(void)state;
	assert_int_equal(net_port_open(&port, &config, &e), 0);
	net_vhost_check_memory(port, &mem);
	assert_non_null(port->vhost);
	mem.hotplug.size = GIB;
	net_vhost_check_memory(port, &mem);
	assert_null(port->vhost);
	net_port_close(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets_both_ways),
		cmocka_unit_test(test_reset_with_buffers),
		cmocka_unit_test(test_the_interrupt_status),
		cmocka_unit_test(test_the_plug),
		cmocka_unit_test(test_a_tap_that_goes_away),
		cmocka_unit_test(test_broken_drivers),
		cmocka_unit_test(test_another_device_goes_on),
		cmocka_unit_test(test_several_queues),
		cmocka_unit_test(test_hotplug_memory),
	};

	if (access(NET_VHOST_PATH, R_OK | W_OK) < 0) {
		printf("1..0 # SKIP needs " NET_VHOST_PATH "\n");
		return 0;
	}
	return NET_TESTS(tests);
}
