// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. Messages to the agent are made when the port takes them, one at a time, out
 * of what has to be said: so nothing that the guest does makes them pile up. Messages from it are
 * checked, and can only have as much output as its window allows, for which there is room. So the port
 * is always read, and a slow reader of one stream holds up nothing but that stream in the guest.
 *
 * All is done on the loop, but for what other threads leave in atomics before they wake it.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/wire.h"
#include "base/log.h"
#include "base/util.h"
#include "relay.h"
#include "stream.h"

#define MAX_SIGNAL    64u
#define NOT_ENDED     (-1)
#define TURN_MESSAGES 64u

static_assert(sizeof(struct agent_message) == 8, "as it is sent");

/* Of the command's output, and its artifacts. */
struct outlet {
	struct relay *relay;
	const char *name;
	struct std_stream to;
	struct loop_fd watch;
	bool watched, waits; /* waits: for the reader */
	uint32_t done;	     /* bytes that are written, of which the agent does not know */
	bool ended;	     /* it sends no more */
	bool gone, told;     /* nobody reads; the agent knows */
	_Atomic int64_t bytes;
	struct ring ring;
};

struct inlet {
	struct std_stream from;
	struct loop_fd watch;
	bool watched, ready; /* ready: there may be some */
	bool ended;	     /* the agent knows that nothing more comes, or takes none */
	uint32_t credit;
	_Atomic int64_t bytes;
};

struct relay {
	struct relay_config config;
	struct loop_fd port, wake;
	_Atomic bool greeted;
	bool setup_ended;
	size_t setup_sent;

	_Atomic uint64_t signals; /* bit N: signal N is to be sent */
	_Atomic bool resized;
	_Atomic int result; /* NOT_ENDED, or `value` of AGENT_EXIT */
	_Atomic bool broken;
	char why[160]; /* set before `broken` */

	struct inlet in;
	struct outlet out[3];
	struct wire wire;
};

/* What the agent says */

__attribute__((format(printf, 2, 3))) static int refuse(struct relay *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	atomic_store(&r->broken, true);
	log_guest("%s", r->why);
	return -EPROTO;
}

/* Nobody reads any more: what comes is dropped. */
static void lose_reader(struct outlet *o, int error)
{
	if (error != EPIPE && error != ECONNRESET)
		log_warn("%s: %s", o->name, strerror(error));
	o->gone = true;
	o->done += (uint32_t)o->ring.len;
	o->ring.len = 0;
}

/* Writes what the reader takes. */
static void drain(struct outlet *o)
{
	o->waits = false;
	while (o->ring.len && !o->waits) {
		const uint8_t *next;
		size_t n = ring_next(&o->ring, &next);
		ssize_t r = std_write(&o->to, next, n);

		if (r == -EAGAIN) {
			o->waits = true;
		} else if (r < 0 && r != -EINTR) {
			lose_reader(o, (int)-r);
		} else if (r > 0) {
			ring_took(&o->ring, (size_t)r);
			o->done += (uint32_t)r;
			o->bytes += r;
		}
	}
}

static struct outlet *outlet_of(struct relay *r, unsigned stream)
{
	return stream >= AGENT_STDOUT && stream <= AGENT_ARTIFACTS ? &r->out[stream - AGENT_STDOUT]
								   : NULL;
}

static int take_data(struct relay *r, const struct agent_message *m, const uint8_t *data)
{
	struct outlet *o = outlet_of(r, m->stream);

	if (!o || o->ended || !m->len || m->len > AGENT_WINDOW - o->ring.len - o->done)
		return refuse(r, "the guest's agent sends output that it may not send");
	if (o->gone)
		o->done += m->len;
	else
		ring_put(&o->ring, data, m->len);
	drain(o);
	return 0;
}

static int take_end(struct relay *r, unsigned stream)
{
	struct outlet *o = outlet_of(r, stream);

	if (!o && stream != AGENT_STDIN)
		return refuse(r, "the guest's agent ends a stream that is none");
	if (o)
		o->ended = true;
	else
		r->in.ended = true;
	return 0;
}

static int take_credit(struct relay *r, const struct agent_message *m)
{
	if (m->stream != AGENT_STDIN || m->value > AGENT_WINDOW - r->in.credit)
		return refuse(r, "the guest's agent takes more input than there was");
	r->in.credit += m->value;
	return 0;
}

static int take_exit(struct relay *r, uint32_t value)
{
	if (value & ~AGENT_EXIT_MASK || AGENT_SIGNALLED(value) > MAX_SIGNAL)
		return refuse(r, "the guest's agent tells of a signal that is none");
	atomic_store(&r->result, (int)value);
	r->in.ended = true;
	return 0;
}

static int take_hello(struct relay *r, uint32_t version)
{
	if (version != AGENT_VERSION)
		return refuse(r,
			      "the guest's agent is of another version of skep (%u, not %u): make "
			      "the default guest anew with 'skep-mkguest'",
			      version, AGENT_VERSION);
	r->greeted = true;
	return 0;
}

