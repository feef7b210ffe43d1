// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Standard input and output are open file descriptions that skep shares
 * with whoever started it, for example a shell. If one became non-blocking, the others would see it,
 * even after skep has ended. So output is written by a thread of its own (writer.c), which may
 * block, and for input a terminal or a pipe is opened a second time (open_again()). Input that
 * cannot be opened again (a socket, another user's terminal) is polled before it is read.
 *
 * Raw mode belongs to the terminal. The mode before it is kept in static memory, so that
 * tty_restore() works in any context: atexit(3), the signal handlers below, the sandbox's handler
 * of SIGSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/log.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "config/output.h"
#include "tty.h"

#define CTRL_A	0x01
#define BACKLOG 8 /* clients that wait for the one that is there */

static const struct tty nothing = {
	.in_fd = -1, .out_fd = -1, .listener = -1, .far_end = -1, .again = -1, .old = -1};

static struct {
	_Atomic bool raw;
	int fd;
	pid_t group; /* our process group */
	struct termios before;
} terminal = {.fd = -1};

/* Whether we are the terminal's foreground job. -1: it is not our session's, and there is no job
 * control. */
static bool in_foreground(void)
{
	pid_t foreground = tcgetpgrp(terminal.fd);

	return foreground < 0 || foreground == terminal.group;
}

void tty_restore(void)
{
	int saved = errno;

	if (atomic_exchange(&terminal.raw, false) && in_foreground())
		tcsetattr(terminal.fd, TCSANOW, &terminal.before);
	errno = saved;
}

/* The handler was removed when it was called (SA_RESETHAND), so raise() has the default effect. */
static void on_fatal(int sig)
{
	tty_restore();
	raise(sig);
}

/* For signals that end the process, unless they are handled or ignored already. */
static void restore_on_signals(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,	SIGABRT,  SIGTRAP,
				    SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGALRM,  SIGUSR1,
				    SIGUSR2, SIGXCPU, SIGXFSZ, SIGSYS,	SIGVTALRM};
	struct sigaction sa = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND}, old;

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
		if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(fatal[i], &sa, NULL);
	}
}

/* The settings before are read each time, because a shell changes them when it switches jobs. */
static int enter_raw_mode(void)
{
	struct termios now, raw;

	if (tcgetattr(terminal.fd, &now) < 0)
		return -errno;
	raw = now;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (atomic_load(&terminal.raw) && memcmp(&raw, &now, sizeof(raw)) == 0)
		return 0;
	terminal.before = now;
	atomic_store(&terminal.raw, true);
	if (tcsetattr(terminal.fd, TCSANOW, &raw) < 0) {
		atomic_store(&terminal.raw, false);
		return -errno;
	}
	log_set_crlf(isatty(STDERR_FILENO));
	return 0;
}

static void leave_raw_mode(void)
{
	tty_restore();
	log_set_crlf(false);
}

bool tty_attend(struct tty *tty)
{
	if (!tty->is_terminal)
		return tty->in_fd >= 0;
	tty->background = !in_foreground();
	if (tty->background)
		leave_raw_mode();
	else
		enter_raw_mode();
	return !tty->background;
}

void tty_suspend(const struct tty *tty)
{
	sigset_t set;

	if (tty && tty->is_terminal)
		leave_raw_mode();
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	raise(SIGTSTP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int open_terminal(struct tty *tty, struct error *e)
{
	static bool registered;
	int r = 0;

	if (!registered && atexit(tty_restore))
		return error_set(e, -ENOMEM, "out of memory for an exit handler");
	registered = true;
	restore_on_signals();
	terminal.fd = STDIN_FILENO;
	terminal.group = getpgrp();
	tty->is_terminal = true;
	tty->background = !in_foreground();
	if (tty->background)
		log_info("skep is in the background: the console takes no input until it is in the "
			 "foreground");
	else
		r = enter_raw_mode();
	return r ? error_set(e, r, "the terminal cannot be set to raw mode: %s", strerror(-r)) : 0;
}

/* Open, and not in the wrong direction: that is how main() reopens one that was closed. */
static bool is_open(int fd, int wrong)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) != wrong;
}

static int open_input(struct tty *tty, struct error *e)
{
	int fd;

	if (!is_open(STDIN_FILENO, O_WRONLY))
		return 0;
	if (isatty(STDIN_FILENO)) {
		int r = open_terminal(tty, e);

		if (r < 0)
			return r;
	}
	fd = open_again(STDIN_FILENO, O_RDONLY);
	tty->owns_in = fd >= 0;
	tty->in_fd = fd >= 0 ? fd : STDIN_FILENO;
	return 0;
}

