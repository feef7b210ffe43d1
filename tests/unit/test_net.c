// SPDX-License-Identifier: BSD-2-Clause
#include "net_fixture.h"

static void test_packets_to_the_guest(void **state)
{
	(void)state;
	for (int merge = 0; merge < 2; merge++) {
		struct fixture *f = start(merge ? ALL : ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
		uint32_t size = merge ? 1536 : 65562 + HEADER;
		gpa_t at = offer(f, merge ? 64 : 8, size);

		for (unsigned i = 0; i < 6; i++) {
			size_t len = i % 2 ? 60 : 1514;

			host_sends(f, len, (uint8_t)i);
			assert_int_equal(guest_gets(f, GPA(at.v + i * size), size, len, (uint8_t)i),
					 1);
		}
		assert_int_equal(counters(f).rx_packets, 6);
		assert_int_equal(counters(f).rx_bytes, 3 * (60 + 1514));
		assert_int_equal(counters(f).rx_dropped, 0);
		end(f);
	}
}

static void test_a_packet_in_many_buffers(void **state)
{
	struct fixture *f = start(ALL);
	gpa_t at = offer(f, 128, 100);

	(void)state;
	host_sends(f, 1514, 1);
	assert_int_equal(guest_gets(f, at, 100, 1514, 1), 16);
	host_sends(f, 70, 2);
	assert_int_equal(guest_gets(f, GPA(at.v + 1600), 100, 70, 2), 1);
	end(f);
}

/* All that the guest has is too little: that packet is lost, and the next one is not. */
static void test_a_packet_that_does_not_fit(void **state)
{
	(void)state;
	for (int merge = 0; merge < 2; merge++) {
		struct fixture *f = start(merge ? ALL : ALL & ~BIT(VIRTIO_NET_F_MRG_RXBUF));
		gpa_t at = offer(f, 4, 200);

		host_sends(f, 1514, 1);
		host_sends(f, 100, 2);
		assert_int_equal(guest_gets(f, at, 200, 100, 2), 1);
		assert_int_equal(counters(f).rx_dropped, 1);
		end(f);
	}
}

/* So tiny that all there is place for is too little: it does not wait for more of them. */
static void test_a_packet_and_buffers_of_no_use(void **state)
{
	struct fixture *f = start(ALL);
	struct drv_buf tiny[32];
	gpa_t at = drv_alloc(&f->d, 32, 1);

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		tiny[i] = (struct drv_buf){at, 1, true};
	for (unsigned i = 0; i < 64; i++)
		assert_true(drv_add_indirect(&f->d.queue[0], tiny, 32) >= 0);
	host_sends(f, 1514, 1);
	drv_kick_if_needed(&f->d.queue[0]);
	while (!counters(f).rx_dropped)
		usleep(1000);
	assert_int_equal(counters(f).rx_packets, 0);
	end(f);
}

static void test_a_packet_that_waits_for_its_last_buffer(void **state)
{
	struct fixture *f = start(ALL);
	gpa_t at = drv_alloc(&f->d, 32 * 100, 1);

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		if (i == 15)
			host_sends(f, 1514, 1);
		assert_true(drv_add(&f->d.queue[0],
				    &(struct drv_buf){GPA(at.v + i * 100), 100, true}, 1) >= 0);
		drv_kick_if_needed(&f->d.queue[0]);
	}
	/* On a busy machine it may have waited too long; the next one does not wait. */
	while (!counters(f).rx_packets && !counters(f).rx_dropped)
		usleep(1000);
	if (counters(f).rx_dropped)
		host_sends(f, 1514, 1);
	assert_int_equal(guest_gets(f, at, 100, 1514, 1), 16);
	end(f);
}

static void test_packets_wait_for_buffers(void **state)
{
	struct fixture *f = start(ALL);
	gpa_t at;

	(void)state;
	host_sends(f, 1000, 1);
	host_sends(f, 500, 2);
	assert_int_equal(counters(f).rx_packets, 0);
	at = offer(f, 2, 1536);
	guest_gets(f, at, 1536, 1000, 1);
	guest_gets(f, GPA(at.v + 1536), 1536, 500, 2);
	host_sends(f, 600, 3);
	at = offer(f, 1, 700);
	guest_gets(f, at, 700, 600, 3);
	end(f);
}

