// SPDX-License-Identifier: BSD-2-Clause
/*
 * skep-agent [FD]: runs a command for skep, which is at the other end of a port of virtio-console
 * (agent/protocol.h, docs/run-command.md), or of descriptor FD. Ends when the command has ended, or skep
 * has gone.
 *
 * DOC: Theory of operation. One thread that waits in poll(2). The command has pipes, or a terminal. What
 * it writes stays there until skep gives credit for it; what it is to read is kept here, and skep gets
 * credit for what it has taken. Messages are made when the port takes them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"
#include "pack.h"
#include "protocol.h"
#include "wire.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define ATTEMPTS  10000 /* a millisecond each: the port's driver may come late */

static struct wire port = {.fd = -1};
static int signals = -1;
static bool greeted, told_exit;

static char *setup_text;
static size_t setup_len;

static struct winsize size;
static pid_t child;
static int status; /* as of wait(2) */
static bool started, exited;
static unsigned long kills_before;

/* What the command reads from. */
static struct {
	int fd; /* -1: it takes no more */
	bool terminal, ending, told;
	uint32_t done; /* bytes that are written, of which skep does not know */
	struct ring ring;
} in = {.fd = -1};

/* What it writes to: standard output, standard error; then what is copied of its files. */
static struct out {
	int fd; /* -1: nothing more comes, or skep takes no more */
	bool terminal, told;
	uint32_t credit;
	int rest; /* bytes that are left since the command ended; -1: it runs */
} out[3] = {{.fd = -1, .credit = AGENT_WINDOW, .rest = -1},
	    {.fd = -1, .credit = AGENT_WINDOW, .rest = -1},
	    {.fd = -1, .credit = AGENT_WINDOW, .rest = -1}};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "skep-agent: %s: %s\n", what, strerror(errno));
	if (child > 0)
		kill(-child, SIGKILL);
	exit(AGENT_FAILED);
}

/* The command */

/* How many processes the kernel has killed for want of memory. */
static unsigned long oom_kills(void)
{
	static const char name[] = "oom_kill ";
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long n = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			n = strtoul(line + strlen(name), NULL, 10);
	if (f)
		fclose(f);
	return n;
}

/* The agent is not to be killed for what its command uses up. */
static void spare_from_oom(bool spare)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		dprintf(fd, "%d", spare ? -1000 : 0);
	close_fd(&fd);
}

/* In a process of its own: where the command belongs, with these as its standard streams. */
static void become(const int fds[3], bool terminal)
{
	sigset_t none;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	if (terminal)
		ioctl(0, TIOCSCTTY, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	spare_from_oom(false);
}

__attribute__((noreturn)) static void run(const struct setup *setup, const int fds[3],
					  bool terminal, int ready)
{
	char **argv = NULL;
	const char *word = NULL;
	size_t n = 0;

	become(fds, terminal);
	while ((word = setup_next(setup, AGENT_IGNORED, word)))
		signal(atoi(word), SIG_IGN);
	close(ready);
	while ((word = setup_next(setup, AGENT_ARGUMENT, word))) {
		argv = reallocarray(argv, n + 2, sizeof(*argv));
		if (!argv)
			_exit(AGENT_FAILED);
		argv[n++] = (char *)(uintptr_t)word;
		argv[n] = NULL;
	}
	if (!n || !place_enter(setup) || !place_become(setup))
		_exit(AGENT_FAILED);
	execvp(argv[0], argv);
	dprintf(2, "skep: %s: %s\n", argv[0],
		errno == ENOENT && !strchr(argv[0], '/') ? "command not found" : strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : CANNOT_RUN);
}

/* Of the terminal, if there is one by now. */
static void apply_size(void)
{
	if (out[0].terminal && out[0].fd >= 0)
		ioctl(out[0].fd, TIOCSWINSZ, &size);
}

/* `fds` are the command's; ours are in `in` and `out`. */
static bool make_pipes(int fds[3])
{
	int pair[2];

	for (int i = 0; i < 3; i++) {
		if (pipe2(pair, O_CLOEXEC) < 0)
			return false;
		fds[i] = pair[i ? 1 : 0];
		*(i ? &out[i - 1].fd : &in.fd) = pair[i ? 0 : 1];
		fcntl(pair[i ? 0 : 1], F_SETFL, O_NONBLOCK);
	}
	return true;
}

static bool make_terminal(int fds[3])
{
	int master = place_open_terminal(), slave;

	if (master < 0)
		return false;
	fcntl(master, F_SETFL, O_NONBLOCK);
	in.terminal = out[0].terminal = true;
	in.fd = dup(master);
	out[0].fd = master;
	out[1].told = true; /* there is none */
	apply_size();
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		fds[i] = slave;
	return slave >= 0;
}

/* In a process of its own, which has a session of its own when this returns: a signal would be lost before. */
static void launch(const struct setup *setup, int fds[3], bool terminal, bool placed)
{
	int ready[2];
	char none;

	fflush(stderr);
	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0 && !placed)
		_exit(AGENT_FAILED);
	if (child == 0)
		run(setup, fds, terminal, ready[1]);
	close(ready[1]);
	(void)!read(ready[0], &none, 1);
	close(ready[0]);
}

