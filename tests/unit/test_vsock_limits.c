// SPDX-License-Identifier: BSD-2-Clause
/* The socket device: credit, slow programs, many connections, hostile drivers, resets. */
#include "vsock_fixture.h"

/* Sends until the host takes no more, and the device neither. Returns how many bytes that is. */
static uint32_t fill_up(struct fixture *f, struct flow *w)
{
	static uint8_t data[65536];
	uint32_t room, sent = 0;

	fill(data, sizeof(data), 3);
	while ((room = guest_asks_for_credit(f, w)) > 0) {
		guest_writes(f, w, data, MIN(room, 65536u));
		sent += MIN(room, 65536u);
	}
	return sent;
}

/* A program that does not read: no more than was promised is kept for it. */
static void test_the_guest_has_no_credit(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	uint32_t sent = fill_up(f, &w);
	struct packet p;

	(void)state;
	assert_true(sent >= w.alloc);
	assert_int_equal(w.sent - w.forwarded, w.alloc);
	guest_writes(f, &w, "x", 1);
	guest_gets(f, &w, RST, &p);
	assert_int_equal(counters(f).connections, 0);
	close(w.host);
	end(f);
}

/* What is taken late is told, unasked, before the guest has nothing left. */
static void test_credit_comes_back(void **state)
{
	static uint8_t data[65536];
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	uint32_t sent = fill_up(f, &w), from = w.forwarded, at;
	struct packet p;

	(void)state;
	fill(data, sizeof(data), 3);
	for (uint32_t got = 0; got < sent; got += at) {
		at = MIN(sent - got, (uint32_t)sizeof(data));
		host_gets(w.host, data, at);
	}
	while (w.alloc - (w.sent - w.forwarded) <= w.alloc / 2) {
		guest_gets(f, &w, UPDATE, &p);
		assert_true(w.forwarded - from >= 1);
	}
	assert_int_equal(guest_asks_for_credit(f, &w), w.alloc);
	/* Little is not told at once. */
	guest_writes(f, &w, data, 1000);
	host_gets(w.host, data, 1000);
	host_writes(w.host, "x", 1);
	guest_reads(f, &w, "x", 1);
	assert_int_equal(w.forwarded, w.sent);
	close(w.host);
	end(f);
}

static void test_the_host_has_no_credit(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct virtio_vsock_hdr h = header_of(&w, UPDATE);
	uint8_t data[5000];
	struct packet p;

	(void)state;
	fill(data, sizeof(data), 9);
	h.buf_alloc = 1000;
	guest_sends_packet(f, &h, NULL, 0);
	host_writes(w.host, data, sizeof(data));
	for (uint32_t got = 0; got < 5000; got += 1000) {
		guest_reads(f, &w, data + got, 1000);
		guest_gets(f, &w, ASK, &p);
		assert_int_equal(drv_used(&f->d.queue[0], NULL, NULL), false);
		h.fwd_cnt = w.received;
		guest_sends_packet(f, &h, NULL, 0);
	}
	/* Lies: more was taken than was sent. */
	h.fwd_cnt = w.received + 1;
	guest_sends_packet(f, &h, NULL, 0);
	host_writes(w.host, data, 1);
	guest_gets(f, &w, ASK, &p);
	h.fwd_cnt = w.received;
	h.buf_alloc = UINT32_MAX;
	guest_sends_packet(f, &h, NULL, 0);
	guest_reads(f, &w, data, 1);
	close(w.host);
	end(f);
}

