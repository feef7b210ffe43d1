// SPDX-License-Identifier: BSD-2-Clause
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "session.h"

static_assert(sizeof(struct agent_message) == 8, "as it is sent");

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

void session_lose_reader(struct outlet *o, int error)
{
	if (error != EPIPE && error != ECONNRESET)
		log_warn("%s: %s", o->name, strerror(error));
	o->gone = true;
	o->done += (uint32_t)o->ring.len;
	o->ring.len = 0;
}

void session_drain(struct outlet *o)
{
	o->waits = false;
	while (o->ring.len && !o->waits) {
		const uint8_t *next;
		size_t n = ring_next(&o->ring, &next);
		ssize_t r = std_write(&o->to, next, n);

		if (r == -EAGAIN) {
			o->waits = true;
		} else if (r < 0 && r != -EINTR) {
			session_lose_reader(o, (int)-r);
		} else if (r > 0) {
			ring_took(&o->ring, (size_t)r);
			o->done += (uint32_t)r;
			o->bytes += r;
		}
	}
}

static struct outlet *outlet_of(struct session *s, unsigned stream)
{
	return stream >= AGENT_STDOUT && stream <= AGENT_ARTIFACTS ? &s->out[stream - AGENT_STDOUT]
								   : NULL;
}

static int take_data(struct session *s, const struct agent_message *m, const uint8_t *data)
{
	struct outlet *o = outlet_of(s, AGENT_STREAM(m->stream));

	if (!o || o->ended || !m->len || m->len > AGENT_WINDOW - o->ring.len - o->done)
		return refuse(s->relay, "the guest's agent sends output that it may not send");
	if (o->gone)
		o->done += m->len;
	else
		ring_put(&o->ring, data, m->len);
	session_drain(o);
	return 0;
}

static int take_end(struct session *s, unsigned stream)
{
	struct outlet *o = outlet_of(s, stream);

	if (!o && stream != AGENT_STDIN)
		return refuse(s->relay, "the guest's agent ends a stream that is none");
	if (o)
		o->ended = true;
	else
		s->in.ended = true;
	return 0;
}

static int take_credit(struct session *s, const struct agent_message *m)
{
	if (AGENT_STREAM(m->stream) != AGENT_STDIN || m->value > AGENT_WINDOW - s->in.credit)
		return refuse(s->relay, "the guest's agent takes more input than there was");
	s->in.credit += m->value;
	return 0;
}

static int take_exit(struct session *s, uint32_t value)
{
	if (value & ~AGENT_EXIT_MASK || AGENT_SIGNALLED(value) > MAX_SIGNAL)
		return refuse(s->relay, "the guest's agent tells of a signal that is none");
	atomic_store(&s->result, (int)value);
	s->in.ended = true;
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
	unsigned id = AGENT_ID(m->stream);
	struct session *s = id < AGENT_COMMANDS ? r->session[id] : NULL;

	if (r->greeted == (m->type == AGENT_HELLO) || !s || s->result != NOT_ENDED ||
	    r->session[0]->result != NOT_ENDED)
		return refuse(r, "the guest's agent says something out of order");
	switch (m->type) {
	case AGENT_HELLO:
		return take_hello(r, m->value);
	case AGENT_DATA:
		return take_data(s, m, data);
	case AGENT_END:
		return take_end(s, AGENT_STREAM(m->stream));
	case AGENT_CREDIT:
		return take_credit(s, m);
	case AGENT_EXIT:
		return take_exit(s, m->value);
	default:
		return refuse(r, "the guest's agent says something that has no meaning");
	}
}

int session_receive(struct relay *r)
{
	int e = wire_receive(&r->wire, take_message, r);

	return e == -EBADMSG ? refuse(r, "the guest's agent sends a message of no length") : e;
}

/* What it is told */

static bool say(struct session *s, enum agent_kind type, unsigned stream, size_t len,
		uint32_t value)
{
	return wire_say(&s->relay->wire, type, AGENT_STREAM_OF(s->id, stream), len, value);
}

/* Of a client's it is in a file. */
static bool say_setup(struct session *s)
{
	const struct relay_config *config = &s->relay->config;
	size_t n = MIN(config->setup_len - s->setup_sent, AGENT_MAX_DATA);
	ssize_t r = (ssize_t)n;

	if (s->id)
		r = read(s->client.setup, wire_data(&s->relay->wire), AGENT_MAX_DATA);
	else
		memcpy(wire_data(&s->relay->wire), config->setup + s->setup_sent, n);
	if (r <= 0) {
		s->setup_ended = true;
		return say(s, AGENT_END, AGENT_SETUP, 0, 0);
	}
	s->setup_sent += (size_t)r;
	return say(s, AGENT_DATA, AGENT_SETUP, (size_t)r, 0);
}

static bool say_signal(struct session *s)
{
	uint64_t all = s->signals;
	unsigned sig = all ? (unsigned)__builtin_ctzll(all) : 0;

	if (!all)
		return false;
	atomic_fetch_and(&s->signals, ~(1ull << sig));
	return say(s, AGENT_SIGNAL, 0, 0, sig);
}

static bool say_of_output(struct session *s, unsigned stream)
{
	struct outlet *o = outlet_of(s, stream);
	uint32_t done = o->done;

	if (o->gone && !o->told && !o->ended) {
		o->told = true;
		return say(s, AGENT_END, stream, 0, 0);
	}
	if (o->gone || o->ended || done < WIRE_GRANT)
		return false;
	o->done = 0;
	return say(s, AGENT_CREDIT, stream, 0, done);
}

static bool has_terminal(const struct session *s)
{
	return s->id ? s->client.terminal : s->relay->config.size != NULL;
}

static bool say_input(struct session *s)
{
	struct inlet *in = &s->in;
	ssize_t n;

	if (in->ended || !in->ready || !in->credit)
		return false;
	n = s->hung_up ? 0
		       : std_read(&in->from, wire_data(&s->relay->wire),
				  MIN(in->credit, AGENT_MAX_DATA));
	if (n == -EAGAIN || n == -EINTR || (n == -EIO && has_terminal(s))) {
		in->ready = false; /* EIO: another job has the terminal */
		return false;
	}
	if (n <= 0) {
		in->ended = true;
		return say(s, AGENT_END, AGENT_STDIN, 0, 0);
	}
	in->ready = !in->from.blocks;
	in->credit -= (uint32_t)n;
	in->bytes += n;
	return say(s, AGENT_DATA, AGENT_STDIN, (size_t)n, 0);
}

static bool say_of(struct session *s)
{
	const struct relay_config *config = &s->relay->config;

	if (s->result != NOT_ENDED)
		return false;
	if (has_terminal(s) && atomic_exchange(&s->resized, false))
		return say(s, AGENT_SIZE, 0, 0, s->id ? s->client.size : config->size(config->ctx));
	if (!s->setup_ended)
		return say_setup(s);
	return say_signal(s) || say_of_output(s, AGENT_STDOUT) || say_of_output(s, AGENT_STDERR) ||
	       say_of_output(s, AGENT_ARTIFACTS) || say_input(s);
}

bool session_say_next(struct relay *r)
{
	bool first = !r->session[0]->setup_ended;

	if (!r->greeted || r->session[0]->result != NOT_ENDED)
		return false;
	for (unsigned i = 0; i < AGENT_COMMANDS; i++) {
		struct session *s = r->session[first ? 0 : r->turn++ % AGENT_COMMANDS];

		if (s && say_of(s))
			return true;
	}
	return false;
}