static bool is_regular(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* All that rotating takes, as nothing is opened in the sandbox. */
static int open_rotation(struct tty *tty, const struct console_config *config,
			 const struct device_host *host, struct error *e)
{
	_cleanup_free_ char *old = NULL;

	if (!tty->is_file)
		return error_set(e, -EINVAL, "console file %s: max-size is for a regular file",
				 config->path);
	tty->again = open(config->path, O_RDONLY | O_CLOEXEC);
	if (tty->again < 0)
		return error_set(e, -errno, "console file %s: %m", config->path);
	if (asprintf(&old, "%s.1", config->path) < 0)
		return error_set(e, -ENOMEM, "out of memory");
	tty->old = output_open(old, O_APPEND, 0600, host->config, e);
	if (tty->old >= 0 && !is_regular(tty->old))
		return error_set(e, -EINVAL, "console file %s: not a regular file", old);
	return tty->old < 0 ? error_prefix(e, tty->old, "console file %s", old) : 0;
}

/* The guest's output may contain secrets: only the owner can read the file. */
static int open_output_file(struct tty *tty, const struct console_config *config,
			    const struct device_host *host, struct error *e)
{
	tty->out_fd = output_open(config->path, O_APPEND | O_NONBLOCK, 0600, host->config, e);
	if (tty->out_fd == -ENXIO)
		error_set(e, -ENXIO, "nobody reads from this pipe: start its reader first");
	if (tty->out_fd < 0)
		return error_prefix(e, tty->out_fd, "console file %s", config->path);
	tty->owns_out = true;
	tty->is_file = is_regular(tty->out_fd);
	return config->max_size ? open_rotation(tty, config, host, e) : 0;
}

bool tty_rotate(struct tty *tty)
{
	if (tty->old >= 0)
		writer_rotate(tty->writer);
	return tty->old >= 0;
}

/* The descriptor keeps its number, so other threads that write to it need not know. */
int tty_replace_file(struct tty *tty, int fd, struct error *e)
{
	if (!tty->is_file)
		return error_set(e, -ENOTSUP,
				 "the VM's console is not in a file: only one of --console "
				 "file=PATH can be replaced");
	if (tty->old >= 0)
		return error_set(e, -ENOTSUP,
				 "the console's file has a max-size: SIGUSR1 rotates it");
	if (!is_regular(fd))
		return error_set(e, -EINVAL, "the new console file is not a regular file");
	if (dup3(fd, tty->out_fd, O_CLOEXEC) < 0)
		return error_set(e, -errno, "cannot replace the console's file: %s",
				 strerror(errno));
	return 0;
}

static int open_pty(struct tty *tty, struct error *e)
{
	int fd = pty_open(&tty->far_end, tty->name, e);

	tty->in_fd = tty->out_fd = fd;
	tty->owns_in = fd >= 0;
	return fd < 0 ? error_prefix(e, fd, "console") : 0;
}

static int open_descriptor(struct tty *tty, unsigned number, struct error *e)
{
	int fd = inherited_stream(number, e);

	if (fd < 0)
		return error_prefix(e, fd, "console: descriptor %u", number);
	tty->in_fd = is_open(fd, O_WRONLY) ? fd : -1;
	tty->out_fd = is_open(fd, O_RDONLY) ? fd : -1;
	tty->owns_in = tty->in_fd >= 0;
	tty->owns_out = !tty->owns_in;
	return 0;
}

/* Output goes to a descriptor that is there from the start, and becomes each client's. */
static int open_socket(struct tty *tty, const char *path, struct error *e)
{
	tty->listener = unix_listen(path, BACKLOG, e);
	if (tty->listener < 0)
		return error_prefix(e, tty->listener, "console socket '%s'", path);
	tty->out_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	tty->owns_out = tty->out_fd >= 0;
	return tty->out_fd < 0 ? error_set(e, -errno, "/dev/null: %m") : 0;
}

int tty_accept(struct tty *tty)
{
	int fd = accept4(tty->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
	dup3(fd, tty->out_fd, O_CLOEXEC);
	tty->in_fd = fd;
	tty->owns_in = true;
	writer_resume(tty->writer);
	return 1;
}

void tty_hang_up(struct tty *tty)
{
	close(tty->in_fd);
	tty->in_fd = -1;
	tty->owns_in = false;
}

int tty_open(struct tty *ret, const struct console_config *config, const struct device_host *host,
	     struct error *e)
{
	int r = 0;

	*ret = nothing;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	switch (config->mode) {
	case CONSOLE_STDIO:
		if (is_open(STDOUT_FILENO, O_RDONLY))
			ret->out_fd = STDOUT_FILENO;
		r = open_input(ret, e);
		break;
	case CONSOLE_FILE:
		r = open_output_file(ret, config, host, e);
		break;
	case CONSOLE_SOCKET:
		r = open_socket(ret, config->path, e);
		break;
	case CONSOLE_PTY:
		r = open_pty(ret, e);
		break;
	case CONSOLE_FD:
		r = open_descriptor(ret, config->fd, e);
		break;
	case CONSOLE_OFF:
		break;
	}
	if (!r && ret->out_fd >= 0)
		r = writer_new(&ret->writer, ret->out_fd, "console", e);
	if (!r && ret->listener >= 0)
		writer_await(ret->writer);
	if (!r && ret->old >= 0)
		writer_limit(ret->writer, config->max_size, ret->again, ret->old);
	if (r < 0)
		tty_close(ret);
	return r;
}

int tty_start(struct tty *tty, int (*setup)(void *arg), void *arg, struct error *e)
{
	return tty->writer ? writer_start(tty->writer, setup, arg, e) : 0;
}

struct writer_count tty_stop(struct tty *tty)
{
	if (!tty->writer)
		return (struct writer_count){0};
	writer_stop(tty->writer, TTY_LAST_NS);
	return writer_count(tty->writer);
}

void tty_close(struct tty *tty)
{
	const int others[] = {tty->listener, tty->far_end, tty->again, tty->old};

	tty_stop(tty);
	writer_free(tty->writer);
	if (tty->is_terminal)
		leave_raw_mode();
	if (tty->owns_in)
		close(tty->in_fd);
	if (tty->owns_out)
		close(tty->out_fd);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (others[i] >= 0)
			close(others[i]);
	*tty = nothing;
}

static bool is_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, 0) != 0;
}

