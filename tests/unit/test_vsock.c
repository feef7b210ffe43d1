// SPDX-License-Identifier: BSD-2-Clause
/* The socket device: how connections begin, what passes, how they end. */
#include "vsock_fixture.h"

static void pass_both_ways(struct fixture *f, struct flow *w)
{
	uint8_t data[10000];

	fill(data, sizeof(data), w->guest_port);
	guest_writes(f, w, data, 5);
	guest_writes(f, w, data + 5, sizeof(data) - 5);
	host_gets(w->host, data, sizeof(data));
	host_writes(w->host, data, sizeof(data));
	guest_reads(f, w, data, sizeof(data));
}

static void test_the_host_connects(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5), other = connect_from_host(f, UINT32_MAX);

	(void)state;
	assert_int_not_equal(w.host_port, other.host_port);
	assert_true(w.alloc >= 65536);
	pass_both_ways(f, &w);
	pass_both_ways(f, &other);
	guest_sends(f, &w, RST);
	host_gets_end(w.host);
	pass_both_ways(f, &other);
	assert_int_equal(counters(f).from_host, 2);
	assert_int_equal(counters(f).connections, 1);
	assert_int_equal(counters(f).rx_bytes, 30000);
	assert_int_equal(counters(f).tx_bytes, 30000);
	close(w.host);
	close(other.host);
	end(f);
}

/* The client need not wait for the answer. */
static void test_data_right_behind_the_line(void **state)
{
	struct fixture *f = start();
	int fd = host_connects(f, "CONNECT 80\nhello\nworld");
	struct flow w = {.guest_port = 80};
	struct packet p;

	(void)state;
	guest_gets_any(f, &p);
	w.host_port = p.h.src_port;
	guest_sends(f, &w, RESPONSE);
	guest_reads(f, &w, "hello\nworld", 11);
	close(fd);
	end(f);
}

static void test_a_line_in_pieces(void **state)
{
	static const char line[] = "connect 4294967295\n";
	struct fixture *f = start();
	int fd = host_connects(f, "");
	struct packet p;

	(void)state;
	for (const char *at = line; *at; at++) {
		host_writes(fd, at, 1);
		usleep(1000);
	}
	guest_gets_any(f, &p);
	assert_int_equal(p.h.op, REQUEST);
	assert_int_equal(p.h.dst_port, UINT32_MAX);
	close(fd);
	end(f);
}

static void test_lines_that_are_wrong(void **state)
{
	static const char *const lines[] = {
		"\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT x\n",
		"CONNECT -1\n",
		"CONNECT 1 2\n",
		"CONNECT 4294967296\n",
		"CONNECT  1\n",
		"CONNECT 1\r\n",
		"GET / HTTP/1.1\n",
		"CONNECT 99999999999999999999\n",
		"CONNECT 0x10\n",
		"CONNECT +1\n",
		"CONNECT 00000000000000000000000001\n",
	};
	struct fixture *f = start();
	struct flow w;
	int fd;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		fd = host_connects(f, lines[i]);
		host_gets_end(fd);
		close(fd);
	}
	fd = host_connects(f, "CONNECT 1");
	shutdown(fd, SHUT_WR);
	host_gets_end(fd);
	close(fd);
	fd = host_connects(f, "CONNECT");
	assert_int_equal(send(fd, " 1\0 \n", 5, 0), 5);
	host_gets_end(fd);
	close(fd);
	assert_int_equal(counters(f).refused, ARRAY_SIZE(lines) + 2);
	w = connect_from_host(f, 1); /* the guest has heard of none of them */
	close(w.host);
	end(f);
}

static void test_the_guest_refuses(void **state)
{
	struct fixture *f = start();
	int fd = host_connects(f, "CONNECT 7\n");
	struct flow w = {.guest_port = 7};
	struct packet p;

	(void)state;
	guest_gets_any(f, &p);
	w.host_port = p.h.src_port;
	guest_sends(f, &w, RST);
	host_gets_end(fd);
	assert_int_equal(counters(f).refused, 1);
	assert_int_equal(counters(f).connections, 0);
	close(fd);
	end(f);
}

/* Nobody is there to ask. */
static void test_the_host_connects_without_a_driver(void **state)
{
	struct fixture *f = start();
	int fd;

	(void)state;
	drv_reset(&f->d);
	fd = host_connects(f, "CONNECT 7\n");
	host_gets_end(fd);
	close(fd);
	end(f);
}

static void test_the_guest_connects(void **state)
{
	static const uint32_t ports[] = {0, 1234, UINT32_MAX};
	struct fixture *f = start();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		int listener = host_listens(f, ports[i], 8);
		struct flow w = connect_from_guest(f, 5000, ports[i], listener);
		struct flow second = connect_from_guest(f, 5001, ports[i], listener);

		pass_both_ways(f, &w);
		pass_both_ways(f, &second);
		guest_sends(f, &w, RST);
		host_gets_end(w.host);
		guest_sends(f, &second, RST);
		close(w.host);
		close(second.host);
		host_stops(f, ports[i], listener);
	}
	assert_int_equal(counters(f).from_guest, 6);
	assert_int_equal(counters(f).connections, 0);
	end(f);
}

