// SPDX-License-Identifier: BSD-2-Clause
/* Ports between a guest and programs of the host: control messages, data, and who comes and goes. */
#include "vport_fixture.h"

static uint8_t text[1 << 20];

/* Section 5.3.5: the port, its name, and who is there, each when the driver is ready for it. */
static void test_a_driver_is_told_of_the_port(void **state)
{
	struct fixture *f = start();

	(void)state;
	offer(f, CTRL_RX, 2, sizeof(struct message));
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[CTRL_RX], NULL, NULL));
	end(f);
	f = start();
	shake_hands(f, false, false);
	assert_false(vport_guest_is_there(f->dev));
	say(f, 0, PORT_OPEN, 1);
	assert_true(vport_guest_is_there(f->dev));
	say(f, 0, PORT_OPEN, 0);
	assert_false(vport_guest_is_there(f->dev));
	end(f);
}

static void test_bytes_pass_both_ways(void **state)
{
	struct fixture *f = start();
	uint8_t got[sizeof(text)];
	int client;

	(void)state;
	shake_hands(f, false, true);
	client = dial(f);
	expect(f, PORT_OPEN, 1);
	assert_true(vport_host_is_there(f->dev));
	assert_int_equal(write(client, text, 100000), 100000);
	guest_reads(f, text, 100000);
	for (unsigned i = 0; i < 16; i++) {
		transmit(f, TX, text + (i << 12), 4096);
		read_all(client, got, 4096);
		assert_memory_equal(got, text + (i << 12), 4096);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	assert_int_equal(counters(f).rx_bytes, 100000);
	assert_int_equal(counters(f).tx_bytes, 65536);
	assert_int_equal(counters(f).lost_bytes, 0);
	close(client);
	end(f);
}

/* Linux throws away what comes while no program has opened the port. */
static void test_input_waits_until_the_port_is_open(void **state)
{
	struct fixture *f = start();
	int client;

	(void)state;
	shake_hands(f, false, false);
	client = dial(f);
	expect(f, PORT_OPEN, 1);
	offer(f, RX, 1, BUFFER);
	assert_int_equal(write(client, "early", 5), 5);
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[RX], NULL, NULL));
	say(f, 0, PORT_OPEN, 1);
	assert_int_equal(take(f, RX, text, sizeof(text)), 5);
	say(f, 0, PORT_OPEN, 0);
	assert_int_equal(write(client, "late", 4), 4);
	offer(f, RX, 1, BUFFER);
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[RX], NULL, NULL));
	close(client);
	expect(f, PORT_OPEN, 0); /* which is not for a program that opens it later */
	end(f);
}

/* A client that sends and goes: the guest gets all of it, and then sees it go. */
static void test_what_a_client_sent_before_it_left_arrives(void **state)
{
	struct fixture *f = start();
	int client = dial(f);

	(void)state;
	shake_hands(f, true, true);
	assert_int_equal(write(client, text, 20000), 20000);
	close(client);
	settle(f->loop);
	offer(f, CTRL_RX, 1, sizeof(struct message));
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[CTRL_RX], NULL, NULL));
	guest_reads(f, text, 20000);
	offer(f, RX, 1, BUFFER); /* where its end is found */
	assert_int_equal(take(f, CTRL_RX, text, sizeof(text)), 8);
	assert_int_equal(((struct message *)(void *)text)->header.event, PORT_OPEN);
	assert_int_equal(((struct message *)(void *)text)->header.value, 0);
	end(f);
}

/* Who says that it has no more to send still gets an answer. */
static void test_a_client_that_has_said_all_is_answered(void **state)
{
	struct fixture *f = start();
	int client = dial(f);
	char got[6];

	(void)state;
	shake_hands(f, true, true);
	assert_int_equal(write(client, "ask", 3), 3);
	shutdown(client, SHUT_WR);
	guest_reads(f, "ask", 3);
	offer(f, RX, 1, BUFFER);
	settle(f->loop);
	transmit(f, TX, "answer", 6);
	read_all(client, got, 6);
	assert_memory_equal(got, "answer", 6);
	close(client);
	expect(f, PORT_OPEN, 0);
	end(f);
}