/* Others go on, both ways, while the queues are short. */
static void test_a_slow_program_stops_itself(void **state)
{
	static uint8_t data[40000];
	struct fixture *f = start_with(ALL, 4);
	struct flow slow = connect_from_host(f, 5), deaf = connect_from_host(f, 6),
		    quick = connect_from_host(f, 7);
	struct virtio_vsock_hdr h = header_of(&deaf, UPDATE);
	struct packet p;

	(void)state;
	fill_up(f, &slow);
	h.buf_alloc = 0; /* the guest's program does not read */
	guest_sends_packet(f, &h, NULL, 0);
	host_writes(deaf.host, "unheard", 7);
	guest_gets(f, &deaf, ASK, &p);
	for (unsigned i = 0; i < 30; i++) {
		fill(data, sizeof(data), i);
		guest_writes(f, &quick, data, sizeof(data));
		host_gets(quick.host, data, sizeof(data));
		host_writes(quick.host, data, sizeof(data));
		for (uint32_t got = 0; got < sizeof(data); got += p.h.len) {
			do
				guest_gets_any(f, &p);
			while (p.h.op == UPDATE);
			assert_int_equal(p.h.op, RW);
			assert_int_equal(p.h.dst_port, 7);
			assert_memory_equal(p.data, data + got, p.h.len);
			take(&quick, &p);
		}
		guest_sends(f, &quick, UPDATE);
	}
	guest_sends(f, &deaf, UPDATE);
	guest_reads(f, &deaf, "unheard", 7);
	close(slow.host);
	close(deaf.host);
	close(quick.host);
	end(f);
}

#define MANY 500u

/* A thousand at once, half of them from each side. */
static void test_a_thousand_connections(void **state)
{
	static struct flow w[2 * MANY];
	struct fixture *f = start();
	int listener = host_listens(f, 80, 4096);
	struct packet p;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		w[i] = connect_from_host(f, i);
	for (uint32_t i = MANY; i < 2 * MANY; i++)
		w[i] = connect_from_guest(f, i, 80, listener);
	assert_int_equal(counters(f).connections, 2 * MANY);
	for (uint32_t i = 0; i < 2 * MANY; i++)
		host_writes(w[i].host, &i, sizeof(i));
	for (uint32_t n = 0; n < 2 * MANY; n++) {
		uint32_t i;

		guest_gets_any(f, &p);
		assert_int_equal(p.h.op, RW);
		memcpy(&i, p.data, sizeof(i));
		assert_true(i < 2 * MANY && p.h.dst_port == w[i].guest_port &&
			    p.h.src_port == w[i].host_port);
		guest_writes(f, &w[i], &i, sizeof(i));
	}
	for (uint32_t i = 0; i < 2 * MANY; i++) {
		host_gets(w[i].host, &i, sizeof(i));
		if (i % 3 == 0)
			guest_sends(f, &w[i], RST);
		else
			close(w[i].host);
	}
	for (uint32_t n = 0; n < 2 * MANY - (2 * MANY + 2) / 3; n++) {
		do
			guest_gets_any(f, &p);
		while (p.h.op == UPDATE);
		assert_int_equal(p.h.op, SHUTDOWN);
		assert_int_equal(p.h.flags, NO_MORE);
	}
	drv_reset(&f->d);
	assert_int_equal(counters(f).connections, 0);
	for (uint32_t i = 0; i < 2 * MANY; i += 3)
		close(w[i].host);
	host_stops(f, 80, listener);
	end(f);
}

static bool may_open(unsigned num)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_max >= num;
}

/* One more is refused from the guest, and waits from the host. */
static void test_more_than_there_is_room_for(void **state)
{
	static int host[VSOCK_MAX_CONNECTIONS];
	struct fixture *f;
	struct flow w = {.host_port = 80};
	struct packet p;
	int listener, extra;

	(void)state;
	if (!may_open(2 * VSOCK_MAX_CONNECTIONS + 100))
		skip();
	f = start();
	listener = host_listens(f, 80, 4096);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++) {
		w.guest_port = i;
		host[i] = connect_from_guest(f, i, 80, listener).host;
	}
	assert_int_equal(counters(f).connections, VSOCK_MAX_CONNECTIONS);
	w.guest_port = VSOCK_MAX_CONNECTIONS;
	guest_sends(f, &w, REQUEST);
	guest_gets(f, &w, RST, &p);
	extra = host_connects(f, "CONNECT 5\n");
	assert_int_equal(counters(f).connections, VSOCK_MAX_CONNECTIONS);
	w.guest_port = 100;
	guest_sends(f, &w, RST);
	guest_gets_any(f, &p);
	assert_int_equal(p.h.op, REQUEST);
	assert_int_equal(p.h.dst_port, 5);
	close(extra);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++)
		close(host[i]);
	host_stops(f, 80, listener);
	end(f);
}

