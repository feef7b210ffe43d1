// SPDX-License-Identifier: BSD-2-Clause
/* A console that is no terminal: pipes, files, other descriptors, or nothing. */
#include "tty_fixture.h"

/* Without a terminal: `in` and `out` become a child's standard input and output. */
static int with_stdio(int in, int out, void (*fn)(struct tty *tty))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct tty tty;

		DIE_IF(in < 0 ? close(STDIN_FILENO) : dup2(in, STDIN_FILENO) < 0);
		DIE_IF(out < 0 ? close(STDOUT_FILENO) : dup2(out, STDOUT_FILENO) < 0);
		DIE_IF(tty_open(&tty, &stdio_config, &host, NULL) < 0 || tty.is_terminal);
		fn(&tty);
		tty_close(&tty);
		_exit(0);
	}
	return status_of(pid);
}

static void expect_end_and_discard(struct tty *tty)
{
	char c;

	DIE_IF(tty_read(tty, &c, 1) != 0);
	DIE_IF(put(tty, "x", 1) != 1);
}

static void expect_closed(struct tty *tty)
{
	DIE_IF(tty->in_fd != -1 || tty->out_fd != -1);
}

static void expect_broken_pipe(struct tty *tty)
{
	char c;

	DIE_IF(tty_read(tty, &c, 1) != 0);
	DIE_IF(put(tty, "x", 1) != 0); /* and no SIGPIPE */
}

static void expect_idle_then_full(struct tty *tty)
{
	static char text[2 * WRITER_SIZE];
	uint64_t n;

	DIE_IF(tty_read(tty, text, sizeof(text)) != -EAGAIN);
	n = put(tty, text, sizeof(text));
	DIE_IF(n == 0 || n > WRITER_SIZE);
	DIE_IF(fcntl(0, F_GETFL) & O_NONBLOCK || fcntl(1, F_GETFL) & O_NONBLOCK);
}

static void expect_rest_of_file(struct tty *tty)
{
	char text[8];

	DIE_IF(tty_read(tty, text, sizeof(text)) != 4 || memcmp(text, "\x01x56", 4));
	DIE_IF(tty_read(tty, text, sizeof(text)) != 0);
	DIE_IF(put(tty, "abc", 3) != 3);
}

static void test_input_and_output_of_all_kinds(void **state)
{
	int null = open("/dev/null", O_RDWR), p[2], q[2], s[2], file;
	char path[] = "/tmp/skep-test-tty-XXXXXX", text[8] = "";

	(void)state;
	assert_int_equal(with_stdio(null, null, expect_end_and_discard), 0);
	assert_int_equal(with_stdio(-1, -1, expect_closed), 0);

	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(q), 0);
	assert_int_equal(with_stdio(p[0], q[1], expect_idle_then_full), 0);
	close(p[1]);
	close(q[0]);
	assert_int_equal(with_stdio(p[0], q[1], expect_broken_pipe), 0);
	close(p[0]);
	close(q[1]);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(with_stdio(s[0], s[0], expect_idle_then_full), 0);
	close(s[0]);
	close(s[1]);

	/* The shell's place in a file is where to go on, and it moves on for the shell. */
	file = mkstemp(path);
	unlink(path);
	assert_int_equal(write(file, "1234\x01x56", 8), 8);
	assert_int_equal(lseek(file, 4, SEEK_SET), 4);
	assert_int_equal(with_stdio(file, file, expect_rest_of_file), 0);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 11);
	assert_int_equal(pread(file, text, 3, 8), 3);
	assert_string_equal(text, "abc");
	close(file);
	close(null);
}

