// SPDX-License-Identifier: BSD-2-Clause
/* The console's output, its size, and what is true of both directions. */
#include "console_fixture.h"

/* Input flows: the pause after DRIVER_OK is over. */
static void await_input(struct fixture *f)
{
	struct drv_buf buf = {drv_alloc(&f->d, 1, 1), 1, true};

	assert_int_equal(write(f->user_in, "!", 1), 1);
	assert_true(drv_add(&f->d.queue[RX], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[RX]);
	drv_wait_used(&f->d.queue[RX], NULL, NULL);
}

static void test_output_arrives_as_it_is(void **state)
{
	static const char text[] = "plain\x1b[31m\0\x01x\xff";
	char got[64];
	uint32_t id, len;

	for (int plain = 0; plain < 2; plain++) {
		struct fixture *f = start(state, plain ? PLAIN : ALL);

		for (int i = 0; i < 200; i++) { /* more than the queue is long */
			int head = transmit(f, text, sizeof(text));

			drv_wait_used(&f->d.queue[TX], &id, &len);
			assert_int_equal(id, head);
			assert_int_equal(len, 0);
			read_all(f->user_out, got, sizeof(text));
			assert_memory_equal(got, text, sizeof(text));
		}
		end(f);
	}
}

static void test_output_of_many_buffers(void **state)
{
	struct fixture *f = start(state, ALL);
	struct drv_buf buf[64];
	char got[64];

	for (unsigned i = 0; i < 64; i++) {
		buf[i] = (struct drv_buf){drv_alloc(&f->d, 1, 1), i % 8 ? 1 : 0, false};
		*(char *)drv_ptr(&f->d, buf[i].addr, 1) = (char)('0' + i);
	}
	for (int indirect = 0; indirect < 2; indirect++) {
		if (indirect)
			drv_add_indirect(&f->d.queue[TX], buf, 64);
		else
			drv_add(&f->d.queue[TX], buf, 64);
		drv_kick_if_needed(&f->d.queue[TX]);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		read_all(f->user_out, got, 56);
		for (unsigned i = 0, n = 0; i < 64; i++)
			assert_true(i % 8 == 0 || got[n++] == (char)('0' + i));
	}
	assert_false(is_broken(f));
	end(f);
}

/* Linux's driver spins for the console with interrupts off: a reader that stalls (a pager, a log
 * daemon that is stuck) must not freeze the guest. */
static void test_reader_that_stalls_does_not_stall_the_guest(void **state)
{
	static uint8_t text[16384], got[sizeof(text)];
	struct fixture *f = start(state, ALL);
	uint64_t arrived = 0;
	unsigned missing;
	char line[64];
	gpa_t in;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = pattern(i);
	for (unsigned i = 0; i < 256; i++) { /* 4 MiB, of which nobody reads any */
		transmit(f, text, sizeof(text));
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	in = offer(f, 1);
	assert_int_equal(write(f->user_in, "i", 1), 1);
	drv_wait_used(&f->d.queue[RX], NULL, NULL);
	assert_memory_equal(drv_ptr(&f->d, in, 1), "i", 1);

	/* What was kept comes whole, then how much was not, then what was sent after that. */
	for (;; arrived++) {
		read_all(f->user_out, got, 1);
		if (got[0] != pattern(arrived % sizeof(text)))
			break;
	}
	assert_in_range(arrived, WRITER_SIZE, WRITER_SIZE + 100 * KIB);
	read_all(f->user_out, line, strlen("\n[skep: "));
	for (size_t i = 0; i == 0 || line[i - 1] != '\n'; i++)
		read_all(f->user_out, line + i, 1);
	assert_int_equal(sscanf(line, "%u bytes are missing here", &missing), 1);
	assert_int_equal(arrived + missing, 256 * sizeof(text));
	transmit(f, "again", 5);
	read_all(f->user_out, got, 5);
	assert_memory_equal(got, "again", 5);
	writer_stop(f->tty.writer, NSEC_PER_SEC);
	assert_int_equal(writer_count(f->tty.writer).lost, missing);
	assert_int_equal(writer_count(f->tty.writer).written, arrived + 5);
	end(f);
}

static void test_output_to_a_closed_pipe_is_discarded(void **state)
{
	struct fixture *f = start(state, ALL);

	close(f->user_out);
	f->user_out = -1;
	for (int i = 0; i < 100; i++) {
		transmit(f, "lost", 4);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	assert_false(is_broken(f));
	end(f);
}

static void test_full_disk_is_not_the_guests_problem(void **state)
{
	struct fixture *f = start_with(state, -1, open("/dev/full", O_WRONLY), ALL);

	for (int i = 0; i < 100; i++) {
		transmit(f, "lost", 4);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	assert_false(is_broken(f));
	end(f);
}

/* Where nothing can be written: this process's address 0. */
static void test_a_file_after_one_that_broke(void **state)
{
	struct fixture *f = start_with(state, -1, open("/proc/self/mem", O_RDWR), ALL);
	int next = memfd_create("next", MFD_CLOEXEC);
	char got[16];

	f->tty.is_file = true;
	transmit(f, "kept", 4);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(tty_replace_file(&f->tty, next, NULL), 0);
	transmit(f, ", new", 5);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_false(is_broken(f));
	writer_stop(f->tty.writer, 20 * NSEC_PER_SEC);
	assert_int_equal(pread(next, got, sizeof(got), 0), 9);
	assert_memory_equal(got, "kept, new", 9);
	close(next);
	end(f);
}

static void test_regular_files(void **state)
{
	int in = memfd_create("in", 0), out = memfd_create("out", 0);
	uint8_t text[20000], got[20000];
	struct fixture *f;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = pattern(i);
	assert_int_equal(write(in, text, sizeof(text)), sizeof(text));
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	f = start_with(state, in, out, ALL);

	while (n < sizeof(text)) {
		gpa_t buf = offer(f, 3000);
		uint32_t len;

		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_true(len <= sizeof(text) - n);
		assert_memory_equal(drv_ptr(&f->d, buf, len), text + n, len);
		n += len;
	}
	transmit(f, text, sizeof(text));
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	writer_stop(f->tty.writer, 20 * NSEC_PER_SEC);
	assert_int_equal(pread(out, got, sizeof(got), 0), sizeof(got));
	assert_memory_equal(got, text, sizeof(text));

	/* At the end of the input the loop sleeps. */
	offer(f, 100);
	settle(f->loop);
	f->turns.n = 0;
	usleep(20000);
	settle(f->loop);
	assert_true(f->turns.n < 20);
	end(f);
}

static void test_wrong_direction_is_an_error(void **state)
{
	for (unsigned q = RX; q <= TX; q++) {
		struct fixture *f = start(state, ALL);
		struct drv_buf buf[2] = {
			{drv_alloc(&f->d, 16, 1), 16, false},
			{drv_alloc(&f->d, 16, 1), 16, true},
		};

		await_input(f);
		assert_int_equal(write(f->user_in, "x", 1), 1);
		settle(f->loop);
		assert_true(drv_add(&f->d.queue[q], buf, 2) >= 0);
		drv_kick(&f->d.queue[q]);
		assert_true(is_broken(f));
		assert_false(drv_used(&f->d.queue[q], NULL, NULL));

		/* A reset mends it. */
		drv_start(&f->d, ALL, 0);
		transmit(f, "y", 1);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		end(f);
	}
}

static void test_zero_length_buffers_come_back(void **state)
{
	struct fixture *f = start(state, ALL);
	struct drv_buf in = {drv_alloc(&f->d, 1, 1), 0, true}, out = {in.addr, 0, false};
	uint32_t len;
	gpa_t buf;

	drv_add(&f->d.queue[TX], &out, 1);
	drv_kick(&f->d.queue[TX]);
	drv_wait_used(&f->d.queue[TX], NULL, &len);
	assert_int_equal(len, 0);

	drv_add(&f->d.queue[RX], &in, 1);
	buf = offer(f, 1);
	assert_int_equal(write(f->user_in, "x", 1), 1);
	drv_wait_used(&f->d.queue[RX], NULL, &len);
	assert_int_equal(len, 0);
	drv_wait_used(&f->d.queue[RX], NULL, &len);
	assert_int_equal(len, 1);
	assert_memory_equal(drv_ptr(&f->d, buf, 1), "x", 1);
	end(f);
}

static void test_size_and_resize(void **state)
{
	struct winsize size = {.ws_col = 80, .ws_row = 25};
	struct fixture *f;
	int user, terminal;
	uint32_t generation;

	assert_int_equal(openpty(&user, &terminal, NULL, NULL, &size), 0);
	f = start_with(state, terminal, dup(terminal), ALL);
	f->user_in = user;
	assert_true(virtio_has(f->dev, VIRTIO_CONSOLE_F_SIZE));
	drv_wait_irq(&f->d);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG), 25 << 16 | 80);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	drv_write32(&f->d, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	generation = drv_read32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION);

	size.ws_col = 132;
	assert_int_equal(ioctl(user, TIOCSWINSZ, &size), 0);
	drv_irqs(&f->d);
	console_device_resize(f->dev);
	drv_wait_irq(&f->d);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 25 << 16 | 132);
	assert_int_not_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION), generation);

	/* Nothing new is no news. */
	console_device_resize(f->dev);
	assert_int_equal(drv_irqs(&f->d), 0);
	end(f);

	/* Not a terminal: there is no size, and none is offered. */
	f = start(state, ALL);
	assert_false(virtio_has(f->dev, VIRTIO_CONSOLE_F_SIZE));
	console_device_resize(f->dev);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG), 0);
	assert_int_equal(drv_irqs(&f->d), 0);
	end(f);
}