/* One at a time: the second is served when the first has gone, and the guest sees that. */
static void test_clients_come_one_after_the_other(void **state)
{
	struct fixture *f = start();
	int first = dial(f), second = dial(f);
	char got[3];

	(void)state;
	shake_hands(f, true, true);
	assert_int_equal(write(second, "two", 3), 3);
	assert_int_equal(write(first, "one", 3), 3);
	guest_reads(f, "one", 3);
	offer(f, RX, 1, BUFFER);
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[RX], NULL, NULL));
	close(first);
	expect(f, PORT_OPEN, 0);
	expect(f, PORT_OPEN, 1);
	assert_int_equal(take(f, RX, got, sizeof(got)), 3);
	assert_memory_equal(got, "two", 3);
	transmit(f, TX, "you", 3);
	read_all(second, got, 3);
	assert_memory_equal(got, "you", 3);
	close(second);
	end(f);
}

/* The guest did not look meanwhile: it is told all the same that it is another one. */
static void test_a_change_of_clients_is_not_missed(void **state)
{
	struct fixture *f = start();
	uint64_t until = patience_end();
	int client = dial(f);

	(void)state;
	shake_hands(f, true, true);
	offer(f, RX, 1, BUFFER);
	for (unsigned i = 0; i < 3; i++) {
		close(client);
		while (vport_host_is_there(f->dev))
			assert_true(now_ns() < until);
		client = dial(f);
		while (!vport_host_is_there(f->dev))
			assert_true(now_ns() < until);
	}
	expect(f, PORT_OPEN, 0);
	expect(f, PORT_OPEN, 1);
	offer(f, CTRL_RX, 1, sizeof(struct message));
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[CTRL_RX], NULL, NULL));
	close(client);
	end(f);
}

static void test_what_is_written_for_nobody_is_counted(void **state)
{
	struct fixture *f = start();
	int client;
	char got[4];

	(void)state;
	shake_hands(f, false, true);
	transmit(f, TX, text, 5000);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes, 5000);
	client = dial(f);
	expect(f, PORT_OPEN, 1);
	transmit(f, TX, "next", 4);
	read_all(client, got, 4);
	assert_memory_equal(got, "next", 4);
	close(client);
	end(f);
}

/* Fills the socket of a client that does not read; returns how much is with the driver still. */
static unsigned fill(struct fixture *f)
{
	unsigned sent = 0, done = 0;

	for (; sent < 50; sent++)
		transmit(f, TX, text + sent % 16 * 65536, 65536);
	settle(f->loop);
	while (drv_used(&f->d.queue[TX], NULL, NULL))
		done++;
	assert_in_range(done, 1, sent - 1);
	return sent - done;
}

/* What the host does not read yet waits in the guest, however slowly it does. */
static void test_a_slow_reader_gets_all(void **state)
{
	struct fixture *f = start();
	static uint8_t got[65536];
	int client = dial(f);
	unsigned left;

	(void)state;
	shake_hands(f, true, true);
	left = fill(f);
	for (unsigned i = 0; i < 50; i++) {
		read_all(client, got, sizeof(got));
		assert_memory_equal(got, text + i % 16 * 65536, sizeof(got));
	}
	while (left--)
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes, 0);
	close(client);
	end(f);
}

/* A reader that takes nothing does not keep the guest waiting for ever; and is served again when it does. */
static void test_a_reader_that_is_stuck_is_given_up(void **state)
{
	struct fixture *f = start();
	struct pollfd p;
	static uint8_t got[65536];
	uint64_t until = patience_end();
	int client = dial(f);
	unsigned left;

	(void)state;
	shake_hands(f, true, true);
	for (left = fill(f); left; left--)
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes + counters(f).tx_bytes, 50 * 65536);
	assert_true(counters(f).lost_bytes > 0);
	p = (struct pollfd){.fd = client, .events = POLLIN};
	while (poll(&p, 1, 0) == 1) /* it wakes up */
		assert_true(read(client, got, sizeof(got)) > 0);
	for (got[0] = 0; got[0] != 'x';) {
		transmit(f, TX, "x", 1);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		if (poll(&p, 1, 1) == 1)
			read_all(client, got, 1);
		assert_true(now_ns() < until);
	}
	close(client);
	end(f);
}

