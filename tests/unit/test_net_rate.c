// SPDX-License-Identifier: BSD-2-Clause
/* How fast a network device may go. */
#include "net_fixture.h"

extern const struct device_type net_type;

static const struct net_limits none;
/* A packet of 100 bytes takes more than a minute. */
static const struct net_limits slow = {{{.bytes_per_s = 1}, {.bytes_per_s = 1}}};

static void post_on(struct fixture *f, unsigned q, unsigned num)
{
	struct drv_buf buf = {drv_alloc(&f->d, HEADER + 100, 1), HEADER + 100, false};
	uint8_t *data = drv_ptr(&f->d, buf.addr, buf.len);

	memset(data, 0, HEADER);
	make_frame(data + HEADER, 100, 1);
	for (unsigned i = 0; i < num; i++)
		assert_true(drv_add(&f->d.queue[q], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[q]);
}

static void post(struct fixture *f, unsigned num)
{
	post_on(f, 1, num);
}

static void await_sent(struct fixture *f, unsigned num)
{
	uint8_t got[200];
	uint32_t id, used;

	for (unsigned i = 0; i < num; i++) {
		drv_wait_used(&f->d.queue[1], &id, &used);
		assert_int_equal(host_gets(f, got, sizeof(got), -1), 100);
	}
}

/* The first one passes, and is paid for while the others wait: until there is no limit any more. */
static void test_packets_from_the_guest_wait(void **state)
{
	struct fixture *f = start(ALL);
	uint8_t got[200];

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		net_set_limits(f->dev, &slow);
		post(f, 5);
		await_sent(f, 1);
		assert_int_equal(host_gets(f, got, sizeof(got), 50), -1);
		net_set_limits(f->dev, &none);
		await_sent(f, 4);
	}
	assert_int_equal(counters(f).tx_dropped, 0);
	end(f);
}

static void test_packets_to_the_guest_wait(void **state)
{
	struct fixture *f = start(ALL);
	gpa_t at = offer(f, 64, 1536);

	(void)state;
	for (uint8_t i = 0; i < 12;) {
		net_set_limits(f->dev, &slow);
		for (uint8_t n = 0; n < 4; n++)
			host_sends(f, 100, (uint8_t)(i + n));
		guest_gets(f, GPA(at.v + i * 1536u), 1536, 100, i);
		i++;
		drv_write32(&f->d, VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* does not help */
		usleep(20000);
		assert_int_equal(counters(f).rx_packets, i);
		net_set_limits(f->dev, &none);
		for (uint8_t n = 0; n < 3; n++, i++)
			guest_gets(f, GPA(at.v + i * 1536u), 1536, 100, i);
	}
	end(f);
}

/* One at a time, and none too early. */
static void test_packets_a_second(void **state)
{
	struct net_limits limits = {{{.ops_per_s = 100}, {.ops_per_s = 100}}};
	struct fixture *f = start(ALL);
	gpa_t at = offer(f, 64, 1536);
	uint64_t before;

	(void)state;
	net_set_limits(f->dev, &limits);
	before = now_ns();
	post(f, 11);
	for (uint8_t i = 0; i < 11; i++)
		host_sends(f, 100, i);
	await_sent(f, 11);
	for (uint8_t i = 0; i < 11; i++)
		guest_gets(f, GPA(at.v + i * 1536u), 1536, 100, i);
	assert_true(now_ns() - before >= NSEC_PER_SEC / 10);
	end(f);
}

/* All queues have the limit together. */
static void test_pairs_share_their_limits(void **state)
{
	struct fixture *f = start_pairs(ALL, 2);
	uint8_t got[200];
	uint32_t id, used;

	(void)state;
	net_set_limits(f->dev, &slow);
	post(f, 1);
	await_sent(f, 1);
	post_on(f, 3, 1);
	assert_int_equal(host_gets(f, got, sizeof(got), 50), -1);
	net_set_limits(f->dev, &none);
	drv_wait_used(&f->d.queue[3], &id, &used);
	assert_int_equal(host_gets(f, got, sizeof(got), -1), 100);
	end(f);
}

/* A driver that goes while packets wait, and the next one. */
static void test_reset_while_packets_wait(void **state)
{
	struct fixture *f = start(ALL);

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		net_set_limits(f->dev, &slow);
		post(f, 5);
		await_sent(f, 1);
		offer(f, 4, 1536);
		host_sends(f, 100, 1);
		host_sends(f, 100, 2);
		drv_write32(&f->d, VIRTIO_MMIO_STATUS, 0);
		net_set_limits(f->dev, &none);
		drv_start(&f->d, ALL, 0);
		post(f, 1);
		await_sent(f, 1);
	}
	end(f);
}

static json_t *limit(struct vm_device *d, const char *text)
{
	const struct device_command *c = net_type.commands;
	json_t *json = json_loads(text, 0, NULL), *answer;
	struct device_request request = {.devices = d, .num = 1, .json = json};
	struct error e = {""};

	while (strcmp(c->name, "limit-net") != 0)
		c++;
	answer = c->run(&request, &e);
	assert_true(answer || e.msg[0]);
	json_decref(json);
	return answer;
}

/* What is not said stays. */
static void test_limits_at_run_time(void **state)
{
	struct net_config config = {.tap = (char[]){"skep0"}};
	struct fixture *f = start(ALL);
	struct vm_device d = {.type = &net_type, .config = &config, .dev = f->dev};
	struct net_limits now;
	json_t *answer;

	(void)state;
	json_decref(limit(&d, "{\"net\": 0, \"rx_bps\": 5, \"tx_pps\": 7, \"burst_ns\": 9}"));
	answer = limit(&d, "{\"net\": \"skep0\", \"rx_pps\": 6, \"tx_pps\": 0}");
	assert_int_equal(json_integer_value(json_object_get(answer, "rx_bps")), 5);
	json_decref(answer);
	net_get_limits(f->dev, &now);
	assert_int_equal(now.of[NET_RX].bytes_per_s, 5);
	assert_int_equal(now.of[NET_RX].ops_per_s, 6);
	assert_int_equal(now.of[NET_RX].burst_ns, 9);
	assert_int_equal(now.of[NET_TX].ops_per_s, 0);
	assert_int_equal(now.of[NET_TX].burst_ns, 9);
	assert_null(limit(&d, "{\"net\": 0, \"rx_bps\": -1}"));
	assert_null(limit(&d, "{\"net\": 1}"));
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets_from_the_guest_wait),
		cmocka_unit_test(test_packets_to_the_guest_wait),
		cmocka_unit_test(test_packets_a_second),
		cmocka_unit_test(test_pairs_share_their_limits),
		cmocka_unit_test(test_reset_while_packets_wait),
		cmocka_unit_test(test_limits_at_run_time),
	};

	return NET_TESTS(tests);
}
