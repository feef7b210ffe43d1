// SPDX-License-Identifier: BSD-2-Clause
/* The terminal: its mode, what restores it, keys, hang-ups, jobs. */
#include "tty_fixture.h"

static pid_t in_terminal(void (*fn)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); /* the test framework's, or a sanitizer's */
		DIE_IF(setsid() < 0 || ioctl(far_end, TIOCSCTTY, 0) < 0);
		for (int fd = 0; fd < 3; fd++)
			DIE_IF(dup2(far_end, fd) < 0);
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		fn();
		_exit(0);
	}
	return pid;
}

static bool is_raw(int fd)
{
	struct termios now;

	assert_int_equal(tcgetattr(fd, &now), 0);
	return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_oflag & OPOST);
}

static void assert_restored(void)
{
	struct termios now;

	assert_int_equal(tcgetattr(far_end, &now), 0);
	assert_int_equal(now.c_iflag, before.c_iflag);
	assert_int_equal(now.c_oflag, before.c_oflag);
	assert_int_equal(now.c_lflag, before.c_lflag);
	assert_int_equal(now.c_cflag, before.c_cflag);
}

/* What came to the user's end, until `until` did. */
static const char *seen(const char *until)
{
	static char text[4096];
	size_t n = 0;

	for (uint64_t end = patience_end(); now_ns() < end;) {
		ssize_t r = read(pty, text + n, sizeof(text) - 1 - n);

		n += (size_t)MAX(r, 0);
		text[n] = '\0';
		if (strstr(text, until))
			return text;
		usleep(1000);
	}
	fail_msg("saw \"%s\", not \"%s\"", text, until);
	return NULL;
}

static void open_raw(struct tty *tty)
{
	DIE_IF(tty_open(tty, &stdio_config, &host, NULL) < 0 || !tty->is_terminal);
	DIE_IF(!is_raw(STDIN_FILENO));
}

static void await_input(const struct tty *tty)
{
	struct pollfd p = {.fd = tty->in_fd, .events = POLLIN};

	DIE_IF(poll(&p, 1, patience_ms()) != 1);
}

/* Endings: each of these processes leaves the terminal as it was. */

static void end_by_close(void)
{
	struct tty tty;
	uint16_t cols, rows;

	open_raw(&tty);
	tty_size(&tty, &cols, &rows);
	DIE_IF(cols != window.ws_col || rows != window.ws_row);
	tty_close(&tty);
	DIE_IF(is_raw(STDIN_FILENO) || tty.in_fd != -1 || tty.out_fd != -1);
	tty_close(&tty);
	tty_restore();
}

static void end_by_exit(void)
{
	struct tty tty;

	open_raw(&tty);
	exit(0);
}

static void end_by_segv(void)
{
	struct tty tty;

	open_raw(&tty);
	signal(SIGALRM, SIG_IGN); /* taken by somebody else: stays theirs */
	raise(SIGALRM);
	*(volatile char *)mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 0;
}

static void end_by_abort(void)
{
	struct tty tty;

	open_raw(&tty);
	abort();
}

static void end_by_term(void)
{
	struct tty tty;

	open_raw(&tty);
	DIE_IF(write(STDOUT_FILENO, "up", 2) != 2);
	for (;;)
		pause();
}

static void test_terminal_is_restored(void **state)
{
	static const struct {
		void (*fn)(void);
		int status;
	} end[] = {
		{end_by_close, 0},
		{end_by_exit, 0},
		{end_by_abort, SIGABRT},
		{end_by_segv, SIGSEGV},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(end); i++) {
		assert_int_equal(status_of(in_terminal(end[i].fn)), end[i].status);
		assert_restored();
	}
}

static void test_terminal_is_restored_after_signals(void **state)
{
	static const int sig[] = {SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGXCPU};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sig); i++) {
		pid_t pid = in_terminal(end_by_term);

		seen("up");
		assert_true(is_raw(far_end));
		assert_int_equal(kill(pid, sig[i]), 0);
		assert_int_equal(status_of(pid), sig[i]);
		assert_restored();
	}
}

static void end_by_ignored_hangup(void)
{
	signal(SIGHUP, SIG_IGN); /* nohup */
	end_by_term();
}