static void test_nobody_listens(void **state)
{
	struct fixture *f = start();
	struct flow w = {.guest_port = 9, .host_port = 22};
	struct packet p;
	int listener;

	(void)state;
	guest_sends(f, &w, REQUEST);
	guest_gets(f, &w, RST, &p);
	listener = host_listens(f, 22, 8);
	close(listener); /* the file is there */
	guest_sends(f, &w, REQUEST);
	guest_gets(f, &w, RST, &p);
	host_stops(f, 22, -1);
	assert_int_equal(counters(f).refused, 2);
	end(f);
}

/* An answer that comes when there is room. On a busy machine the device may have given up: once more. */
static void guest_is_accepted(struct fixture *f, struct flow *w)
{
	struct packet p;

	do {
		guest_gets_any(f, &p);
		assert_int_equal(p.h.dst_port, w->guest_port);
		if (p.h.op == RST)
			guest_sends(f, w, REQUEST);
	} while (p.h.op == RST);
	assert_int_equal(p.h.op, RESPONSE);
	take(w, &p);
}

/* A listener that is slow to accept is waited for. */
static void test_a_full_backlog(void **state)
{
	struct fixture *f = start();
	int listener = host_listens(f, 22, 0);
	struct flow first = {.guest_port = 1, .host_port = 22},
		    second = {.guest_port = 2, .host_port = 22},
		    third = {.guest_port = 3, .host_port = 22},
		    fourth = {.guest_port = 4, .host_port = 22};
	struct packet p;

	(void)state;
	guest_sends(f, &first, REQUEST);
	guest_gets(f, &first, RESPONSE, &p);
	guest_sends(f, &second, REQUEST);
	usleep(30000);
	assert_int_equal(counters(f).connections, 2);
	assert_int_equal(counters(f).from_guest, 1);
	first.host = accept(listener, NULL, NULL);
	guest_is_accepted(f, &second);
	pass_both_ways(f, &first);
	second.host = accept(listener, NULL, NULL);
	pass_both_ways(f, &second);
	/* And no longer, when it goes. */
	guest_sends(f, &third, REQUEST);
	guest_gets(f, &third, RESPONSE, &p);
	guest_sends(f, &fourth, REQUEST);
	host_stops(f, 22, listener);
	do /* the third ends, too */
		guest_gets_any(f, &p);
	while (p.h.op != RST || p.h.dst_port != 4);
	close(first.host);
	close(second.host);
	end(f);
}

static void test_the_host_has_sent_all(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct packet p;

	(void)state;
	host_writes(w.host, "last words", 10);
	shutdown(w.host, SHUT_WR);
	guest_reads(f, &w, "last words", 10);
	guest_gets_shutdown(f, &w, NO_MORE_SENT);
	guest_writes(f, &w, "an answer", 9);
	host_gets(w.host, "an answer", 9);
	guest_shuts(f, &w, NO_MORE_SENT);
	host_gets_end(w.host);
	/* Both have: for the host that is the end. */
	guest_gets_shutdown(f, &w, NO_MORE);
	guest_shuts(f, &w, NO_MORE);
	guest_gets(f, &w, RST, &p);
	assert_int_equal(counters(f).connections, 0);
	close(w.host);
	end(f);
}

static void test_the_guest_has_sent_all(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct packet p;

	(void)state;
	guest_writes(f, &w, "last words", 10);
	guest_shuts(f, &w, NO_MORE_SENT);
	host_gets(w.host, "last words", 10);
	host_gets_end(w.host);
	host_writes(w.host, "an answer", 9);
	guest_reads(f, &w, "an answer", 9);
	guest_shuts(f, &w, 0); /* what was said stays so */
	guest_shuts(f, &w, NO_MORE_RECEIVED);
	guest_gets(f, &w, RST, &p);
	assert_int_equal(counters(f).connections, 0);
	close(w.host);
	end(f);
}

static void test_the_guest_takes_no_more(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);

	(void)state;
	guest_shuts(f, &w, NO_MORE_RECEIVED);
	assert_int_equal(send(w.host, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	guest_writes(f, &w, "still here", 10);
	host_gets(w.host, "still here", 10);
	close(w.host);
	guest_gets_shutdown(f, &w, NO_MORE);
	end(f);
}

static void test_the_host_takes_no_more(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);

	(void)state;
	shutdown(w.host, SHUT_RD);
	guest_writes(f, &w, "for nobody", 10);
	guest_gets_shutdown(f, &w, NO_MORE_RECEIVED);
	assert_int_equal(guest_asks_for_credit(f, &w), w.alloc);
	host_writes(w.host, "still here", 10);
	guest_reads(f, &w, "still here", 10);
	close(w.host);
	guest_gets_shutdown(f, &w, NO_MORE);
	end(f);
}

