// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Messages to the agent are made when the port takes them, one at a time, out
 * of what has to be said: so nothing that the guest does makes them pile up. Messages from it are
 * checked, and can only have as much output as its window allows, for which there is room. So the port
 * is always read, and a slow reader of one stream holds up nothing but that stream in the guest.
 *
 * Beside the first command there may be those of clients, who hand over their streams and a socket, by
 * which they talk of signals and are told the end.
 *
 * All is done on the loop, but for what other threads leave in atomics before they wake it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "relay.h"
#include "session.h"
#include "stream.h"

#define TURN_MESSAGES 64u

static void transmit(struct relay *r)
{
	int e = 1;

	for (unsigned i = 0; e > 0 && i < TURN_MESSAGES && (r->wire.left || session_say_next(r));
	     i++)
		e = wire_send(&r->wire);
	if (e < 0)
		r->wire.left = 0; /* it is gone, which is read, too */
}

/* The loop */

static void watch_for(struct loop_fd *w, bool watched, uint32_t events)
{
	if (!watched)
		return;
	if (!events) {
		loop_pause(w);
		return;
	}
	loop_watch_for(w, events);
	loop_resume(w);
}

/* With its watches, if the loop is there yet. */
static void session_free(struct session *s)
{
	struct loop_fd *const watches[] = {&s->in.watch, &s->out[0].watch, &s->out[1].watch,
					   &s->out[2].watch};
	const bool watched[] = {s->in.watched, s->out[0].watched, s->out[1].watched,
				s->out[2].watched};

	for (size_t i = 0; s->relay->loop && i < ARRAY_SIZE(watches); i++)
		if (watched[i])
			loop_unwatch(watches[i]);
	if (s->relay->loop && s->talk.fd >= 0 && !s->hung_up)
		loop_unwatch(&s->talk);
	std_close(&s->in.from);
	for (size_t i = 0; i < ARRAY_SIZE(s->out); i++)
		std_close(&s->out[i].to);
	if (s->id) {
		close(s->client.setup);
		close(s->client.talk);
	}
	free(s);
}

/* A client is told once it has all output. */
static bool is_over(struct session *s)
{
	if (!s->id || s->result == NOT_ENDED || s->out[0].ring.len || s->out[1].ring.len)
		return false;
	if (!s->hung_up) {
		wire_say(&s->wire, AGENT_EXIT, 0, 0, (uint32_t)s->result);
		wire_send(&s->wire);
	}
	s->relay->session[s->id] = NULL;
	s->relay->num--;
	session_free(s);
	return true;
}

static void update_session(struct session *s)
{
	struct inlet *in = &s->in;
	bool takes_input = !in->ended && in->credit && s->relay->greeted;

	if (is_over(s))
		return;
	watch_for(&in->watch, in->watched, takes_input && !in->ready ? EPOLLIN : 0);
	for (unsigned i = 0; i < ARRAY_SIZE(s->out); i++)
		watch_for(&s->out[i].watch, s->out[i].watched, s->out[i].waits ? EPOLLOUT : 0);
}

static bool wants_port(const struct session *s)
{
	return !s->in.ended && s->in.credit && s->relay->greeted && s->in.ready;
}

/* Says what there is to say, and waits for what may be next. */
static void update(struct relay *r)
{
	bool more;

	if (r->wire.fd >= 0)
		transmit(r);
	more = r->wire.left;
	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (r->session[i]) {
			more = more || wants_port(r->session[i]);
			update_session(r->session[i]);
		}
	if (r->wire.fd >= 0)
		watch_for(&r->port, true, EPOLLIN | (more ? EPOLLOUT : 0));
}

static void close_port(struct relay *r)
{
	if (r->wire.fd < 0)
		return;
	loop_unwatch(&r->port);
	close(r->wire.fd);
	r->wire.fd = -1;
	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (r->session[i])
			r->session[i]->in.ended = true;
	update(r);
}

static void on_port(struct loop_fd *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, port);
	int n = 1;

	if (events & ~(uint32_t)EPOLLOUT)
		n = session_receive(r);
	if (n < 0)
		close_port(r);
	else
		update(r);
}

