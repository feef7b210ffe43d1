// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "base/writer.h"

static struct writer *start(int fd)
{
	struct error e = {""};
	struct writer *w;

	if (writer_new(&w, fd, "test", &e) || writer_start(w, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	return w;
}

static struct writer_count end(struct writer *w, uint64_t ns)
{
	struct writer_count count;

	writer_stop(w, ns);
	count = writer_count(w);
	writer_free(w);
	return count;
}

/* Each kind of descriptor that may block, twice: what skep writes to, what nobody reads from. */
enum kind { PIPE, SOCKET, TERMINAL, KINDS };

static void open_kind(enum kind kind, int fd[2])
{
	struct termios raw = {0};
	int ends[2];

	switch (kind) {
	case PIPE:
		assert_int_equal(pipe(ends), 0);
		fd[0] = ends[1];
		fd[1] = ends[0];
		break;
	case SOCKET:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		break;
	default:
		cfmakeraw(&raw);
		assert_int_equal(openpty(&fd[1], &fd[0], NULL, &raw, NULL), 0);
	}
}

static void test_reader_that_stalls_holds_up_nobody(void **state)
{
	static uint8_t data[3 * WRITER_SIZE];

	(void)state;
	for (enum kind kind = PIPE; kind < KINDS; kind++)
		for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
			struct writer_count count;
			struct writer *w;
			int fd[2];

			open_kind(kind, fd);
			assert_int_equal(fcntl(fd[0], F_SETFL,
					       (fcntl(fd[0], F_GETFL) & ~O_NONBLOCK) | flags),
					 0);
			w = start(fd[0]);
			writer_put(w, data, sizeof(data));
			/* The description is shared: its mode stays what it was. */
			assert_int_equal(fcntl(fd[0], F_GETFL) & O_NONBLOCK, flags);
			count = end(w, 0);
			assert_int_equal(count.written + count.lost, sizeof(data));
			assert_true(count.lost >= 2 * WRITER_SIZE);
			close(fd[0]);
			close(fd[1]);
		}
}

static void test_a_slow_reader_gets_what_waits_at_the_end(void **state)
{
	static uint8_t data[WRITER_SIZE], got[WRITER_SIZE];
	struct writer_count count;
	int fd = memfd_create("out", 0);
	struct writer *w = start(fd);

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	for (unsigned i = 0; i < 3; i++) /* once round the ring */
		writer_put(w, data + i * 1000, 1000);
	writer_put(w, data + 3000, sizeof(data) - 3000);
	count = end(w, 20 * NSEC_PER_SEC);
	assert_int_equal(count.lost, 0);
	assert_int_equal(count.written, sizeof(data));
	assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
	assert_memory_equal(got, data, sizeof(data));
	close(fd);
}

static void test_nobody_there(void **state)
{
	struct writer_count count;
	struct writer *w;
	int fd[2];

	(void)state;
	open_kind(PIPE, fd);
	close(fd[1]);
	w = start(fd[0]);
	for (unsigned i = 0; i < 100; i++)
		writer_put(w, "lost", 4);
	count = end(w, 20 * NSEC_PER_SEC); /* not that long: there is nothing to wait for */
	assert_int_equal(count.lost, 400);
	assert_int_equal(count.written, 0);
	close(fd[0]);
}

/* A client that hangs up, and the next one: what came meanwhile is for that. */
static void test_readers_come_and_go(void **state)
{
	char got[16], *big = calloc(2, WRITER_SIZE);
	struct writer_count count;
	struct writer *w;
	int fd[2], out;

	(void)state;
	out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_int_equal(writer_new(&w, out, "test", NULL), 0);
	writer_await(w);
	assert_int_equal(writer_start(w, NULL, NULL, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		writer_put(w, "early", 5);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_true(dup3(fd[0], out, O_CLOEXEC) >= 0);
		close(fd[0]);
		writer_resume(w);
		writer_put(w, " late", 5);
		for (size_t n = 0; n < 10;)
			n += (size_t)read(fd[1], got + n, 10 - n);
		assert_memory_equal(got, "early late", 10);
		close(fd[1]);
	}
	/* Nobody comes any more: some of it is kept in vain. */
	writer_put(w, big, 2 * WRITER_SIZE);
	count = end(w, NSEC_PER_SEC);
	assert_int_equal(count.written, 30);
	assert_int_equal(count.lost, 2 * WRITER_SIZE);
	free(big);
	close(out);
}

/* A full disk is no slow reader. */
static void test_why_output_is_lost(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct writer_count count;
	struct writer *w;

	(void)state;
	assert_int_equal(writer_new(&w, full, "test", NULL), 0);
	writer_put(w, "lost", 4);
	assert_int_equal(writer_start(w, NULL, NULL, NULL), 0);
	count = end(w, NSEC_PER_SEC);
	assert_int_equal(count.lost, 4);
	assert_int_equal(count.error, ENOSPC);
	close(full);
}

/* All that was written is in order in the two files, of which none is larger than it may be. */
static void test_a_file_is_rotated(void **state)
{
	char path[] = "/tmp/skep-test-writer-XXXXXX", text[16];
	int fd = mkstemp(path);
	int again = open(path, O_RDONLY | O_CLOEXEC), old = memfd_create("old", MFD_CLOEXEC);
	struct writer *w;
	off_t both[2];

	(void)state;
	assert_true(fd >= 0 && again >= 0 && old >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
	assert_int_equal(fcntl(old, F_SETFL, O_APPEND), 0);
	assert_int_equal(write(fd, "before\n", 7), 7);
	assert_int_equal(writer_new(&w, fd, "test", NULL), 0);
	writer_limit(w, 70000, again, old);
	writer_rotate(w); /* there is something to be moved */
	assert_int_equal(writer_start(w, NULL, NULL, NULL), 0);
	writer_stop(w, NSEC_PER_SEC);
	writer_rotate(w); /* and nothing */
	assert_int_equal(writer_start(w, NULL, NULL, NULL), 0);
	writer_stop(w, NSEC_PER_SEC);
	assert_int_equal(pread(old, text, sizeof(text), 0), 7);
	assert_memory_equal(text, "before\n", 7);
	assert_int_equal(lseek(again, 0, SEEK_END), 0);

	assert_int_equal(writer_start(w, NULL, NULL, NULL), 0);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(text, sizeof(text), "%09u\n", i);
		writer_put(w, text, 10);
	}
	writer_stop(w, 20 * NSEC_PER_SEC);
	assert_int_equal(writer_count(w).written, 200000);
	both[0] = lseek(old, 0, SEEK_END);
	both[1] = lseek(again, 0, SEEK_END);
	assert_in_range(both[0], 50000, 70000);
	assert_in_range(both[1], 1, 70000);
	for (off_t at = 200000 - both[0] - both[1], n = 0; n < both[0] + both[1]; n++, at++) {
		char byte, want[16];

		snprintf(want, sizeof(want), "%09u\n", (unsigned)(at / 10));
		assert_int_equal(n < both[0] ? pread(old, &byte, 1, n)
					     : pread(again, &byte, 1, n - both[0]),
				 1);
		assert_int_equal(byte, want[at % 10]);
	}
	writer_free(w);
	close(fd);
	close(again);
	close(old);
	unlink(path);
}

static void test_a_full_disk_is_tried_again(void **state)
{
	int fd = memfd_create("out", 0);
	struct rlimit old, none;
	struct writer_count count;
	struct writer *w = start(fd);
	char got[8] = "";

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	none = (struct rlimit){.rlim_cur = 2, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	writer_put(w, "kept", 4);
	usleep(50000);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	while (writer_count(w).written < 4)
		usleep(1000);
	count = end(w, 0);
	assert_int_equal(count.lost, 0);
	assert_int_equal(pread(fd, got, sizeof(got), 0), 4);
	assert_string_equal(got, "kept");
	close(fd);

	/* At the end nothing waits for it. */
	fd = open("/dev/full", O_WRONLY);
	w = start(fd);
	writer_put(w, "lost", 4);
	count = end(w, 20 * NSEC_PER_SEC);
	assert_int_equal(count.lost, 4);
	close(fd);
}

static int refuse(void *arg)
{
	(void)arg;
	return -EPERM;
}

static void test_a_thread_that_cannot_be_set_up(void **state)
{
	struct error e = {""};
	struct writer *w;

	(void)state;
	assert_int_equal(writer_new(&w, STDOUT_FILENO, "console", &e), 0);
	assert_int_equal(writer_start(w, refuse, NULL, &e), -EPERM);
	assert_non_null(strstr(e.msg, "console"));
	end(w, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader_that_stalls_holds_up_nobody),
		cmocka_unit_test(test_a_slow_reader_gets_what_waits_at_the_end),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_readers_come_and_go),
		cmocka_unit_test(test_why_output_is_lost),
		cmocka_unit_test(test_a_file_is_rotated),
		cmocka_unit_test(test_a_full_disk_is_tried_again),
		cmocka_unit_test(test_a_thread_that_cannot_be_set_up),
	};

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