/* The memory that is promised in all has a limit. */
static void test_many_get_less(void **state)
{
	struct fixture *f = start();
	int listener = host_listens(f, 80, 4096), host[400];
	uint32_t first = 0, last = 0;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(host); i++) {
		struct flow w = connect_from_guest(f, i, 80, listener);

		host[i] = w.host;
		last = w.alloc;
		first = first ? first : last;
	}
	assert_int_equal(first, 256 * KIB);
	assert_int_equal(last, 16 * KIB);
	for (unsigned i = 0; i < ARRAY_SIZE(host); i++)
		close(host[i]);
	host_stops(f, 80, listener);
	end(f);
}

/* Packets that no connection wants. */
static void test_strange_packets(void **state)
{
	struct fixture *f = start();
	struct flow none = {.guest_port = 3, .host_port = 4}, w = connect_from_host(f, 5);
	struct virtio_vsock_hdr h;
	struct packet p;

	(void)state;
	for (uint16_t op = 0; op < 100; op++) {
		if (op == RST)
			continue;
		guest_sends(f, &none, op);
		guest_gets(f, &none, RST, &p);
	}
	guest_sends(f, &none, RST);
	h = header_of(&w, RW);
	h.src_cid = CID + 1;
	guest_sends_packet(f, &h, NULL, 0);
	h.src_cid = CID | 1ull << 32;
	guest_sends_packet(f, &h, NULL, 0);
	h = header_of(&w, REQUEST);
	h.dst_cid = 5;
	guest_sends_packet(f, &h, NULL, 0);
	guest_gets_any(f, &p);
	assert_int_equal(p.h.op, RST);
	assert_int_equal(p.h.src_cid, 5);
	assert_int_equal(p.h.src_port, w.host_port);
	for (uint16_t type = 0; type < 5; type++) {
		if (type == VIRTIO_VSOCK_TYPE_STREAM)
			continue;
		h = header_of(&w, RW);
		h.type = type;
		guest_sends_packet(f, &h, NULL, 0);
		guest_gets_any(f, &p);
		assert_int_equal(p.h.op, RST);
		assert_int_equal(p.h.type, type);
	}
	host_writes(w.host, "fine", 4); /* all that was not its own */
	guest_reads(f, &w, "fine", 4);
	close(w.host);
	end(f);
}

/* What a connection does not take ends it, and no other. */
static void test_packets_out_of_place(void **state)
{
	struct fixture *f = start();
	struct flow other = connect_from_host(f, 4);
	static const uint16_t ops[] = {0, REQUEST, RESPONSE, 8, 99, UINT16_MAX};
	struct packet p;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ops) + 3; i++) {
		struct flow w = connect_from_host(f, 5);

		if (i < ARRAY_SIZE(ops)) {
			guest_sends(f, &w, ops[i]);
		} else if (i == ARRAY_SIZE(ops)) {
			guest_shuts(f, &w, NO_MORE_SENT);
			guest_writes(f, &w, "x", 1);
		} else {
			struct flow early = {.guest_port = 6};
			int fd = host_connects(f, "CONNECT 6\n");

			/* Before the guest has accepted. */
			guest_gets_any(f, &p);
			early.host_port = p.h.src_port;
			if (i == ARRAY_SIZE(ops) + 1)
				guest_writes(f, &early, "x", 1);
			else
				guest_sends(f, &early, ASK);
			guest_gets(f, &early, RST, &p);
			host_gets_end(fd);
			close(fd);
			guest_sends(f, &w, 0);
		}
		guest_gets(f, &w, RST, &p);
		host_gets_end(w.host);
		close(w.host);
	}
	assert_int_equal(counters(f).connections, 1);
	guest_writes(f, &other, "fine", 4);
	host_gets(other.host, "fine", 4);
	close(other.host);
	end(f);
}