static void on_input(struct loop_fd *w, uint32_t events)
{
	struct session *s = container_of(w, struct session, in.watch);

	(void)events;
	s->in.ready = true;
	update(s->relay);
}

static void on_output(struct loop_fd *w, uint32_t events)
{
	struct outlet *o = container_of(w, struct outlet, watch);

	(void)events;
	session_drain(o);
	update(o->session->relay);
}

static int watch_stream(struct loop *loop, struct loop_fd *w, const struct std_stream *s, bool *ret,
			void (*ready)(struct loop_fd *w, uint32_t events))
{
	int r = s->fd < 0 ? 0 : loop_watch(loop, w, s->fd, EPOLLIN, ready);

	*ret = s->fd >= 0 && r >= 0;
	if (*ret)
		loop_pause(w);
	return r;
}

static int watch_streams(struct session *s)
{
	struct loop *loop = s->relay->loop;
	int e = watch_stream(loop, &s->in.watch, &s->in.from, &s->in.watched, on_input);

	for (unsigned i = 0; e >= 0 && i < ARRAY_SIZE(s->out); i++)
		e = watch_stream(loop, &s->out[i].watch, &s->out[i].to, &s->out[i].watched,
				 on_output);
	return e;
}

/* Clients */

static int take_from_client(void *ctx, const struct agent_message *m, const uint8_t *data)
{
	struct session *s = ctx;

	(void)data;
	if (m->type == AGENT_SIGNAL && m->value && m->value < MAX_SIGNAL)
		atomic_fetch_or(&s->signals, 1ull << m->value);
	else if (m->type == AGENT_SIZE)
		s->client.size = m->value, s->resized = true;
	else
		return -EPROTO;
	return 0;
}

/* Its command is told as that of a terminal that hangs up. */
static void on_talk(struct loop_fd *w, uint32_t events)
{
	struct session *s = container_of(w, struct session, talk);
	struct relay *r = s->relay;

	(void)events;
	if (wire_receive(&s->wire, take_from_client, s) < 0) {
		loop_unwatch(&s->talk);
		s->hung_up = s->in.ready = true;
		atomic_fetch_or(&s->signals, 1ull << SIGHUP);
		for (size_t i = 0; i < ARRAY_SIZE(s->out); i++)
			session_lose_reader(&s->out[i], EPIPE);
	}
	update(r);
}

static void admit(struct relay *r)
{
	struct session *s = atomic_exchange(&r->newcomer, NULL);
	unsigned id = 1;

	if (!s)
		return;
	while (r->session[id])
		id++; /* relay_add() has counted */
	s->id = id;
	if (loop_watch(r->loop, &s->talk, s->client.talk, EPOLLIN, on_talk) < 0)
		s->talk.fd = -1;
	if (s->talk.fd < 0 || watch_streams(s) < 0) {
		r->num--;
		session_free(s);
		return;
	}
	r->session[id] = s;
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, wake);

	(void)events;
	loop_drain_eventfd(w);
	r->session[0]->in.ready = true; /* the terminal may be ours again */
	admit(r);
	update(r);
}

static struct session *session_new(struct relay *r)
{
	static const char *const names[] = {"standard output", "standard error", "artifacts"};
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->relay = r;
	s->result = NOT_ENDED;
	s->resized = true;
	s->talk.fd = -1;
	s->in.credit = AGENT_WINDOW;
	s->out[2].to.fd = -1;
	s->out[2].gone = s->out[2].ended = true;
	for (size_t i = 0; i < ARRAY_SIZE(s->out); i++) {
		s->out[i].name = names[i];
		s->out[i].session = s;
	}
	return s;
}

int relay_add(struct relay *r, const struct relay_client *client, struct error *e)
{
	struct session *s, *none = NULL;

	if (r->num == AGENT_COMMANDS)
		return error_set(e, -EUSERS, "the VM runs %u commands at a time, and no more",
				 AGENT_COMMANDS);
	s = session_new(r);
	if (!s)
		return error_set(e, -ENOMEM, "out of memory");
	s->client = *client;
	s->wire.fd = client->talk;
	s->in.from = client->stream[0];
	s->out[0].to = client->stream[1];
	s->out[1].to = client->stream[2];
	if (!atomic_compare_exchange_strong(&r->newcomer, &none, s)) {
		free(s);
		return error_set(e, -EBUSY, "another command is just beginning: try again");
	}
	r->num++;
	eventfd_write(r->wake.fd, 1);
	return 0;
}

