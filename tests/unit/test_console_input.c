// SPDX-License-Identifier: BSD-2-Clause
/* The console's input: when the guest gets it, and what happens when it takes none. */
#include "console_fixture.h"

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
			transmit(f, "log", 3);
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
		transmit(f, "log", 3);
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
		read_all(f->user_out, (char[3]){0}, 3);
		usleep(1000);
	}
	end(f);
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

static void test_no_input_at_all(void **state)
{
	struct fixture *f = start_with(state, open("/dev/null", O_RDONLY), -1, ALL);

	transmit(f, "discarded", 9);
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
		BOTH(test_input_fills_buffers),
		EPOLL(test_input_waits_for_silence),
		EPOLL(test_input_does_not_wait_for_ever),
		BOTH(test_input_waits_for_the_guest),
		BOTH(test_no_input_at_all),
		BOTH(test_hung_up_input_does_not_spin),
		BOTH(test_escape_key_works_when_the_guest_is_deaf),
		BOTH(test_escape_key_works_after_any_amount_of_input),
	};

	log_set_level(LOG_ERROR); /* guests that err are what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