/* No answer is lost when the guest has no buffers: the transmit queue waits in the end. */
static void test_answers_wait_for_buffers(void **state)
{
	enum { NUM = 1000 };
	struct fixture *f = start_with(ALL, 0);
	struct flow w = {.host_port = 4};
	struct drv_queue *q = &f->d.queue[1];
	unsigned sent = 0, used = 0;
	struct packet p;

	(void)state;
	f->tx = drv_alloc(&f->d, NUM * HEADER, 16);
	for (unsigned i = 0; i < NUM; i++) {
		w.guest_port = i;
		*(struct virtio_vsock_hdr *)drv_ptr(&f->d, GPA(f->tx.v + i * HEADER), HEADER) =
			header_of(&w, RW);
	}
	for (unsigned round = 0; round < 2; round++) {
		while (drv_add(q, &(struct drv_buf){GPA(f->tx.v + sent * HEADER), HEADER, false},
			       1) >= 0)
			sent++;
		drv_kick_if_needed(q);
		if (round)
			break;
		for (; used < 256; used++)
			drv_wait_used(q, NULL, NULL);
	}
	usleep(20000);
	assert_false(drv_used(q, NULL, NULL));
	offer(f, 8);
	for (unsigned i = 0; i < NUM; i++) {
		guest_gets_any(f, &p);
		assert_int_equal(p.h.op, RST);
		assert_int_equal(p.h.dst_port, i);
		while (sent < NUM &&
		       drv_add(q, &(struct drv_buf){GPA(f->tx.v + sent * HEADER), HEADER, false},
			       1) >= 0)
			sent++;
		drv_kick_if_needed(q);
		while (drv_used(q, NULL, NULL))
			used++;
	}
	while (used < NUM) {
		drv_wait_used(q, NULL, NULL);
		used++;
	}
	end(f);
}

/* A protocol error is the end of all connections, until the driver starts anew. */
static void test_broken_drivers(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct fixture *f = start_with(ALL, 32);
		struct flow w = connect_from_host(f, 5);
		gpa_t at = drv_alloc(&f->d, 4096, 1);
		struct virtio_vsock_hdr *h = drv_ptr(&f->d, at, HEADER);
		const struct {
			unsigned queue;
			struct drv_buf buf;
			uint32_t len; /* in the header */
		} wrong[] = {
			{1, {at, 4096, true}, 0},   {1, {at, HEADER - 1, false}, 0},
			{1, {at, 100, false}, 57},  {1, {at, 100, false}, UINT32_MAX},
			{1, {at, 0, false}, 0},	    {0, {at, 4096, false}, 0},
			{0, {at, HEADER, true}, 0}, {0, {at, HEADER - 1, true}, 0},
		};

		if (i >= 5) {
			f = (end(f), start_with(ALL, 0));
			w.host = -1;
			at = drv_alloc(&f->d, 4096, 1);
			h = drv_ptr(&f->d, at, HEADER);
		}
		*h = header_of(&w, RW);
		h->len = wrong[i].len;
		assert_true(drv_add(&f->d.queue[wrong[i].queue],
				    &(struct drv_buf){at, wrong[i].buf.len, wrong[i].buf.write},
				    1) >= 0);
		drv_kick_if_needed(&f->d.queue[wrong[i].queue]);
		if (i >= 5) /* a receive buffer is looked at when there is something for it */
			close(host_connects(f, "CONNECT 5\n"));
		while (!drv_is_broken(&f->d))
			drv_wait_irq(&f->d);
		if (w.host >= 0) {
			host_gets_end(w.host);
			close(w.host);
		}
		start_driver(f, ALL);
		offer(f, 32);
		w = connect_from_host(f, 5);
		close(w.host);
		end(f);
	}
}

/* Connections end with the driver; the next one finds none. */
static void test_reset_with_traffic(void **state)
{
	static uint8_t data[65536];
	struct fixture *f = start();
	int listener = host_listens(f, 80, 100);

	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		struct flow w = connect_from_host(f, 5),
			    other = connect_from_guest(f, 6, 80, listener);
		int greeting = host_connects(f, "CONN");
		struct packet p;

		fill_up(f, &w);
		assert_true(send(other.host, data, sizeof(data), MSG_DONTWAIT) > 0);
		guest_gets_any(f, &p);
		drv_reset(&f->d);
		assert_int_equal(counters(f).connections, 0);
		while (host_reads(w.host, data, sizeof(data)))
			;
		host_gets_end(other.host);
		host_gets_end(greeting);
		close(w.host);
		close(other.host);
		close(greeting);
		start_driver(f, ALL);
		offer(f, 64);
	}
	host_stops(f, 80, listener);
	end(f);
}

/* Section 5.10.3.2: without a feature streams are meant, but not when the driver knows that they are
 * not. */
