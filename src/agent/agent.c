// SPDX-License-Identifier: BSD-2-Clause
/*
 * skep-agent [FD]: runs commands for skep, which is at the other end of a port of virtio-console
 * (agent/protocol.h, docs/run-command.md), or of descriptor FD. Ends when the first command has ended, or
 * skep has gone.
 *
 * DOC: Theory of operation. One thread that waits in poll(2). A command has pipes, or a terminal. What
 * it writes stays there until skep gives credit for it; what it is to read is kept here, and skep gets
 * credit for what it has taken. Messages are made when the port takes them, for one command after the other.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "place.h"
#include "protocol.h"
#include "wire.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define ATTEMPTS  10000 /* a millisecond each: the port's driver may come late */

static struct wire port = {.fd = -1};
static int signals = -1;
static bool greeted, ending;
static struct command *commands[AGENT_COMMANDS]; /* the first is skep run's own */
static unsigned turn;

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "skep-agent: %s: %s\n", what, strerror(errno));
	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (commands[i])
			command_signal(commands[i], SIGKILL);
	exit(AGENT_FAILED);
}

static void on_child(void)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned i = 0; i < AGENT_COMMANDS; i++)
			if (commands[i] && commands[i]->child == pid && !commands[i]->exited)
				command_ended(commands[i], status);
}

/* What skep says */

__attribute__((noreturn)) static void refuse(void)
{
	errno = EPROTO;
	die("skep");
}

static void take_setup(struct command *c, const uint8_t *data, size_t len)
{
	char *more;

	if (c->started || len > AGENT_MAX_SETUP - c->setup_len)
		refuse();
	more = realloc(c->setup_text, c->setup_len + len);
	if (!more)
		die("setup");
	memcpy(more + c->setup_len, data, len);
	c->setup_text = more;
	c->setup_len += len;
}

static void take_input(struct command *c, const uint8_t *data, size_t len)
{
	if (len > AGENT_WINDOW - c->in.ring.len - c->in.done || c->in.ending)
		refuse();
	ring_put(&c->in.ring, data, len);
}

static void take_for(struct command *c, const struct agent_message *m, unsigned stream,
		     const uint8_t *data)
{
	struct out *o = stream >= AGENT_STDOUT && stream <= AGENT_ARTIFACTS
				? &c->out[stream - AGENT_STDOUT]
				: NULL;

	if (m->type == AGENT_DATA && stream == AGENT_SETUP)
		take_setup(c, data, m->len);
	else if (m->type == AGENT_END && stream == AGENT_SETUP && !c->started && c->setup_len &&
		 !c->setup_text[c->setup_len - 1])
		command_start(c);
	else if (m->type == AGENT_DATA && stream == AGENT_STDIN)
		take_input(c, data, m->len);
	else if (m->type == AGENT_END && stream == AGENT_STDIN)
		c->in.ending = true;
	else if (m->type == AGENT_END && o)
		command_close(&o->fd), o->told = true;
	else if (m->type == AGENT_CREDIT && o && m->value <= AGENT_WINDOW - o->credit)
		o->credit += m->value;
	else if (m->type == AGENT_SIGNAL && m->value < 65 && c->started)
		command_signal(c, (int)m->value);
	else if (m->type == AGENT_SIZE)
		c->size.ws_col = (uint16_t)(m->value >> 16), c->size.ws_row = (uint16_t)m->value,
		command_resize(c);
	else
		refuse();
}