static int take_message(void *ctx, const struct agent_message *m, const uint8_t *data)
{
	struct relay *r = ctx;

	if (r->greeted == (m->type == AGENT_HELLO) || r->result != NOT_ENDED)
		return refuse(r, "the guest's agent says something out of order");
	switch (m->type) {
	case AGENT_HELLO:
		return take_hello(r, m->value);
	case AGENT_DATA:
		return take_data(r, m, data);
	case AGENT_END:
		return take_end(r, m->stream);
	case AGENT_CREDIT:
		return take_credit(r, m);
	case AGENT_EXIT:
		return take_exit(r, m->value);
	default:
		return refuse(r, "the guest's agent says something that has no meaning");
	}
}

/* 1: there may be more, 0: not now, -EPROTO: the guest breaks the protocol, -EPIPE: it is gone. */
static int receive(struct relay *r)
{
	int e = wire_receive(&r->wire, take_message, r);

	return e == -EBADMSG ? refuse(r, "the guest's agent sends a message of no length") : e;
}

/* What it is told */

static bool say_setup(struct relay *r)
{
	size_t n = MIN(r->config.setup_len - r->setup_sent, AGENT_MAX_DATA);

	if (!n) {
		r->setup_ended = true;
		return wire_say(&r->wire, AGENT_END, AGENT_SETUP, 0, 0);
	}
	memcpy(wire_data(&r->wire), r->config.setup + r->setup_sent, n);
	r->setup_sent += n;
	return wire_say(&r->wire, AGENT_DATA, AGENT_SETUP, n, 0);
}

static bool say_signal(struct relay *r)
{
	uint64_t all = r->signals;
	unsigned sig = all ? (unsigned)__builtin_ctzll(all) : 0;

	if (!all)
		return false;
	atomic_fetch_and(&r->signals, ~(1ull << sig));
	return wire_say(&r->wire, AGENT_SIGNAL, 0, 0, sig);
}

static bool say_of_output(struct relay *r, unsigned stream)
{
	struct outlet *o = outlet_of(r, stream);
	uint32_t done = o->done;

	if (o->gone && !o->told && !o->ended) {
		o->told = true;
		return wire_say(&r->wire, AGENT_END, stream, 0, 0);
	}
	if (o->gone || o->ended || done < WIRE_GRANT)
		return false;
	o->done = 0;
	return wire_say(&r->wire, AGENT_CREDIT, stream, 0, done);
}

static bool say_input(struct relay *r)
{
	struct inlet *in = &r->in;
	ssize_t n;

	if (in->ended || !in->ready || !in->credit)
		return false;
	n = std_read(&in->from, wire_data(&r->wire), MIN(in->credit, AGENT_MAX_DATA));
	if (n == -EAGAIN || n == -EINTR || (n == -EIO && r->config.size)) {
		in->ready = false; /* EIO: another job has the terminal */
		return false;
	}
	if (n <= 0) {
		in->ended = true;
		return wire_say(&r->wire, AGENT_END, AGENT_STDIN, 0, 0);
	}
	in->ready = !in->from.blocks;
	in->credit -= (uint32_t)n;
	in->bytes += n;
	return wire_say(&r->wire, AGENT_DATA, AGENT_STDIN, (size_t)n, 0);
}

/* Makes the next message; false: there is nothing to say. */
static bool say_next(struct relay *r)
{
	if (!r->greeted || r->result != NOT_ENDED)
		return false;
	if (r->config.size && atomic_exchange(&r->resized, false))
		return wire_say(&r->wire, AGENT_SIZE, 0, 0, r->config.size(r->config.ctx));
	if (!r->setup_ended)
		return say_setup(r);
	if (say_signal(r))
		return true;
	return say_of_output(r, AGENT_STDOUT) || say_of_output(r, AGENT_STDERR) ||
	       say_of_output(r, AGENT_ARTIFACTS) || say_input(r);
}

static void transmit(struct relay *r)
{
	int e = 1;

	for (unsigned i = 0; e > 0 && i < TURN_MESSAGES && (r->wire.left || say_next(r)); i++)
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

/* Says what there is to say, and waits for what may be next. */
static void update(struct relay *r)
{
	struct inlet *in = &r->in;
	bool takes_input = !in->ended && in->credit && r->greeted;

	if (r->wire.fd >= 0) {
		transmit(r);
		watch_for(&r->port, true,
			  EPOLLIN | (r->wire.left || (takes_input && in->ready) ? EPOLLOUT : 0));
	}
	watch_for(&in->watch, in->watched, takes_input && !in->ready ? EPOLLIN : 0);
	for (unsigned i = 0; i < ARRAY_SIZE(r->out); i++)
		watch_for(&r->out[i].watch, r->out[i].watched, r->out[i].waits ? EPOLLOUT : 0);
}

static void close_port(struct relay *r)
{
	if (r->wire.fd < 0)
		return;
	loop_unwatch(&r->port);
	close(r->wire.fd);
	r->wire.fd = -1;
	r->in.ended = true;
	update(r);
}

static void on_port(struct loop_fd *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, port);
	int n = 1;

	if (events & ~(uint32_t)EPOLLOUT)
		n = receive(r);
	if (n < 0)
		close_port(r);
	else
		update(r);
}