static void test_output_file(void **state)
{
	char dir[] = "/tmp/skep-test-tty-XXXXXX", path[64], text[8] = "";
	struct console_config config = {.mode = CONSOLE_FILE, .path = path};
	struct error e = {""};
	struct stat st;
	struct tty tty;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/out", dir);
	umask(0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
		assert_int_equal(tty.in_fd, -1);
		assert_int_equal(put(&tty, "xy", 2), 2);
		tty_close(&tty);
	}
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 4); /* the second one added to it */
	assert_int_equal(st.st_mode & 0777, 0600);
	/* It is a log: what was cut off after a copy leaves no hole. */
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	assert_int_equal(put(&tty, "cd", 2), 2);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(put(&tty, "ef", 2), 2);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2);
	tty_close(&tty);
	unlink(path);

	/* A named pipe: not without a reader, and never waiting for one. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tty_open(&tty, &config, &host, &e), -ENXIO);
	assert_non_null(strstr(e.msg, "nobody reads"));
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	assert_int_equal(put(&tty, "xy", 2), 2);
	assert_int_equal(read(fd, text, sizeof(text)), 2);
	tty_close(&tty);
	close(fd);
	unlink(path);
	rmdir(dir);

	assert_int_equal(tty_open(&tty, &config, &host, &e), -ENOENT);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(tty.out_fd, -1);
}

static void test_output_file_is_replaced(void **state)
{
	char dir[] = "/tmp/skep-test-tty-XXXXXX", path[64], next[64], text[8];
	struct console_config config = {.mode = CONSOLE_FILE, .path = path};
	int number, fd, null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct error e = {""};
	struct tty tty;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/out", dir);
	snprintf(next, sizeof(next), "%s/next", dir);
	fd = open(next, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	number = tty.out_fd;
	assert_int_equal(put(&tty, "ab", 2), 2);
	assert_int_equal(tty_replace_file(&tty, null, &e), -EINVAL);
	assert_int_equal(tty_replace_file(&tty, fd, &e), 0);
	assert_int_equal(tty.out_fd, number);
	assert_true(fcntl(number, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(put(&tty, "cd", 2), 2);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 2);
	assert_memory_equal(text, "cd", 2);
	tty_close(&tty);
	config.mode = CONSOLE_OFF;
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	assert_int_equal(tty_replace_file(&tty, fd, &e), -ENOTSUP);
	close(fd);
	close(null);
	unlink(path);
	unlink(next);
	rmdir(dir);
}

static void test_output_file_with_a_limit(void **state)
{
	char dir[] = "/tmp/skep-test-tty-XXXXXX", path[64], old[64];
	struct console_config config = {.mode = CONSOLE_FILE, .path = path, .max_size = 65536};
	struct error e = {""};
	struct stat st;
	struct tty tty;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/out", dir);
	snprintf(old, sizeof(old), "%s.1", path);
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	assert_int_equal(put(&tty, "xy", 2), 2);
	assert_true(tty_rotate(&tty));
	assert_int_equal(put(&tty, "z", 1), 1);
	assert_int_equal(tty_replace_file(&tty, tty.again, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "SIGUSR1"));
	tty_close(&tty);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 1);
	assert_int_equal(stat(old, &st), 0);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(st.st_mode & 0777, 0600);

	/* Only of a file can there be one before it; and not a directory. */
	unlink(old);
	assert_int_equal(mkdir(old, 0700), 0);
	assert_int_equal(tty_open(&tty, &config, &host, &e), -EISDIR);
	assert_non_null(strstr(e.msg, old));
	rmdir(old);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tty_open(&tty, &config, &host, &e), -ENXIO);
	unlink(path);
	strcpy(path, "/dev/null");
	assert_int_equal(tty_open(&tty, &config, &host, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "max-size is for a regular file"));
	config.max_size = 0;
	assert_int_equal(tty_open(&tty, &config, &host, &e), 0);
	assert_false(tty_rotate(&tty));
	tty_close(&tty);
	rmdir(dir);
}

static void test_console_off(void **state)
{
	struct console_config config = {.mode = CONSOLE_OFF};
	uint16_t cols = 1, rows = 1;
	struct tty tty;

	(void)state;
	assert_int_equal(tty_open(&tty, &config, &host, NULL), 0);
	assert_int_equal(tty.in_fd, -1);
	assert_int_equal(tty.out_fd, -1);
	tty_size(&tty, &cols, &rows);
	assert_int_equal(cols, 0);
	assert_int_equal(rows, 0);
	tty_close(&tty);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_input_and_output_of_all_kinds),
		cmocka_unit_test(test_output_file),
		cmocka_unit_test(test_output_file_is_replaced),
		cmocka_unit_test(test_output_file_with_a_limit),
		cmocka_unit_test(test_console_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