static void start(void)
{
	struct setup setup = {setup_text, setup_len};
	const char *terminal;
	int fds[3] = {-1, -1, -1};
	bool placed;

	started = true;
	kills_before = oom_kills();
	if (!setup_len || setup_text[setup_len - 1]) {
		errno = EPROTO;
		die("setup");
	}
	terminal = setup_next(&setup, AGENT_TERMINAL, NULL);
	/* It tells of its faults where the command would. */
	if (!terminal && !make_pipes(fds))
		die("pipe");
	if (!terminal)
		dup2(fds[2], 2);
	placed = place_make(&setup);
	if (placed && terminal && !make_terminal(fds))
		placed = false;
	launch(&setup, fds, terminal, placed);
	for (int i = 0; i < 3; i++)
		if (!i || !terminal)
			close(fds[i]);
	if (!terminal)
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2);
}

/* Once the command has ended, as its user. */
static void send_artifacts(void)
{
	struct setup setup = {setup_text, setup_len};
	const char *path = setup_next(&setup, AGENT_ARTIFACT, NULL);
	int pair[2], none = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t packer;

	out[2].told |= !path;
	if (out[2].told)
		return;
	if (pipe2(pair, O_CLOEXEC) < 0)
		die("pipe");
	packer = fork();
	if (packer < 0)
		die("fork");
	if (packer == 0) {
		become((const int[]){none, pair[1], none}, false);
		if (!place_enter(&setup) || !place_become(&setup))
			_exit(AGENT_FAILED);
		for (; path; path = setup_next(&setup, AGENT_ARTIFACT, path))
			pack(stdout, path);
		_exit(0);
	}
	close(pair[1]);
	close_fd(&none);
	out[2].fd = pair[0];
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
}

/* All that it has written is there, but others may go on. */
static void on_child(void)
{
	struct signalfd_siginfo info;
	int ended;
	pid_t pid;

	while (read(signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &ended, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		exited = true;
		status = ended;
		close_fd(&in.fd);
		for (int i = 0; i < 2; i++)
			if (out[i].fd >= 0 && !out[i].terminal &&
			    ioctl(out[i].fd, FIONREAD, &out[i].rest) < 0)
				out[i].rest = 0;
		send_artifacts();
	}
}

/* What skep says */

__attribute__((noreturn)) static void refuse(void)
{
	errno = EPROTO;
	die("skep");
}

static void take_setup(const uint8_t *data, size_t len)
{
	char *more;

	if (started || len > AGENT_MAX_SETUP - setup_len)
		refuse();
	more = realloc(setup_text, setup_len + len);
	if (!more)
		die("setup");
	memcpy(more + setup_len, data, len);
	setup_text = more;
	setup_len += len;
}

static void take_input(const uint8_t *data, size_t len)
{
	if (len > AGENT_WINDOW - in.ring.len - in.done || in.ending)
		refuse();
	ring_put(&in.ring, data, len);
}

static int take_message(void *ctx, const struct agent_message *m, const uint8_t *data)
{
	struct out *o = m->stream >= AGENT_STDOUT && m->stream <= AGENT_ARTIFACTS
				? &out[m->stream - AGENT_STDOUT]
				: NULL;

	(void)ctx;
	if (m->type == AGENT_DATA && m->stream == AGENT_SETUP)
		take_setup(data, m->len);
	else if (m->type == AGENT_END && m->stream == AGENT_SETUP && !started)
		start();
	else if (m->type == AGENT_DATA && m->stream == AGENT_STDIN)
		take_input(data, m->len);
	else if (m->type == AGENT_END && m->stream == AGENT_STDIN)
		in.ending = true;
	else if (m->type == AGENT_END && o)
		close_fd(&o->fd), o->told = true;
	else if (m->type == AGENT_CREDIT && o && m->value <= AGENT_WINDOW - o->credit)
		o->credit += m->value;
	else if (m->type == AGENT_SIGNAL && m->value < 65 && started)
		kill(-child, (int)m->value);
	else if (m->type == AGENT_SIZE)
		size.ws_col = (uint16_t)(m->value >> 16), size.ws_row = (uint16_t)m->value,
		apply_size();
	else
		refuse();
	return 0;
}

static void receive(void)
{
	int r = wire_receive(&port, take_message, NULL);

	if (r == -EBADMSG)
		refuse();
	if (r < 0)
		die("skep is gone");
}

/* What it is told */

static bool say_output(unsigned stream)
{
	struct out *o = &out[stream - AGENT_STDOUT];
	size_t max = MIN(o->credit, AGENT_MAX_DATA);
	ssize_t n = 0;

	if (o->told || !started || (o->fd >= 0 && !o->credit) ||
	    (stream == AGENT_ARTIFACTS && !exited))
		return false;
	if (o->rest >= 0)
		max = MIN(max, (size_t)o->rest);
	if (o->fd >= 0 && max)
		n = read(o->fd, wire_data(&port), max);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* a terminal's end is EIO */
		close_fd(&o->fd);
		o->told = true;
		return wire_say(&port, AGENT_END, stream, 0, 0);
	}
	o->credit -= (uint32_t)n;
	if (o->rest > 0)
		o->rest -= (int)n;
	return wire_say(&port, AGENT_DATA, stream, (size_t)n, 0);
}

