// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "console/console.h"
#include "driver.h"
#include "loops.h"
#include "patience.h"

#define RX    0u
#define TX    1u
#define INPUT 4096u /* bytes that the device takes without a buffer of the guest's */

struct fixture {
	struct drv d;
	struct loop *loop;
	struct tty tty;
	struct virtio_dev *dev;
	int user_in, user_out; /* the user's ends: to write to, to read from */
	struct turns turns;
};

/* The device on `in` and `out`, at DRIVER_OK, its loop running. */
static struct fixture *start_with(void **state, int in, int out, uint64_t features)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error e = {""};

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	drv_init(&f->d, 16 * MIB);
	f->tty.in_fd = in;
	f->tty.out_fd = out;
	if (loop_new(&f->loop, "test", *(const enum loop_engine *)*state, 8, &e) ||
	    (out >= 0 && writer_new(&f->tty.writer, out, "console", &e)) ||
	    console_device_new(&f->dev, &f->d.mem, &f->tty, f->loop, &e) ||
	    tty_start(&f->tty, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	count_turns(f->loop, &f->turns);
	drv_attach(&f->d, f->dev);
	if (loop_start(f->loop, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	if (features)
		drv_start(&f->d, features, 0);
	return f;
}

#define ALL   UINT64_MAX
#define PLAIN (1ull << VIRTIO_F_VERSION_1) /* no EVENT_IDX */

/* The same with pipes: `user_in` and `user_out` do not block, the device's ends do. */
static struct fixture *start(void **state, uint64_t features)
{
	struct fixture *f;
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	assert_int_equal(fcntl(in[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	f = start_with(state, in[0], out[1], features);
	f->user_in = in[1];
	f->user_out = out[0];
	return f;
}

static void end(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
	writer_stop(f->tty.writer, 0);
	writer_free(f->tty.writer);
	if (f->tty.in_fd >= 0)
		close(f->tty.in_fd);
	if (f->tty.out_fd >= 0)
		close(f->tty.out_fd);
	if (f->user_in > 0)
		close(f->user_in);
	if (f->user_out > 0)
		close(f->user_out);
	drv_free(&f->d);
	free(f);
}

/* Input flows: the pause after DRIVER_OK is over. */
static void await_input(struct fixture *f)
{
	struct drv_buf buf = {drv_alloc(&f->d, 1, 1), 1, true};

	assert_int_equal(write(f->user_in, "!", 1), 1);
	assert_true(drv_add(&f->d.queue[RX], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[RX]);
	drv_wait_used(&f->d.queue[RX], NULL, NULL);
}

static bool is_broken(struct fixture *f)
{
	settle(f->loop);
	return drv_is_broken(&f->d);
}

/* Exactly `len` bytes from the user's end. */
static void read_all(int fd, void *buf, size_t len)
{
	for (size_t n = 0; n < len;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t r;

		assert_int_equal(poll(&p, 1, patience_ms()), 1);
		r = read(fd, (char *)buf + n, len - n);
		assert_true(r > 0);
		n += (size_t)r;
	}
}

/* Transmits `len` bytes in one buffer, without waiting. */
static int send(struct fixture *f, const void *data, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, false};
	int head;

	memcpy(drv_ptr(&f->d, buf.addr, len), data, len);
	head = drv_add(&f->d.queue[TX], &buf, 1);
	assert_true(head >= 0);
	drv_kick_if_needed(&f->d.queue[TX]);
	return head;
}

static gpa_t offer(struct fixture *f, uint32_t len)
{
	struct drv_buf buf = {drv_alloc(&f->d, len, 1), len, true};

	assert_true(drv_add(&f->d.queue[RX], &buf, 1) >= 0);
	drv_kick_if_needed(&f->d.queue[RX]);
	return buf.addr;
}

static void test_output_arrives_as_it_is(void **state)
{
	static const char text[] = "plain\x1b[31m\0\x01x\xff";
	char got[64];
	uint32_t id, len;

	for (int plain = 0; plain < 2; plain++) {
		struct fixture *f = start(state, plain ? PLAIN : ALL);

		for (int i = 0; i < 200; i++) { /* more than the queue is long */
			int head = send(f, text, sizeof(text));

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

static void test_input_fills_buffers(void **state)
{
	for (int plain = 0; plain < 2; plain++) {
		struct fixture *f = start(state, plain ? PLAIN : ALL);
		gpa_t a = offer(f, 4), b = offer(f, 4), c;
		uint32_t len;

		assert_int_equal(write(f->user_in, "123456", 6), 6);
		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_int_equal(len, 4);
		assert_memory_equal(drv_ptr(&f->d, a, 4), "1234", 4);
		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_int_equal(len, 2);
		assert_memory_equal(drv_ptr(&f->d, b, 4), "56\0\0", 4);

		/* Input before the buffer. */
		assert_int_equal(write(f->user_in, "7", 1), 1);
		settle(f->loop);
		c = offer(f, 4);
		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_int_equal(len, 1);
		assert_memory_equal(drv_ptr(&f->d, c, 4), "7\0\0\0", 4);
		assert_false(is_broken(f));
		end(f);
	}
}

/* Linux discards what it gets while it sets its port up, with buffers offered already; it may print
 * all of its log meanwhile. */
static void test_input_waits_for_silence(void **state)
{
	struct fixture *f = start(state, 0);
	uint64_t begun, last, slowest = 0;
	uint32_t len;
	bool early = false;

	assert_int_equal(write(f->user_in, "piped", 5), 5);
	for (int times = 0; times < 2; times++) { /* a second driver is like the first */
		drv_start(&f->d, ALL, 0);
		begun = last = now_ns();
		offer(f, 3);
		while (!early && last - begun < 250000000) {
			send(f, "log", 3);
			drv_wait_used(&f->d.queue[TX], NULL, NULL);
			early = drv_used(&f->d.queue[RX], NULL, &len);
			read_all(f->user_out, (char[3]){0}, 3);
			usleep(1000);
			slowest = MAX(slowest, now_ns() - last);
			last = now_ns();
		}
		/* On a machine so busy that this was silent itself, nothing can be told. */
		assert_true(!early || slowest > 50000000);
		if (!early)
			drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_int_equal(len, times ? 2 : 3);
		early = false;
	}
	end(f);
}

/* But a guest that is never silent gets its input, too. */
static void test_input_does_not_wait_for_ever(void **state)
{
	struct fixture *f = start(state, ALL);
	uint64_t limit = patience_end();

	assert_int_equal(write(f->user_in, "piped", 5), 5);
	offer(f, 5);
	while (!drv_used(&f->d.queue[RX], NULL, NULL)) {
		assert_true(now_ns() < limit);
		send(f, "log", 3);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		read_all(f->user_out, (char[3]){0}, 3);
		usleep(1000);
	}
	end(f);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

/* Writes the pattern until the pipe is full, as long as nobody takes anything: bytes written. */
static size_t pour(struct fixture *f, size_t from)
{
	size_t n = from;

	for (int idle = 0; idle < 10;) {
		uint8_t part[1000];
		ssize_t r;

		for (size_t i = 0; i < sizeof(part); i++)
			part[i] = pattern(n + i);
		r = write(f->user_in, part, sizeof(part));
		if (r > 0) {
			n += (size_t)r;
			idle = 0;
		} else {
			usleep(1000);
			idle++;
		}
	}
	return n - from;
}

/* CVE-2020-27174: a guest that takes no input must not make the monitor collect it without bound.
 * And CVE-2020-16843: nor may its console freeze for good when its buffers ran out. */
static void test_input_waits_for_the_guest(void **state)
{
	struct fixture *f = start(state, ALL);
	size_t pipe_size = (size_t)fcntl(f->user_in, F_GETPIPE_SZ), total, n = 0;
	struct drv_buf buf = {drv_alloc(&f->d, 61, 1), 61, true};
	uint8_t *data = drv_ptr(&f->d, buf.addr, 61);

	total = pour(f, 0);
	assert_in_range(total, INPUT, pipe_size + INPUT);
	/* One small buffer at a time, so that the queue runs dry after each. */
	while (n < total) {
		uint32_t len;

		assert_true(drv_add(&f->d.queue[RX], &buf, 1) >= 0);
		drv_kick_if_needed(&f->d.queue[RX]);
		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_in_range(len, 1, 61);
		for (uint32_t i = 0; i < len; i++)
			assert_int_equal(data[i], pattern(n++));
		if (n < 300000 && n > total - 1000)
			total += pour(f, total);
	}
	assert_int_equal(n, total);
	assert_true(total > 300000);
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
		send(f, text, sizeof(text));
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
	send(f, "again", 5);
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
		send(f, "lost", 4);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	assert_false(is_broken(f));
	end(f);
}

static void test_full_disk_is_not_the_guests_problem(void **state)
{
	struct fixture *f = start_with(state, -1, open("/dev/full", O_WRONLY), ALL);

	for (int i = 0; i < 100; i++) {
		send(f, "lost", 4);
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
	send(f, "kept", 4);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	assert_int_equal(tty_replace_file(&f->tty, next, NULL), 0);
	send(f, ", new", 5);
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
	send(f, text, sizeof(text));
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

static void test_no_input_at_all(void **state)
{
	struct fixture *f = start_with(state, open("/dev/null", O_RDONLY), -1, ALL);

	send(f, "discarded", 9);
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
	offer(f, 100);
	settle(f->loop);
	f->turns.n = 0;
	usleep(20000);
	settle(f->loop);
	assert_true(f->turns.n < 20);
	assert_false(drv_used(&f->d.queue[RX], NULL, NULL));
	end(f);
}

static void test_hung_up_input_does_not_spin(void **state)
{
	struct fixture *f = start(state, ALL);

	assert_int_equal(write(f->user_in, "last", 4), 4);
	close(f->user_in);
	f->user_in = -1;
	settle(f->loop);
	f->turns.n = 0;
	usleep(20000);
	settle(f->loop);
	assert_true(f->turns.n < 20);
	offer(f, 100); /* what came before is not lost */
	drv_wait_used(&f->d.queue[RX], NULL, NULL);
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
		send(f, "y", 1);
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

static _Atomic bool quit;

static void on_quit(void *ctx)
{
	(void)ctx;
	quit = true;
}

/* On the loop: what is a pipe has the escape key from now on. */
static void become_terminal(void *arg)
{
	struct fixture *f = arg;

	quit = false;
	f->tty.quit = on_quit;
	f->tty.is_terminal = true;
}

/* The way out must not depend on a guest that reads. */
static void test_escape_key_works_when_the_guest_is_deaf(void **state)
{
	struct fixture *f = start(state, 0);

	loop_call(f->loop, become_terminal, f);
	for (int i = 0; i < 100; i++)
		assert_int_equal(write(f->user_in, "is anybody there? ", 18), 18);
	assert_int_equal(write(f->user_in, "\x01x", 2), 2);
	for (uint64_t limit = patience_end(); now_ns() < limit && !atomic_load(&quit);)
		usleep(1000);
	assert_true(quit);
	end(f);
}

/* Not even one that has long filled all buffers, and the terminal's with them. */
static void test_escape_key_works_after_any_amount_of_input(void **state)
{
	struct fixture *f = start(state, 0);
	static char text[4096];

	loop_call(f->loop, become_terminal, f);
	fcntl(f->user_in, F_SETFL, 0);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(write(f->user_in, text, sizeof(text)), sizeof(text));
	assert_int_equal(write(f->user_in, "\x01x", 2), 2);
	for (int ms = 0; ms < 20000 && !atomic_load(&quit); ms++)
		usleep(1000);
	assert_true(quit);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_output_arrives_as_it_is),
		BOTH(test_output_of_many_buffers),
		BOTH(test_input_fills_buffers),
		EPOLL(test_input_waits_for_silence),
		EPOLL(test_input_does_not_wait_for_ever),
		BOTH(test_input_waits_for_the_guest),
		BOTH(test_reader_that_stalls_does_not_stall_the_guest),
		BOTH(test_output_to_a_closed_pipe_is_discarded),
		BOTH(test_full_disk_is_not_the_guests_problem),
		BOTH(test_a_file_after_one_that_broke),
		BOTH(test_regular_files),
		BOTH(test_no_input_at_all),
		BOTH(test_hung_up_input_does_not_spin),
		BOTH(test_wrong_direction_is_an_error),
		BOTH(test_zero_length_buffers_come_back),
		BOTH(test_size_and_resize),
		BOTH(test_the_terminals_size_comes_with_driver_ok),
		BOTH(test_emergency_write),
		BOTH(test_work_of_a_turn_is_bounded),
		BOTH(test_last_words),
		BOTH(test_escape_key_works_when_the_guest_is_deaf),
		BOTH(test_escape_key_works_after_any_amount_of_input),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