/* A command begins with its setup, or with a size. What skep says of one that has ended it says too late. */
static int take_message(void *ctx, const struct agent_message *m, const uint8_t *data)
{
	unsigned id = AGENT_ID(m->stream), stream = AGENT_STREAM(m->stream);

	(void)ctx;
	if (id >= AGENT_COMMANDS || m->type == AGENT_HELLO || m->type >= AGENT_EXIT)
		refuse();
	if (!commands[id] && (stream == AGENT_SETUP || m->type == AGENT_SIZE)) {
		commands[id] = command_new();
		if (!commands[id])
			die("command");
	}
	if (commands[id])
		take_for(commands[id], m, stream, data);
	else if (!id)
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

static bool say(unsigned id, enum agent_kind type, unsigned stream, size_t len, uint32_t value)
{
	return wire_say(&port, type, AGENT_STREAM_OF(id, stream), len, value);
}

static bool say_output(unsigned id, unsigned stream)
{
	struct command *c = commands[id];
	struct out *o = &c->out[stream - AGENT_STDOUT];
	size_t max = MIN(o->credit, AGENT_MAX_DATA);
	ssize_t n = 0;

	if (o->told || !c->started || (o->fd >= 0 && !o->credit) ||
	    (stream == AGENT_ARTIFACTS && !c->exited))
		return false;
	if (o->rest >= 0)
		max = MIN(max, (size_t)o->rest);
	if (o->fd >= 0 && max)
		n = read(o->fd, wire_data(&port), max);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* a terminal's end is EIO */
		command_close(&o->fd);
		o->told = true;
		return say(id, AGENT_END, stream, 0, 0);
	}
	o->credit -= (uint32_t)n;
	if (o->rest > 0)
		o->rest -= (int)n;
	return say(id, AGENT_DATA, stream, (size_t)n, 0);
}

static bool say_of_input(unsigned id)
{
	struct command *c = commands[id];
	uint32_t done = c->in.done;

	if (c->in.told)
		return false;
	if (c->started && c->in.fd < 0) {
		c->in.told = true;
		return say(id, AGENT_END, AGENT_STDIN, 0, 0);
	}
	if (done < WIRE_GRANT)
		return false;
	c->in.done = 0;
	return say(id, AGENT_CREDIT, AGENT_STDIN, 0, done);
}

static bool say_exit(unsigned id)
{
	struct command *c = commands[id];
	uint32_t how;

	if (!c->exited || !c->out[0].told || !c->out[1].told || !c->out[2].told)
		return false;
	how = command_result(c);
	ending |= !id;
	command_signal(c, SIGHUP); /* what else there is of it */
	command_free(c);
	commands[id] = NULL;
	return say(id, AGENT_EXIT, 0, 0, how);
}

/* The commands take turns. */
static bool say_next(void)
{
	if (ending)
		return false;
	if (!greeted) {
		greeted = true;
		return wire_say(&port, AGENT_HELLO, 0, 0, AGENT_VERSION);
	}
	for (unsigned i = 0; i < AGENT_COMMANDS; i++) {
		unsigned id = turn++ % AGENT_COMMANDS;

		if (commands[id] && (say_of_input(id) || say_output(id, AGENT_STDOUT) ||
				     say_output(id, AGENT_STDERR) ||
				     say_output(id, AGENT_ARTIFACTS) || say_exit(id)))
			return true;
	}
	return false;
}

static void transmit(void)
{
	int r = 1;

	while (r > 0 && (port.left || say_next()))
		r = wire_send(&port);
	if (r < 0)
		die("skep is gone");
}

#define FDS 4 /* of a command that are waited for */

static void watch(const struct command *c, struct pollfd p[FDS])
{
	/* Without POLLOUT only the reader's end is told of; a terminal's hang-up is out[0]'s. */
	p[0] = (struct pollfd){.fd = c->in.terminal && !c->in.ring.len ? -1 : c->in.fd,
			       .events = (short)(c->in.ring.len ? POLLOUT : 0)};
	for (int i = 0; i < 3; i++)
		p[1 + i] = (struct pollfd){.fd = port.left || !c->out[i].credit ? -1 : c->out[i].fd,
					   .events = POLLIN};
}

static void wait_for_work(void)
{
	struct pollfd p[2 + FDS * AGENT_COMMANDS] = {
		{.fd = port.fd, .events = (short)(POLLIN | (port.left ? POLLOUT : 0))},
		{.fd = signals, .events = POLLIN},
	};
	nfds_t n = 2;

	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (commands[i])
			watch(commands[i], p + n), n += FDS;
	poll(p, n, -1);
	for (unsigned i = AGENT_COMMANDS; i-- > 0;)
		if (commands[i] && p[n -= FDS].revents & POLLERR && !commands[i]->in.terminal)
			command_close(&commands[i]->in.fd);
	if (p[0].revents & POLLHUP)
		die("skep is gone");
	if (p[0].revents & POLLIN)
		receive();
	if (p[1].revents)
		on_child();
	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (commands[i])
			command_feed(commands[i]);
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
	command_spare(true);
	while (!ending || port.left) {
		transmit();
		if (!ending || port.left)
			wait_for_work();
	}
	return 0;
}