/* Linux may look at the size only when it is told of a change; so there is one. Nothing is announced
 * that is none. */
static void test_the_terminals_size_comes_with_driver_ok(void **state)
{
	struct winsize size = {.ws_col = 100, .ws_row = 40};
	struct fixture *f;
	uint32_t generation;
	int user, terminal;

	assert_int_equal(openpty(&user, &terminal, NULL, NULL, &size), 0);
	f = start_with(state, terminal, dup(terminal), 0);
	f->user_in = user;
	for (unsigned round = 0; round < 2; round++) {
		assert_true(drv_negotiate(&f->d, drv_device_features(&f->d)));
		console_device_resize(f->dev);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 24 << 16 | 80);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		generation = drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION);
		drv_queue_setup(&f->d, RX, 0);
		drv_queue_setup(&f->d, TX, 0);
		drv_driver_ok(&f->d);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 40 << 16 | 100);
		assert_int_not_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG_GENERATION), generation);
		assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS),
				 VIRTIO_MMIO_INT_CONFIG);
		assert_int_equal(drv_irqs(&f->d), 1);
	}

	/* A driver that does not care is left alone, ... */
	drv_start(&f->d, ALL & ~(1ull << VIRTIO_CONSOLE_F_SIZE), 0);
	console_device_resize(f->dev);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(drv_irqs(&f->d), 0);

	/* ... and one whose terminal has the size that it was told. */
	size = (struct winsize){.ws_col = 80, .ws_row = 24};
	assert_int_equal(ioctl(user, TIOCSWINSZ, &size), 0);
	drv_start(&f->d, ALL, 0);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 24 << 16 | 80);
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(drv_irqs(&f->d), 0);
	end(f);
}