/* The rest of a chain, and of the queue, is not for whoever comes next. */
static void test_a_client_that_leaves_unread_data_is_replaced(void **state)
{
	struct fixture *f = start();
	int client = dial(f), next;
	char got[4];
	unsigned left;

	(void)state;
	shake_hands(f, true, true);
	offer(f, RX, 1, BUFFER); /* where the end is found */
	left = fill(f);
	next = dial(f);
	close(client);
	expect(f, PORT_OPEN, 0);
	expect(f, PORT_OPEN, 1);
	while (left--)
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	transmit(f, TX, "mine", 4);
	read_all(next, got, 4);
	assert_memory_equal(got, "mine", 4);
	assert_true(counters(f).lost_bytes > 0);
	close(next);
	end(f);
}

/* A driver that lets go of the device with a reader that is stuck: it has its second, and no more. */
static void test_a_reset_does_not_wait_for_a_reader(void **state)
{
	struct fixture *f = start();
	int client = dial(f);

	(void)state;
	shake_hands(f, true, true);
	fill(f);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(counters(f).lost_bytes + counters(f).tx_bytes, 50 * 65536);
	shake_hands(f, true, true);
	assert_int_equal(write(client, "still there", 11), 11);
	guest_reads(f, "still there", 11);
	close(client);
	end(f);
}

/* What is written just before the end arrives. */
static void test_last_words(void **state)
{
	struct fixture *f = start();
	int client = dial(f);
	char got[6];
	struct drv_buf buf = {drv_alloc(&f->d, 6, 1), 6, false};

	(void)state;
	shake_hands(f, true, true);
	memcpy(drv_ptr(&f->d, buf.addr, 6), "enough", 6);
	drv_add(&f->d.queue[TX], &buf, 1); /* and no time left to kick */
	virtio_dev_quiesce(f->dev);
	read_all(client, got, 6);
	assert_memory_equal(got, "enough", 6);
	close(client);
	end(f);
}

/* Without MULTIPORT there is one port, which is always open, and has no name. */
static void test_a_driver_without_control_messages(void **state)
{
	int pair[2];
	struct vport_end there;
	struct fixture *f;
	char got[3];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	there = an_end(pair[0]);
	f = start_with(&there, PLAIN);
	assert_int_equal(write(pair[1], "in", 2), 2);
	guest_reads(f, "in", 2);
	transmit(f, TX, "out", 3);
	read_all(pair[1], got, 3);
	assert_memory_equal(got, "out", 3);
	drv_write32(&f->d, VIRTIO_MMIO_QUEUE_SEL, CTRL_RX);
	drv_reset(&f->d);
	assert_false(vport_guest_is_there(f->dev));
	close(pair[1]);
	end(f);
}

/* A file to append to; its end is never seen. */
static void test_a_file(void **state)
{
	struct vport_end there = an_end(memfd_create("out", MFD_CLOEXEC));
	int copy = dup(there.fd);
	struct fixture *f;
	char got[6];

	(void)state;
	there.reads = false;
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	offer(f, RX, 1, BUFFER);
	transmit(f, TX, "abcdef", 6);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(pread(copy, got, 6, 0), 6);
	assert_memory_equal(got, "abcdef", 6);
	settle(f->loop);
	assert_false(drv_used(&f->d.queue[RX], NULL, NULL));
	end(f);
	close(copy);
}

/* Its end is that of the port. */
static void test_a_file_to_read_from(void **state)
{
	struct vport_end there = an_end(memfd_create("in", MFD_CLOEXEC));
	struct fixture *f;

	(void)state;
	assert_int_equal(pwrite(there.fd, text, 10000, 0), 10000);
	there.writes = false;
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	transmit(f, TX, "x", 1);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes, 1);
	guest_reads(f, text, 10000);
	offer(f, RX, 1, BUFFER);
	expect(f, PORT_OPEN, 0);
	end(f);
}

/* A full disk, or a device that is broken. */
static void test_a_file_that_takes_nothing(void **state)
{
	struct vport_end there = an_end(open("/dev/full", O_WRONLY));
	struct fixture *f;

	(void)state;
	there.reads = false;
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	transmit(f, TX, text, 4096);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes, 4096);
	assert_false(is_broken(f));
	end(f);
}