/* Buffers are the guest's again after a reset: nothing is written there. */
static void test_reset_with_buffers(void **state)
{
	struct fixture *f = start(ALL);
	gpa_t at = offer(f, 64, 1536), next;

	(void)state;
	host_sends(f, 100, 1);
	guest_gets(f, at, 1536, 100, 1);
	for (int i = 0; i < 20; i++) {
		drv_start(&f->d, ALL, 0);
		memset(drv_ptr(&f->d, at, 64 * 1536), 0x5a, 64 * 1536);
		next = offer(f, 64, 1536);
		host_sends(f, 200, 2);
		guest_gets(f, next, 1536, 200, 2);
		assert_int_equal(*(uint8_t *)drv_ptr(&f->d, GPA(at.v + 1536), 1), 0x5a);
		at = next;
	}
	end(f);
}

static void test_packets_from_the_guest(void **state)
{
	struct fixture *f = start(ALL);
	struct virtio_net_hdr_v1 plain = {0}, wrong = {.gso_type = 0x7f, .gso_size = 1};
	uint8_t frame[2048], got[4096];

	(void)state;
	for (unsigned i = 0; i < 300; i++) { /* more than the queue is long */
		uint32_t len = 60 + i * 4;

		make_frame(frame, len, (uint8_t)i);
		guest_sends(f, &plain, frame, len);
		assert_int_equal(host_gets(f, got, sizeof(got), 10000), len);
		assert_memory_equal(got, frame, len);
	}
	assert_int_equal(counters(f).tx_packets, 300);
	guest_sends(f, &wrong, frame, 100);
	assert_int_equal(counters(f).tx_dropped, 1);
	assert_int_equal(counters(f).tx_packets, 300);
	assert_false(is_broken(f));
	end(f);
}

/* 32 KiB of TCP in one packet: the host's stack gets it whole, as the header says what it is. */
static void test_segmentation_is_left_to_the_host(void **state)
{
	static const uint8_t start_of_tcp[54] = {2,    0,    0,	   0,	 0, 2,	2, 0, 0,  0, 0,
						 1,    8,    0, /* Ethernet */
						 0x45, 0,    0x80, 0x28, 0, 1,	0, 0, 64, 6, 0,
						 0,    10,   0,	   0,	 1, 10, 0, 0, 2, /* IPv4 */
						 0,    80,   0,	   81,	 0, 0,	0, 1, 0,  0, 0,
						 0,    0x50, 0x10, 1,	 0, 0,	0, 0, 0};
	struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					   .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					   .hdr_len = 54,
					   .gso_size = 1460,
					   .csum_start = 34,
					   .csum_offset = 16};
	struct fixture *f = start(ALL);
	uint32_t len = 54 + 32768;
	uint8_t *frame = calloc(1, len), *got = calloc(1, len + 1);

	(void)state;
	assert_true(frame && got);
	memcpy(frame, start_of_tcp, sizeof(start_of_tcp));
	if (drv_device_features(&f->d) & BIT(VIRTIO_NET_F_HOST_TSO4)) {
		guest_sends(f, &header, frame, len);
		assert_int_equal(host_gets(f, got, len + 1, 10000), len);
	}
	free(frame);
	free(got);
	end(f);
}

static void test_broken_drivers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct fixture *f = start(ALL);
		gpa_t at = drv_alloc(&f->d, 2048, 1);
		const struct {
			unsigned queue;
			struct drv_buf buf;
		} wrong[] = {{0, {at, 2048, false}},
			     {0, {at, HEADER - 1, true}},
			     {1, {at, 2048, true}},
			     {1, {at, HEADER - 1, false}}};

		assert_true(drv_add(&f->d.queue[wrong[i].queue], &wrong[i].buf, 1) >= 0);
		drv_kick_if_needed(&f->d.queue[wrong[i].queue]);
		drv_wait_irq(&f->d);
		assert_true(is_broken(f));
		drv_start(&f->d, ALL, 0);
		at = offer(f, 64, 1536);
		host_sends(f, 100, 9);
		guest_gets(f, at, 1536, 100, 9);
		end(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets_to_the_guest),
		cmocka_unit_test(test_a_packet_in_many_buffers),
		cmocka_unit_test(test_a_packet_that_does_not_fit),
		cmocka_unit_test(test_a_packet_and_buffers_of_no_use),
		cmocka_unit_test(test_a_packet_that_waits_for_its_last_buffer),
		cmocka_unit_test(test_packets_wait_for_buffers),
		cmocka_unit_test(test_reset_with_buffers),
		cmocka_unit_test(test_packets_from_the_guest),
		cmocka_unit_test(test_segmentation_is_left_to_the_host),
		cmocka_unit_test(test_broken_drivers),
	};

	return NET_TESTS(tests);
}