static void test_nohup_is_respected(void **state)
{
	pid_t pid = in_terminal(end_by_ignored_hangup);

	(void)state;
	seen("up");
	assert_int_equal(kill(pid, SIGHUP), 0);
	usleep(10000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	status_of(pid);
}

static void check_flags(void)
{
	struct tty tty;

	open_raw(&tty);
	/* Shared with the user's shell. */
	for (int fd = 0; fd < 3; fd++)
		DIE_IF(fcntl(fd, F_GETFL) & O_NONBLOCK);
	/* Our own. */
	DIE_IF(!(fcntl(tty.in_fd, F_GETFL) & O_NONBLOCK));
	tty_close(&tty);
}

static void test_shared_descriptions_stay_blocking(void **state)
{
	(void)state;
	assert_int_equal(status_of(in_terminal(check_flags)), 0);
}

static void log_raw(void)
{
	struct tty tty;

	open_raw(&tty);
	log_warn("raw");
	tty_close(&tty);
	log_warn("cooked");
}

static void test_log_lines_fit_the_mode(void **state)
{
	(void)state;
	assert_int_equal(status_of(in_terminal(log_raw)), 0);
	/* The second line's CR is the terminal's own. */
	assert_string_equal(seen("cooked\r\n"), "skep: warning: raw\r\nskep: warning: cooked\r\n");
}

static void fill_output(void)
{
	static char text[2 * WRITER_SIZE];
	struct tty tty;
	uint64_t n;

	open_raw(&tty);
	memset(text, '.', sizeof(text));
	/* Nobody reads: there is an end, and no waiting. */
	n = put(&tty, text, sizeof(text));
	DIE_IF(n == 0 || n > WRITER_SIZE);
	DIE_IF(tty_read(&tty, text, sizeof(text)) != -EAGAIN);
	tty_close(&tty);
}

static void test_stalled_terminal_does_not_block(void **state)
{
	(void)state;
	assert_int_equal(status_of(in_terminal(fill_output)), 0);
}

static void count_quit(void *ctx)
{
	++*(unsigned *)ctx;
}

static void type_keys(void)
{
	static const char want[] = "ab\x03"
				   "c\x01"
				   "d\x01"
				   "e";
	char got[64];
	struct tty tty;
	unsigned quits = 0;
	size_t n = 0;

	open_raw(&tty);
	tty.quit = count_quit;
	tty.quit_ctx = &quits;
	DIE_IF(write(STDOUT_FILENO, "up", 2) != 2);
	while (!quits) {
		ssize_t r;

		await_input(&tty);
		r = tty_read(&tty, got + n, 3); /* in pieces: the escape key may end one */
		DIE_IF(r < 0 && r != -EAGAIN);
		n += (size_t)MAX(r, 0);
	}
	DIE_IF(n != sizeof(want) - 1 || memcmp(got, want, n));
	DIE_IF(quits != 1);
	tty_close(&tty);
}

static void test_escape_key(void **state)
{
	/* Ctrl-C is the guest's. Ctrl-A: a and Ctrl-A send it, h helps, z is nothing, x quits. */
	static const char typed[] = "ab\x03"
				    "c\x01"
				    "ad\x01\x01"
				    "\x01h\x01ze\x01x";
	pid_t pid = in_terminal(type_keys);

	(void)state;
	seen("up");
	for (size_t i = 0; i < sizeof(typed) - 1; i++)
		assert_int_equal(write(pty, typed + i, 1), 1);
	assert_int_equal(status_of(pid), 0);
	assert_non_null(strstr(seen("this help"), "Ctrl-A x"));
}

static void test_input_after_quit_is_dropped(void **state)
{
	uint8_t buf[] = "a\x01xb";
	unsigned quits = 0;
	struct tty tty = {.is_terminal = true, .quit = count_quit, .quit_ctx = &quits};

	(void)state;
	assert_int_equal(tty_filter_input(&tty, buf, 4), 1);
	assert_int_equal(quits, 1);
	/* From a pipe or a file, every byte is the guest's. */
	tty.is_terminal = false;
	assert_int_equal(tty_filter_input(&tty, (uint8_t *)"a\x01xb", 4), 4);
	assert_int_equal(quits, 1);
}

static void open_in_background(void)
{
	struct termios now;
	struct tty tty;
	pid_t pid = fork();
	int status;
	char c;

	DIE_IF(pid < 0);
	if (pid) {
		DIE_IF(waitpid(pid, &status, WUNTRACED) != pid || !WIFEXITED(status));
		_exit(WEXITSTATUS(status));
	}
	/* A job that the shell started with "&". */
	DIE_IF(setpgid(0, 0));
	DIE_IF(tcgetpgrp(STDIN_FILENO) == getpgrp());
	DIE_IF(tty_open(&tty, &stdio_config, &host, NULL));
	DIE_IF(!tty.background || tty_attend(&tty));
	DIE_IF(tcgetattr(STDIN_FILENO, &now) || now.c_lflag != before.c_lflag);
	DIE_IF(tty_read(&tty, &c, 1) != -EAGAIN);
	/* Even where the terminal would stop such jobs. */
	now.c_lflag |= TOSTOP;
	DIE_IF(tcsetattr(STDIN_FILENO, TCSANOW, &now));
	DIE_IF(put(&tty, "bg", 2) != 2);
	tty_close(&tty);
}

static void test_background_job_does_not_stop(void **state)
{
	(void)state;
	assert_int_equal(status_of(in_terminal(open_in_background)), 0);
	seen("bg");
}

static void read_after_hangup(void)
{
	struct tty tty;
	char c;

	signal(SIGHUP, SIG_IGN);
	open_raw(&tty);
	DIE_IF(write(STDOUT_FILENO, "up", 2) != 2);
	close(far_end);
	close(pty);
	await_input(&tty);
	DIE_IF(tty_read(&tty, &c, 1) != 0); /* end of input */
	DIE_IF(put(&tty, "x", 1) != 0);
	tty_close(&tty);
}

static void test_hangup_ends_input(void **state)
{
	pid_t pid = in_terminal(read_after_hangup);

	(void)state;
	seen("up");
	close(pty);
	close(far_end);
	assert_int_equal(status_of(pid), 0);
	pty = far_end = -1;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_terminal_is_restored),
		T(test_terminal_is_restored_after_signals),
		T(test_nohup_is_respected),
		T(test_shared_descriptions_stay_blocking),
		T(test_log_lines_fit_the_mode),
		T(test_stalled_terminal_does_not_block),
		T(test_escape_key),
		T(test_input_after_quit_is_dropped),
		T(test_background_job_does_not_stop),
		T(test_hangup_ends_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