static bool say_of_input(void)
{
	uint32_t done = in.done;

	if (in.told)
		return false;
	if (started && in.fd < 0) {
		in.told = true;
		return wire_say(&port, AGENT_END, AGENT_STDIN, 0, 0);
	}
	if (done < WIRE_GRANT)
		return false;
	in.done = 0;
	return wire_say(&port, AGENT_CREDIT, AGENT_STDIN, 0, done);
}

static bool say_exit(void)
{
	uint32_t how;

	if (!exited || told_exit || !out[0].told || !out[1].told || !out[2].told)
		return false;
	told_exit = true;
	how = oom_kills() > kills_before ? AGENT_OUT_OF_MEMORY : 0;
	how |= WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) << 8
				   : (uint32_t)WEXITSTATUS(status);
	return wire_say(&port, AGENT_EXIT, 0, 0, how);
}

static bool say_hello(void)
{
	if (greeted)
		return false;
	greeted = true;
	return wire_say(&port, AGENT_HELLO, 0, 0, AGENT_VERSION);
}

static void transmit(void)
{
	int r = 1;

	while (r > 0 && (port.left || say_hello() || say_of_input() || say_output(AGENT_STDOUT) ||
			 say_output(AGENT_STDERR) || say_output(AGENT_ARTIFACTS) || say_exit()))
		r = wire_send(&port);
	if (r < 0)
		die("skep is gone");
}

/* Hands the command what it takes. A terminal's input ends by its own character. */
static void feed(void)
{
	static const uint8_t end_of_file = 4;
	const uint8_t *next;

	while (in.fd >= 0 && in.ring.len) {
		size_t len = ring_next(&in.ring, &next);
		ssize_t n = write(in.fd, next, len);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			close_fd(&in.fd);
		if (n <= 0)
			return;
		ring_took(&in.ring, (size_t)n);
		in.done += (uint32_t)n;
	}
	if (in.fd >= 0 && in.ending && !in.ring.len) {
		if (in.terminal)
			(void)!write(in.fd, &end_of_file, 1);
		close_fd(&in.fd);
		in.told = true; /* it was skep's word */
	}
}

static void wait_for_work(void)
{
	struct pollfd p[6] = {
		{.fd = port.fd, .events = (short)(POLLIN | (port.left ? POLLOUT : 0))},
		{.fd = signals, .events = POLLIN},
		/* Without POLLOUT only the reader's end is told of. */
		{.fd = in.fd, .events = (short)(in.ring.len ? POLLOUT : 0)},
	};

	for (int i = 0; i < 3; i++)
		p[3 + i] = (struct pollfd){.fd = port.left || !out[i].credit ? -1 : out[i].fd,
					   .events = POLLIN};
	if (in.terminal && !in.ring.len)
		p[2].fd = -1; /* its hang-up is out[0]'s */
	poll(p, 6, -1);
	if (p[0].revents & POLLHUP)
		die("skep is gone");
	if (p[0].revents & POLLIN)
		receive();
	if (p[1].revents)
		on_child();
	if (p[2].revents & POLLERR && !in.terminal)
		close_fd(&in.fd);
}

/* The port */

static bool is_named(const char *dir, const char *name)
{
	char path[320], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/name", dir, name);
	f = fopen(path, "re");
	if (f && !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, AGENT_PORT) == 0;
}

static int find_port(void)
{
	static const char sys[] = "/sys/class/virtio-ports";
	DIR *dir = opendir(sys);
	const struct dirent *entry;
	char path[300];
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !is_named(sys, entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* Its driver finds it, learns its name, and that skep is there, one after the other. */
static void open_port(void)
{
	struct pollfd p = {.fd = -1};

	for (int i = 0; i < ATTEMPTS; i++) {
		if (port.fd < 0)
			port.fd = p.fd = find_port();
		if (port.fd >= 0 && (poll(&p, 1, 0) < 0 || !(p.revents & POLLHUP)))
			return;
		usleep(1000);
	}
	errno = ENODEV;
	die("the port " AGENT_PORT);
}

int main(int argc, char **argv)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* as process 1 sends to all when the VM is to end */
	signal(SIGTERM, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (argc > 1)
		port.fd = atoi(argv[1]);
	else
		open_port();
	fcntl(port.fd, F_SETFD, FD_CLOEXEC);
	spare_from_oom(true);
	fcntl(port.fd, F_SETFL, O_NONBLOCK);
	while (!told_exit || port.left) {
		transmit();
		if (told_exit && !port.left)
			break;
		wait_for_work();
		feed();
	}
	kill(-child, SIGHUP); /* what else there is of it */
	return 0;
}