static void on_input(struct loop_fd *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, in.watch);

	(void)events;
	r->in.ready = true;
	update(r);
}

static void on_output(struct loop_fd *w, uint32_t events)
{
	struct outlet *o = container_of(w, struct outlet, watch);

	(void)events;
	drain(o);
	update(o->relay);
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, wake);

	(void)events;
	loop_drain_eventfd(w);
	r->in.ready = true; /* the terminal may be ours again */
	update(r);
}

static int watch_stream(struct loop *loop, struct loop_fd *w, const struct std_stream *s, bool *ret,
			void (*ready)(struct loop_fd *w, uint32_t events))
{
	int r = loop_watch(loop, w, s->fd, EPOLLIN, ready);

	*ret = r >= 0;
	if (*ret)
		loop_pause(w);
	return r;
}

static int watch_all(struct relay *r, struct loop *loop)
{
	int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int e = wake < 0 ? -errno : loop_watch(loop, &r->wake, wake, EPOLLIN, on_wake);

	if (e < 0 && wake >= 0)
		close(wake);
	if (e < 0)
		return e;
	e = loop_watch(loop, &r->port, r->wire.fd, EPOLLIN, on_port);
	if (e >= 0)
		e = watch_stream(loop, &r->in.watch, &r->in.from, &r->in.watched, on_input);
	for (unsigned i = 0; e >= 0 && i < ARRAY_SIZE(r->out) && r->out[i].to.fd >= 0; i++)
		e = watch_stream(loop, &r->out[i].watch, &r->out[i].to, &r->out[i].watched,
				 on_output);
	return e;
}

int relay_new(struct relay **ret, const struct relay_config *config, struct loop *loop,
	      struct error *e)
{
	static const char *const names[] = {"standard output", "standard error", "artifacts"};
	struct relay *r = calloc(1, sizeof(*r));
	int error;

	if (!r) {
		close(config->port);
		return error_set(e, -ENOMEM, "out of memory");
	}
	r->config = *config;
	r->wire.fd = config->port;
	r->wake.fd = -1;
	r->result = NOT_ENDED;
	r->resized = true;
	r->in.credit = AGENT_WINDOW;
	std_open(&r->in.from, config->in, O_RDONLY);
	std_open(&r->out[0].to, config->out, O_WRONLY);
	std_open(&r->out[1].to, config->err, O_WRONLY);
	r->out[2].to.fd = -1;
	r->out[2].gone = r->out[2].ended = config->artifacts < 0;
	if (config->artifacts >= 0)
		std_open(&r->out[2].to, config->artifacts, O_WRONLY);
	for (size_t i = 0; i < ARRAY_SIZE(r->out); i++) {
		r->out[i].name = names[i];
		r->out[i].relay = r;
	}
	error = watch_all(r, loop);
	if (error < 0) {
		relay_free(r);
		return error_set(e, error, "cannot watch the standard streams: %m");
	}
	*ret = r;
	return 0;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	if (r->wire.fd >= 0)
		close(r->wire.fd);
	if (r->wake.fd >= 0)
		close(r->wake.fd);
	std_close(&r->in.from);
	for (size_t i = 0; i < ARRAY_SIZE(r->out); i++)
		std_close(&r->out[i].to);
	free(r);
}

void relay_signal(struct relay *r, int sig)
{
	atomic_fetch_or(&r->signals, 1ull << (unsigned)sig);
	eventfd_write(r->wake.fd, 1);
}

void relay_resize(struct relay *r)
{
	atomic_store(&r->resized, true);
	eventfd_write(r->wake.fd, 1);
}

void relay_finish(struct relay *r)
{
	while (r->wire.fd >= 0 && receive(r) > 0)
		;
	for (unsigned i = 0; i < ARRAY_SIZE(r->out); i++) {
		struct pollfd p = {.fd = r->out[i].to.fd, .events = POLLOUT};

		for (drain(&r->out[i]); r->out[i].ring.len; drain(&r->out[i]))
			poll(&p, 1, -1);
	}
}

int relay_result(const struct relay *r, struct error *e)
{
	if (r->result != NOT_ENDED)
		return r->result;
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
	*ret = (struct relay_counters){.stdin_bytes = r->in.bytes,
				       .stdout_bytes = r->out[0].bytes,
				       .stderr_bytes = r->out[1].bytes};
}