/* Closed with data on its way: the guest gets all of it, and then hears of the end. */
static void test_the_host_closes(void **state)
{
	struct fixture *f = start_with(ALL, 4);
	struct flow w = connect_from_host(f, 5);
	uint8_t data[100000];
	struct packet p;

	(void)state;
	fill(data, sizeof(data), 3);
	host_writes(w.host, data, sizeof(data));
	close(w.host);
	guest_reads(f, &w, data, sizeof(data));
	guest_gets_shutdown(f, &w, NO_MORE);
	guest_writes(f, &w, "x", 1); /* it was on its way */
	guest_shuts(f, &w, NO_MORE);
	guest_gets(f, &w, RST, &p);
	assert_int_equal(counters(f).connections, 0);
	end(f);
}

/* With what the guest sent unread: an end that is none in order. */
static void test_the_host_breaks_off(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct packet p;

	(void)state;
	guest_writes(f, &w, "unread", 6);
	close(w.host);
	guest_gets(f, &w, RST, &p);
	assert_int_equal(counters(f).connections, 0);
	end(f);
}

/* What the guest sent before it closed gets to a program that is slow. */
static void test_the_guest_closes(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	static uint8_t data[65536];
	uint32_t room, sent = 0;
	struct packet p;

	(void)state;
	fill(data, sizeof(data), 3);
	while ((room = guest_asks_for_credit(f, &w)) > 0) {
		guest_writes(f, &w, data, MIN(room, 65536u));
		sent += MIN(room, 65536u);
	}
	guest_shuts(f, &w, NO_MORE);
	guest_gets(f, &w, RST, &p);
	for (uint32_t got = 0, at; got < sent; got += at) {
		at = MIN(sent - got, (uint32_t)sizeof(data));
		host_gets(w.host, data, at);
	}
	host_gets_end(w.host);
	wait_connections(f, 0);
	close(w.host);
	end(f);
}

/* Headers and data cut into as many buffers as one likes (section 2.7.4.1). */
static void test_packets_in_many_buffers(void **state)
{
	struct fixture *f = start();
	struct flow w = connect_from_host(f, 5);
	struct virtio_vsock_hdr h = header_of(&w, RW);
	struct drv_buf bufs[20];

	(void)state;
	h.len = 30;
	memcpy(drv_ptr(&f->d, f->tx, HEADER), &h, HEADER);
	memcpy(drv_ptr(&f->d, GPA(f->tx.v + HEADER), 36), "123456789012345678901234567890nothing",
	       36);
	for (unsigned i = 0; i < ARRAY_SIZE(bufs); i++)
		bufs[i] = (struct drv_buf){GPA(f->tx.v + 4 * i), 4, false};
	assert_true(drv_add(&f->d.queue[1], bufs, ARRAY_SIZE(bufs)) >= 0);
	drv_kick_if_needed(&f->d.queue[1]);
	drv_wait_used(&f->d.queue[1], NULL, NULL);
	host_gets(w.host, "123456789012345678901234567890", 30);
	close(w.host);
	end(f);
}

static void test_cids(void **state)
{
	struct error e = {""};
	uint32_t cid, other;
	int fd[3];

	(void)state;
	fd[0] = vsock_take_cid(0, &cid, &e);
	assert_true(fd[0] >= 0 && cid >= VSOCK_FIRST_CID);
	fd[1] = vsock_take_cid(0, &other, &e);
	assert_true(fd[1] >= 0 && other > cid);
	assert_int_equal(vsock_take_cid(cid, &other, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, "is another VM's"));
	close(fd[0]);
	fd[2] = vsock_take_cid(cid, &other, &e);
	assert_true(fd[2] >= 0 && other == cid);
	close(fd[1]);
	close(fd[2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_host_connects),
		cmocka_unit_test(test_data_right_behind_the_line),
		cmocka_unit_test(test_a_line_in_pieces),
		cmocka_unit_test(test_lines_that_are_wrong),
		cmocka_unit_test(test_the_guest_refuses),
		cmocka_unit_test(test_the_host_connects_without_a_driver),
		cmocka_unit_test(test_the_guest_connects),
		cmocka_unit_test(test_nobody_listens),
		cmocka_unit_test(test_a_full_backlog),
		cmocka_unit_test(test_the_host_has_sent_all),
		cmocka_unit_test(test_the_guest_has_sent_all),
		cmocka_unit_test(test_the_guest_takes_no_more),
		cmocka_unit_test(test_the_host_takes_no_more),
		cmocka_unit_test(test_the_host_closes),
		cmocka_unit_test(test_the_host_breaks_off),
		cmocka_unit_test(test_the_guest_closes),
		cmocka_unit_test(test_packets_in_many_buffers),
		cmocka_unit_test(test_cids),
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