static void test_emergency_write(void **state)
{
	struct fixture *f = start(state, 0); /* the driver has not even said hello */
	char got[3];

	drv_write32(&f->d, VIRTIO_MMIO_CONFIG + 8, 0xffffff00 | 'o');
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + 8, "h", 1);
	drv_write32(&f->d, VIRTIO_MMIO_CONFIG, 'x'); /* cols is not for writing */
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + 9, "x", 1);
	virtio_mmio_write(f->dev, VIRTIO_MMIO_CONFIG + 8, "!", 1);
	read_all(f->user_out, got, 3);
	assert_memory_equal(got, "oh!", 3);
	settle(f->loop);
	assert_int_equal(read(f->user_out, got, 1), -1);
	assert_int_equal(drv_read32(&f->d, VIRTIO_MMIO_CONFIG), 0);
	end(f);
}

/* One chain of 4 MiB, and a stream of empty ones: others have their turn meanwhile. */
static void test_work_of_a_turn_is_bounded(void **state)
{
	struct fixture *f = start_with(state, -1, open("/dev/null", O_WRONLY), ALL);
	struct drv_buf buf[64], empty = {drv_alloc(&f->d, 1, 1), 0, false};

	for (unsigned i = 0; i < 64; i++)
		buf[i] = (struct drv_buf){drv_alloc(&f->d, 65536, 1), 65536, false};
	settle(f->loop);
	f->turns.n = 0;
	drv_add_indirect(&f->d.queue[TX], buf, 64);
	drv_kick(&f->d.queue[TX]);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	settle(f->loop);
	assert_true(f->turns.n >= 64);

	/* Nobody else kicks: the last one is found all the same. */
	for (unsigned i = 0; i < 64; i++)
		drv_add(&f->d.queue[TX], &empty, 1);
	drv_kick(&f->d.queue[TX]);
	for (unsigned i = 0; i < 64; i++)
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	end(f);
}

static void test_last_words(void **state)
{
	struct fixture *f = start(state, ALL);
	struct drv_buf buf = {drv_alloc(&f->d, 6, 1), 6, false};
	char got[6];

	settle(f->loop);
	memcpy(drv_ptr(&f->d, buf.addr, 6), "panic!", 6);
	drv_add(&f->d.queue[TX], &buf, 1); /* and no time left to kick */
	virtio_dev_quiesce(f->dev);
	read_all(f->user_out, got, 6);
	assert_memory_equal(got, "panic!", 6);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_output_arrives_as_it_is),
		BOTH(test_output_of_many_buffers),
		BOTH(test_reader_that_stalls_does_not_stall_the_guest),
		BOTH(test_output_to_a_closed_pipe_is_discarded),
		BOTH(test_full_disk_is_not_the_guests_problem),
		BOTH(test_a_file_after_one_that_broke),
		BOTH(test_regular_files),
		BOTH(test_wrong_direction_is_an_error),
		BOTH(test_zero_length_buffers_come_back),
		BOTH(test_size_and_resize),
		BOTH(test_the_terminals_size_comes_with_driver_ok),
		BOTH(test_emergency_write),
		BOTH(test_work_of_a_turn_is_bounded),
		BOTH(test_last_words),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
