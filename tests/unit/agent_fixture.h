// SPDX-License-Identifier: BSD-2-Clause
/* A relay between pipes and the real agent, which runs a command on this host. */
#ifndef SKEP_AGENT_FIXTURE_H
#define SKEP_AGENT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/protocol.h"
#include "agent/relay.h"
#include "base/util.h"
#include "loops.h"
#include "patience.h"

struct fixture {
	struct loop *loop;
	struct relay *relay;
	int in, out, err; /* ours; -1: closed */
	int far[3];	  /* the relay's ends of these */
	int artifacts;	  /* where they go; 0: nowhere */
	int port;	  /* the agent's end, if there is none; else -1 */
	pid_t agent;
	char *setup;
	size_t setup_len;
	_Atomic uint32_t size; /* of the terminal */
};

static inline uint32_t size_now(void *ctx)
{
	return ((struct fixture *)ctx)->size;
}

/* The agent, as a program of the host's. */
static inline void start_agent(struct fixture *f)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", f->port);
	f->agent = fork();
	if (f->agent == 0) {
		execl(getenv("SKEP_AGENT"), "skep-agent", number, NULL);
		_exit(99);
	}
	close(f->port);
	f->port = -1;
}

static inline void make_streams(struct fixture *f)
{
	int *const ours[] = {&f->in, &f->out, &f->err};

	for (int i = 0; i < 3; i++) {
		int p[2];

		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		*ours[i] = p[i == 0];
		f->far[i] = p[i != 0];
	}
}

static inline void start_relay(struct fixture *f, bool terminal)
{
	struct relay_config config = {.in = f->far[0],
				      .out = f->far[1],
				      .err = f->far[2],
				      .artifacts = f->artifacts ? f->artifacts : -1,
				      .setup = f->setup,
				      .setup_len = f->setup_len,
				      .size = terminal ? size_now : NULL,
				      .ctx = f};
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	config.port = pair[0];
	f->port = pair[1];
	assert_int_equal(loop_new(&f->loop, "agent", LOOP_EPOLL, 0, NULL), 0);
	assert_int_equal(relay_new(&f->relay, &config, f->loop, NULL), 0);
	assert_int_equal(loop_start(f->loop, NULL, NULL, NULL), 0);
}

static inline FILE *begin_setup(struct fixture *f)
{
	*f = (struct fixture){.in = -1, .out = -1, .err = -1, .port = -1};
	return open_memstream(&f->setup, &f->setup_len);
}

static inline void add_text(FILE *setup, char what, const char *text)
{
	fprintf(setup, "%c%s", what, text);
	fputc('\0', setup);
}

static inline void add_command(FILE *setup, const char *const *words)
{
	for (; *words; words++)
		add_text(setup, AGENT_ARGUMENT, *words);
	add_text(setup, AGENT_VARIABLE, "PATH=/usr/bin:/bin");
}
#define COMMAND(...)                                                                               \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static inline void start_all(struct fixture *f, FILE *setup, bool terminal)
{
	fclose(setup);
	make_streams(f);
	start_relay(f, terminal);
	start_agent(f);
}

static inline void start_command(struct fixture *f, const char *const *words)
{
	FILE *setup = begin_setup(f);

	add_command(setup, words);
	start_all(f, setup, false);
}

static inline void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* All that comes until there is no more, or `max` bytes; it is waited for. To be freed. */
static inline char *read_some(int fd, size_t max, size_t *ret_len)
{
	char *all = malloc(max + 1);
	size_t n = 0;
	ssize_t r = 1;

	while (r > 0 && n < max) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		assert_int_equal(poll(&p, 1, patience_ms()), 1);
		r = read(fd, all + n, max - n);
		n += r > 0 ? (size_t)r : 0;
	}
	all[n] = '\0';
	*ret_len = n;
	return all;
}

/* Waits for the agent's end; the relay says how the command ended. */
static inline int end_command(struct fixture *f)
{
	int status, r;

	close_end(&f->in);
	assert_int_equal(waitpid(f->agent, &status, 0), f->agent);
	loop_stop(f->loop);
	close_end(&f->out);
	close_end(&f->err);
	relay_finish(f->relay);
	r = relay_result(f->relay, NULL);
	relay_free(f->relay);
	loop_free(f->loop);
	for (int i = 0; i < 3; i++)
		close(f->far[i]);
	close_end(&f->port);
	free(f->setup);
	return r;
}

/* Reads both outputs to the end of what is said, then ends it. */
static inline int finish(struct fixture *f, const char *out, const char *err)
{
	size_t len;
	char *text;

	text = read_some(f->out, strlen(out), &len);
	assert_string_equal(text, out);
	free(text);
	text = read_some(f->err, strlen(err), &len);
	assert_string_equal(text, err);
	free(text);
	return end_command(f);
}

#endif