static int watch_all(struct relay *r)
{
	int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int e = wake < 0 ? -errno : loop_watch(r->loop, &r->wake, wake, EPOLLIN, on_wake);

	if (e < 0 && wake >= 0)
		close(wake);
	if (e < 0)
		return e;
	e = loop_watch(r->loop, &r->port, r->wire.fd, EPOLLIN, on_port);
	return e < 0 ? e : watch_streams(r->session[0]);
}

static void open_streams(struct session *s, const struct relay_config *config)
{
	std_open(&s->in.from, config->in, O_RDONLY);
	std_open(&s->out[0].to, config->out, O_WRONLY);
	std_open(&s->out[1].to, config->err, O_WRONLY);
	if (config->artifacts < 0)
		return;
	std_open(&s->out[2].to, config->artifacts, O_WRONLY);
	s->out[2].gone = s->out[2].ended = false;
}

int relay_new(struct relay **ret, const struct relay_config *config, struct loop *loop,
	      struct error *e)
{
	struct relay *r = calloc(1, sizeof(*r));
	int error;

	if (r)
		r->session[0] = session_new(r);
	if (!r || !r->session[0]) {
		free(r);
		close(config->port);
		return error_set(e, -ENOMEM, "out of memory");
	}
	r->config = *config;
	r->loop = loop;
	r->num = 1;
	r->wire.fd = config->port;
	r->wake.fd = -1;
	open_streams(r->session[0], config);
	error = watch_all(r);
	if (error < 0) {
		relay_free(r);
		return error_set(e, error, "cannot watch the standard streams: %m");
	}
	*ret = r;
	return 0;
}

void relay_free(struct relay *r)
{
	struct session *newcomer;

	if (!r)
		return;
	r->loop = NULL;
	newcomer = r->newcomer;
	if (newcomer) {
		newcomer->id = AGENT_COMMANDS;
		session_free(newcomer);
	}
	if (r->wire.fd >= 0)
		close(r->wire.fd);
	if (r->wake.fd >= 0)
		close(r->wake.fd);
	for (unsigned i = 0; i < AGENT_COMMANDS; i++)
		if (r->session[i])
			session_free(r->session[i]);
	free(r);
}

void relay_signal(struct relay *r, int sig)
{
	atomic_fetch_or(&r->session[0]->signals, 1ull << (unsigned)sig);
	eventfd_write(r->wake.fd, 1);
}

void relay_resize(struct relay *r)
{
	atomic_store(&r->session[0]->resized, true);
	eventfd_write(r->wake.fd, 1);
}

void relay_finish(struct relay *r)
{
	struct session *s = r->session[0];

	while (r->wire.fd >= 0 && session_receive(r) > 0)
		;
	for (unsigned i = 0; i < ARRAY_SIZE(s->out); i++) {
		struct pollfd p = {.fd = s->out[i].to.fd, .events = POLLOUT};

		for (session_drain(&s->out[i]); s->out[i].ring.len; session_drain(&s->out[i]))
			poll(&p, 1, -1);
	}
}

int relay_result(const struct relay *r, struct error *e)
{
	int result = r->session[0]->result;

	if (result != NOT_ENDED)
		return result;
	if (r->broken)
		return error_set(e, -EPROTO, "%s", r->why);
	if (!r->greeted)
		return error_set(e, -ENODATA,
				 "the guest started no agent, and so no command: make the default "
				 "guest anew with 'skep-mkguest'");
	return error_set(e, -ECHILD, "the guest ended before the command did");
}

void relay_counters(const struct relay *r, struct relay_counters *ret)
{
	const struct session *s = r->session[0];

	*ret = (struct relay_counters){.stdin_bytes = s->in.bytes,
				       .stdout_bytes = s->out[0].bytes,
				       .stderr_bytes = s->out[1].bytes};
}
