// SPDX-License-Identifier: BSD-2-Clause
/* A console whose host's end is a socket, a pseudo-terminal or a descriptor that skep inherits. */
#include "console_fixture.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/inherited.h"
#include "base/unixsocket.h"

/* The console as `config` has it, at DRIVER_OK. */
static struct fixture *start_at(const struct console_config *config)
{
	static const struct device_host host = {.config = NULL};
	struct fixture *f = calloc(1, sizeof(*f));
	struct error e = {""};

	assert_non_null(f);
	drv_init(&f->d, 16 * MIB);
	if (tty_open(&f->tty, config, &host, &e) || loop_new(&f->loop, "test", LOOP_EPOLL, 0, &e) ||
	    console_device_new(&f->dev, &f->d.mem, &f->tty, f->loop, &e) ||
	    tty_start(&f->tty, NULL, NULL, &e))
		fail_msg("%s", e.msg);
	drv_attach(&f->d, f->dev);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
	drv_start(&f->d, ALL, 0);
	return f;
}

static void end_it(struct fixture *f)
{
	virtio_dev_quiesce(f->dev);
	loop_stop(f->loop);
	virtio_dev_free(f->dev);
	loop_free(f->loop);
	tty_close(&f->tty);
	drv_free(&f->d);
	free(f);
}

static void print(struct fixture *f, const char *text)
{
	transmit(f, text, (uint32_t)strlen(text));
	drv_wait_used(&f->d.queue[TX], NULL, NULL);
}

