// SPDX-License-Identifier: BSD-2-Clause
/* A command: its processes and its streams. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "pack.h"
#include "place.h"

void command_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

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

void command_spare(bool spare)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		dprintf(fd, "%d", spare ? -1000 : 0);
	command_close(&fd);
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
	command_spare(false);
}

static void complain(const char *text)
{
	dprintf(2, "skep: %s\n", text);
}

/* Files come or go instead of a command. */
static void move_files(const struct setup *setup)
{
	const char *path = setup_next(setup, AGENT_SEND, NULL);

	if (path)
		_exit(pack(stdout, path) ? 1 : 0);
	path = setup_next(setup, AGENT_TAKE, NULL);
	if (path)
		_exit(unpack(stdin, path, complain) ? 1 : 0);
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
	if (!place_enter(setup) || !place_become(setup))
		_exit(AGENT_FAILED);
	move_files(setup);
	if (!n)
		_exit(AGENT_FAILED);
	execvp(argv[0], argv);
	dprintf(2, "skep: %s: %s\n", argv[0],
		errno == ENOENT && !strchr(argv[0], '/') ? "command not found" : strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : CANNOT_RUN);
}

void command_resize(struct command *c)
{
	if (c->out[0].terminal && c->out[0].fd >= 0)
		ioctl(c->out[0].fd, TIOCSWINSZ, &c->size);
}

/* `fds` are the command's; ours are in `in` and `out`. */
static bool make_pipes(struct command *c, int fds[3])
{
	int pair[2];

	for (int i = 0; i < 3; i++) {
		if (pipe2(pair, O_CLOEXEC) < 0)
			return false;
		fds[i] = pair[i ? 1 : 0];
		*(i ? &c->out[i - 1].fd : &c->in.fd) = pair[i ? 0 : 1];
		fcntl(pair[i ? 0 : 1], F_SETFL, O_NONBLOCK);
	}
	return true;
}

static bool make_terminal(struct command *c, int fds[3])
{
	int master = place_open_terminal(), slave;

	if (master < 0)
		return false;
	fcntl(master, F_SETFL, O_NONBLOCK);
	c->in.terminal = c->out[0].terminal = true;
	c->in.fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
	c->out[0].fd = master;
	c->out[1].told = true; /* there is none */
	command_resize(c);
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		fds[i] = slave;
	return slave >= 0;
}

/* In a process of its own, which has a session of its own when this returns: a signal would be lost before. */
static bool launch(struct command *c, const struct setup *setup, int fds[3], bool terminal)
{
	int ready[2];
	char none;

	fflush(stderr);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return false;
	c->child = fork();
	if (c->child == 0)
		run(setup, fds, terminal, ready[1]);
	close(ready[1]);
	(void)!read(ready[0], &none, 1);
	close(ready[0]);
	return c->child > 0;
}

/* It tells of its faults where the command would. */
static bool begin(struct command *c, const struct setup *setup, int fds[3], bool terminal)
{
	int own = fcntl(2, F_DUPFD_CLOEXEC, 3);
	bool ok = terminal || (make_pipes(c, fds) && dup2(fds[2], 2) >= 0);

	ok = ok && place_make(setup) && (!terminal || make_terminal(c, fds));
	if (ok && !launch(c, setup, fds, terminal)) {
		dprintf(2, "skep: in the guest: %s\n", strerror(errno));
		ok = false;
	}
	dup2(own, 2);
	command_close(&own);
	return ok;
}

void command_start(struct command *c)
{
	struct setup setup = {c->setup_text, c->setup_len};
	bool terminal = setup_next(&setup, AGENT_TERMINAL, NULL);
	int fds[3] = {-1, -1, -1};
	bool ok;

	c->started = true;
	c->kills_before = oom_kills();
	ok = begin(c, &setup, fds, terminal);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0 && (!i || !terminal))
			close(fds[i]);
	if (!ok)
		command_ended(c, AGENT_FAILED << 8);
}

/* Once the command has ended, as its user. */
static void send_artifacts(struct command *c)
{
	struct setup setup = {c->setup_text, c->setup_len};
	const char *path = c->child > 0 ? setup_next(&setup, AGENT_ARTIFACT, NULL) : NULL;
	int pair[2], none;
	pid_t packer;

	c->out[2].told |= !path || pipe2(pair, O_CLOEXEC) < 0;
	if (c->out[2].told)
		return;
	none = open("/dev/null", O_RDWR | O_CLOEXEC);
	packer = fork();
	if (packer == 0) {
		become((const int[]){none, pair[1], none}, false);
		if (!place_enter(&setup) || !place_become(&setup))
			_exit(AGENT_FAILED);
		for (; path; path = setup_next(&setup, AGENT_ARTIFACT, path))
			pack(stdout, path);
		_exit(0);
	}
	close(pair[1]);
	command_close(&none);
	c->out[2].fd = pair[0];
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
}

void command_ended(struct command *c, int status)
{
	c->exited = true;
	c->status = status;
	command_close(&c->in.fd);
	for (int i = 0; i < 2; i++)
		if (c->out[i].fd >= 0 && !c->out[i].terminal &&
		    ioctl(c->out[i].fd, FIONREAD, &c->out[i].rest) < 0)
			c->out[i].rest = 0;
	send_artifacts(c);
}

/* A terminal's input ends by its own character. */
void command_feed(struct command *c)
{
	static const uint8_t end_of_file = 4;
	const uint8_t *next;

	while (c->in.fd >= 0 && c->in.ring.len) {
		size_t len = ring_next(&c->in.ring, &next);
		ssize_t n = write(c->in.fd, next, len);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			command_close(&c->in.fd);
		if (n <= 0)
			return;
		ring_took(&c->in.ring, (size_t)n);
		c->in.done += (uint32_t)n;
	}
	if (c->in.fd >= 0 && c->in.ending && !c->in.ring.len) {
		if (c->in.terminal)
			(void)!write(c->in.fd, &end_of_file, 1);
		command_close(&c->in.fd);
		c->in.told = true; /* it was skep's word */
	}
}

void command_signal(const struct command *c, int sig)
{
	if (c->child > 0)
		kill(-c->child, sig);
}

uint32_t command_result(const struct command *c)
{
	uint32_t how = oom_kills() > c->kills_before ? AGENT_OUT_OF_MEMORY : 0;

	return how | (WIFSIGNALED(c->status) ? (uint32_t)WTERMSIG(c->status) << 8
					     : (uint32_t)WEXITSTATUS(c->status));
}

struct command *command_new(void)
{
	struct command *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->in.fd = -1;
	for (int i = 0; i < 3; i++)
		c->out[i] = (struct out){.fd = -1, .credit = AGENT_WINDOW, .rest = -1};
	return c;
}

void command_free(struct command *c)
{
	for (int i = 0; i < 3; i++)
		command_close(&c->out[i].fd);
	command_close(&c->in.fd);
	free(c->setup_text);
	free(c);
}