static void test_a_pipe_whose_reader_goes(void **state)
{
	struct vport_end there;
	struct fixture *f;
	int fd[2];

	(void)state;
	assert_int_equal(pipe2(fd, O_NONBLOCK | O_CLOEXEC), 0);
	there = an_end(fd[1]);
	there.reads = false;
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	close(fd[0]);
	expect(f, PORT_OPEN, 0);
	transmit(f, TX, text, 10);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(counters(f).lost_bytes, 10);
	end(f);
}

/* Nobody has opened it yet, and programs come and go: that is no hang-up, and what fits is kept. */
static void test_a_pseudo_terminal(void **state)
{
	struct vport_config config = {.name = "t", .pty = true};
	struct device_host host = {.mem = NULL};
	struct vport_end there;
	struct fixture *f;
	struct error e = {""};
	char got[5], where[128];

	(void)state;
	if (vport_end_open(&there, &config, &host, &e) < 0)
		fail_msg("%s", e.msg);
	strcpy(where, there.where);
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	for (unsigned i = 0; i < 2; i++) {
		int program;

		transmit(f, TX, "\r\n\3x\4", 5);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		program = open(where, O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(program >= 0);
		read_all(program, got, 5);
		assert_memory_equal(got, "\r\n\3x\4", 5);
		assert_int_equal(write(program, "\3\n", 2), 2);
		guest_reads(f, "\3\n", 2);
		close(program);
	}
	/* Nobody reads: the guest is not held up for ever. */
	for (unsigned i = 0; i < 40; i++)
		transmit(f, TX, text, 4096);
	for (unsigned i = 0; i < 40; i++)
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_true(counters(f).lost_bytes > 0);
	end(f);
}

/* Who is restored has another end: the guest sees that as a client that left and one that came. */
static void test_a_saved_port_goes_on_with_another_client(void **state)
{
	struct virtio_state saved;
	struct vport_end there;
	struct error e = {""};
	struct fixture *f;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	there = an_end(pair[0]);
	f = start_with(&there, ALL);
	shake_hands(f, true, true);
	virtio_dev_pause(f->dev);
	assert_int_equal(virtio_dev_save(f->dev, &saved, &e), 0);
	down(f);
	close(pair[1]);
	memset(f->d.page, 0, VIRTIO_MMIO_PAGE);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	there = an_end(pair[0]);
	up(f, &there);
	if (virtio_dev_restore(f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(vport_guest_is_there(f->dev));
	expect(f, PORT_OPEN, 0);
	expect(f, PORT_OPEN, 1);
	assert_int_equal(write(pair[1], "new", 3), 3);
	guest_reads(f, "new", 3);
	close(pair[1]);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_driver_is_told_of_the_port),
		cmocka_unit_test(test_bytes_pass_both_ways),
		cmocka_unit_test(test_input_waits_until_the_port_is_open),
		cmocka_unit_test(test_what_a_client_sent_before_it_left_arrives),
		cmocka_unit_test(test_a_client_that_has_said_all_is_answered),
		cmocka_unit_test(test_clients_come_one_after_the_other),
		cmocka_unit_test(test_a_change_of_clients_is_not_missed),
		cmocka_unit_test(test_what_is_written_for_nobody_is_counted),
		cmocka_unit_test(test_a_slow_reader_gets_all),
		cmocka_unit_test(test_a_reader_that_is_stuck_is_given_up),
		cmocka_unit_test(test_a_client_that_leaves_unread_data_is_replaced),
		cmocka_unit_test(test_a_reset_does_not_wait_for_a_reader),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_a_driver_without_control_messages),
		cmocka_unit_test(test_a_file),
		cmocka_unit_test(test_a_file_to_read_from),
		cmocka_unit_test(test_a_file_that_takes_nothing),
		cmocka_unit_test(test_a_pipe_whose_reader_goes),
		cmocka_unit_test(test_a_pseudo_terminal),
		cmocka_unit_test(test_a_saved_port_goes_on_with_another_client),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7 + i / 251);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