static void print_help(void)
{
	static const char help[] = "\r\n"
				   "Ctrl-A x  end the VM at once\r\n"
				   "Ctrl-A a  send Ctrl-A to the guest\r\n"
				   "Ctrl-A h  this help\r\n";

	int fd = log_fd();

	if (is_ready(fd, POLLOUT))
		(void)!write(fd, help, sizeof(help) - 1);
}

size_t tty_filter_input(struct tty *tty, uint8_t *buf, size_t len)
{
	size_t n = 0;

	if (!tty->is_terminal)
		return len;
	for (size_t i = 0; i < len; i++) {
		if (!tty->escape) {
			tty->escape = buf[i] == CTRL_A;
			if (!tty->escape)
				buf[n++] = buf[i];
			continue;
		}
		tty->escape = false;
		switch (buf[i]) {
		case 'a':
		case CTRL_A:
			buf[n++] = CTRL_A;
			break;
		case 'x':
			if (tty->quit)
				tty->quit(tty->quit_ctx);
			return n;
		case 'h':
		case '?':
			print_help();
			break;
		}
	}
	return n;
}

ssize_t tty_read(struct tty *tty, void *buf, size_t len)
{
	for (;;) {
		ssize_t n;

		if (!tty->owns_in && !is_ready(tty->in_fd, POLLIN))
			return -EAGAIN;
		n = read(tty->in_fd, buf, len);
		if (n < 0 && errno == EINTR)
			continue;
		/* Another job has the terminal, and its input. */
		if (n < 0 && errno == EIO && tty->is_terminal && !in_foreground())
			return -EAGAIN;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		n = (ssize_t)tty_filter_input(tty, buf, (size_t)n);
		if (n > 0)
			return n;
	}
}

void tty_write(struct tty *tty, const void *buf, size_t len)
{
	if (tty->writer)
		writer_put(tty->writer, buf, len);
}

void tty_size(const struct tty *tty, uint16_t *ret_cols, uint16_t *ret_rows)
{
	struct winsize size = {0};

	if (tty->out_fd < 0 || ioctl(tty->out_fd, TIOCGWINSZ, &size) < 0) {
		if (tty->in_fd >= 0)
			ioctl(tty->in_fd, TIOCGWINSZ, &size);
	}
	*ret_cols = size.ws_col;
	*ret_rows = size.ws_row;
}