static void test_streams_that_were_not_negotiated(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = start_with(BIT(VIRTIO_F_VERSION_1) | (i ? BIT(2) : 0), 64);
		int listener = host_listens(f, 80, 8);
		struct flow w = {.guest_port = 1, .host_port = 80};
		struct packet p;

		guest_sends(f, &w, REQUEST);
		guest_gets(f, &w, i ? RST : RESPONSE, &p);
		host_stops(f, 80, listener);
		end(f);
	}
}

/* A state has no connections: section 5.10.6.7. */
static void test_restore(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct virtio_state saved;
	struct error e = {""};
	gpa_t at = drv_alloc(&f->d, 16, 16);
	uint32_t len;

	(void)state;
	assert_true(drv_add(&f->d.queue[2], &(struct drv_buf){at, 4, true}, 1) >= 0);
	drv_kick(&f->d.queue[2]);
	memset(drv_ptr(&f->d, at, 4), 0xff, 4);
	virtio_dev_pause(f->dev);
	host_writes(w.host, "later", 5);
	while (virtio_dev_save(f->dev, &saved, &e) == -EBUSY)
		usleep(1000);
	assert_false(drv_used(&f->d.queue[0], NULL, NULL));
	virtio_dev_resume(f->dev);
	guest_reads(f, &w, "later", 5); /* who goes on keeps them */
	virtio_dev_pause(f->dev);
	while (virtio_dev_save(f->dev, &saved, &e) == -EBUSY)
		usleep(1000);
	down(f);
	host_gets_end(w.host);
	close(w.host);
	up(f);
	assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), 0);
	drv_wait_used(&f->d.queue[2], NULL, &len);
	assert_int_equal(len, 4);
	assert_int_equal(*(uint32_t *)drv_ptr(&f->d, at, 4), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	w = connect_from_host(f, 6);
	guest_sends(f, &w, RST);
	close(w.host);
	/* Once is enough. */
	assert_true(drv_add(&f->d.queue[2], &(struct drv_buf){at, 4, true}, 1) >= 0);
	drv_kick(&f->d.queue[2]);
	w = connect_from_host(f, 7);
	assert_false(drv_used(&f->d.queue[2], NULL, NULL));
	close(w.host);
	end(f);
}

/* Where the VM goes on the CID may be taken: the guest finds its new one, and is told to look. */
static void test_restore_with_another_cid(void **state)
{
	struct fixture *f = start();
	struct virtio_state saved;
	struct error e = {""};
	struct packet p;
	int fd;

	(void)state;
	virtio_dev_pause(f->dev);
	while (virtio_dev_save(f->dev, &saved, &e) == -EBUSY)
		usleep(1000);
	down(f);
	f->cid = CID + 1;
	up(f);
	drv_irqs(&f->d);
	assert_int_equal(virtio_dev_restore(f->dev, &saved, &e), 0);
	drv_wait_irq(&f->d);
	assert_true(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), CID + 1);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG + 4), 0);
	fd = host_connects(f, "CONNECT 5\n");
	drv_wait_used(&f->d.queue[0], NULL, NULL);
	memcpy(&p.h, drv_ptr(&f->d, f->rx_at[0], HEADER), HEADER);
	assert_int_equal(p.h.dst_cid, CID + 1);
	close(fd);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_guest_has_no_credit),
		cmocka_unit_test(test_credit_comes_back),
		cmocka_unit_test(test_the_host_has_no_credit),
		cmocka_unit_test(test_a_slow_program_stops_itself),
		cmocka_unit_test(test_a_thousand_connections),
		cmocka_unit_test(test_more_than_there_is_room_for),
		cmocka_unit_test(test_many_get_less),
		cmocka_unit_test(test_strange_packets),
		cmocka_unit_test(test_packets_out_of_place),
		cmocka_unit_test(test_answers_wait_for_buffers),
		cmocka_unit_test(test_broken_drivers),
		cmocka_unit_test(test_reset_with_traffic),
		cmocka_unit_test(test_streams_that_were_not_negotiated),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_restore_with_another_cid),
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	may_open(4096);
	return cmocka_run_group_tests_name("vsock_limits", tests, NULL, NULL);
}