static void expect(int fd, const char *text)
{
	char got[64];

	read_all(fd, got, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static void expect_typed(struct fixture *f, const char *text)
{
	for (size_t n = 0; text[n];) {
		gpa_t buf = offer(f, 64);
		uint32_t len;

		drv_wait_used(&f->d.queue[RX], NULL, &len);
		assert_memory_equal(drv_ptr(&f->d, buf, len), text + n, len);
		n += len;
	}
}

static int dial(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;

	assert_int_equal(unix_address(&addr, path, NULL), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* One client at a time; what is printed while nobody is there is for the next one. */
static void test_clients_of_a_socket(void **state)
{
	char dir[] = "/tmp/skep-console.XXXXXX", path[64];
	struct console_config config = {.mode = CONSOLE_SOCKET, .path = path};
	static char many[20001];
	struct fixture *f;
	int first, second;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	f = start_at(&config);
	print(f, "boots\n");
	first = dial(path);
	expect(first, "boots\n");
	assert_int_equal(write(first, "one", 3), 3);
	expect_typed(f, "one");
	second = dial(path);
	assert_int_equal(write(second, "two", 3), 3);
	print(f, "for the first\n");
	expect(first, "for the first\n");
	close(first);
	expect_typed(f, "two");
	print(f, "for the second\n");
	expect(second, "for the second\n");

	/* More than is kept, and gone: all of it comes. */
	memset(many, 'x', sizeof(many) - 1);
	assert_int_equal(write(second, many, sizeof(many) - 1), sizeof(many) - 1);
	close(second);
	expect_typed(f, many);
	print(f, "nobody\n");
	first = dial(path);
	expect(first, "nobody\n");

	/* Who says that nothing more comes still reads. */
	shutdown(first, SHUT_WR);
	settle(f->loop);
	print(f, "still there\n");
	expect(first, "still there\n");
	close(first);
	second = dial(path);
	assert_int_equal(write(second, "back", 4), 4);
	expect_typed(f, "back");
	close(second);
	end_it(f);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

/* A client that does not read holds up nobody. */
static void test_a_client_that_does_not_read(void **state)
{
	char path[] = "/tmp/skep-console.XXXXXX";
	struct console_config config = {.mode = CONSOLE_SOCKET, .path = path};
	static char text[16384];
	struct fixture *f;
	int client;

	(void)state;
	assert_true(close(mkstemp(path)) == 0 && unlink(path) == 0);
	f = start_at(&config);
	client = dial(path);
	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < 256; i++) {
		transmit(f, text, sizeof(text));
		drv_wait_used(&f->d.queue[TX], NULL, NULL);
	}
	assert_true(writer_count(f->tty.writer).lost > 0);
	close(client);
	client = dial(path);
	expect(client, "xxxx");
	close(client);
	end_it(f);
	unlink(path);
}

/* Programs open and close it as they like; its size is the guest's. */
static void test_a_pseudo_terminal(void **state)
{
	struct console_config config = {.mode = CONSOLE_PTY};
	struct winsize size = {.ws_col = 132, .ws_row = 50};
	struct fixture *f = start_at(&config);
	uint64_t until = patience_end();
	int program;

	(void)state;
	assert_true(virtio_has(f->dev, VIRTIO_CONSOLE_F_SIZE));
	assert_int_equal(drv_page32(&f->d, VIRTIO_MMIO_CONFIG), 24 << 16 | 80);
	for (unsigned i = 0; i < 2; i++) {
		print(f, "a\r\n\3");
		program = open(f->tty.name, O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(program >= 0);
		expect(program, "a\r\n\3");
		assert_int_equal(write(program, "\3\n", 2), 2);
		expect_typed(f, "\3\n");
		if (i == 0)
			close(program);
	}
	assert_int_equal(ioctl(program, TIOCSWINSZ, &size), 0);
	assert_int_equal(write(program, "x", 1), 1);
	expect_typed(f, "x");
	while (drv_page32(&f->d, VIRTIO_MMIO_CONFIG) != (50 << 16 | 132))
		assert_true(now_ns() < until);
	close(program);
	end_it(f);
}

static void test_a_descriptor(void **state)
{
	struct console_config config = {.mode = CONSOLE_FD};
	struct fixture *f;
	struct error e = {""};
	struct tty none;
	int pair[2], fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(pipe(fd), 0);
	inherited_note();
	config.fd = (unsigned)pair[0];
	f = start_at(&config);
	print(f, "out");
	expect(pair[1], "out");
	assert_int_equal(write(pair[1], "in", 2), 2);
	expect_typed(f, "in");
	end_it(f);

	config.fd = (unsigned)fd[0]; /* for input alone, and its end is no harm */
	f = start_at(&config);
	print(f, "lost");
	assert_int_equal(write(fd[1], "typed", 5), 5);
	close(fd[1]);
	expect_typed(f, "typed");
	end_it(f);

	config.fd = 999;
	assert_int_equal(tty_open(&none, &config, &(struct device_host){.config = NULL}, &e),
			 -EBADF);
	assert_string_equal(e.msg,
			    "console: descriptor 999: skep did not get it from who started it");
	inherited_close();
	close(pair[1]);
}

/* What is no stream would be found out by the guest's first byte, or never. */
static void test_descriptors_that_are_no_streams(void **state)
{
	struct sockaddr_un none = {.sun_family = AF_UNIX}; /* the kernel chooses a name */
	int dgram[2], seq[2],
		fds[] = {
			socket(AF_UNIX, SOCK_STREAM, 0),
			socket(AF_INET, SOCK_DGRAM, 0),
			open("/", O_RDONLY),
			eventfd(0, 0),
			epoll_create1(0),
			socket(AF_UNIX, SOCK_STREAM, 0),
			-1,
			-1,
		};
	struct console_config config = {.mode = CONSOLE_FD};
	struct error e = {""};
	struct tty tty;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq), 0);
	assert_int_equal(bind(fds[5], (struct sockaddr *)&none, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fds[5], 1), 0);
	fds[6] = dgram[0];
	fds[7] = seq[0];
	inherited_note();
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_true(fds[i] > 0);
		config.fd = (unsigned)fds[i];
		assert_int_equal(tty_open(&tty, &config, &(struct device_host){.config = NULL}, &e),
				 -EINVAL);
		assert_non_null(strstr(e.msg, ": is no stream of bytes: pass a connected stream"));
	}
	inherited_close(); /* the other ends of the pairs, too */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clients_of_a_socket),
		cmocka_unit_test(test_a_client_that_does_not_read),
		cmocka_unit_test(test_a_pseudo_terminal),
		cmocka_unit_test(test_a_descriptor),
		cmocka_unit_test(test_descriptors_that_are_no_streams),
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
