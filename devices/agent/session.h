// SPDX-License-Identifier: BSD-2-Clause
/* The commands of a relay, and what is said of them (session.c), for relay.c. */
#ifndef SKEP_AGENT_SESSION_H
#define SKEP_AGENT_SESSION_H

#include <signal.h>
#include <stdatomic.h>

#include "agent/wire.h"
#include "base/loop.h"
#include "config.h"

#define MAX_SIGNAL 64u
#define NOT_ENDED  (-1)

struct session;

/* Of a command's output, and its artifacts. */
struct outlet {
	struct session *session;
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

/* A command. */
struct session {
	struct relay *relay;
	unsigned id;
	bool setup_ended;
	size_t setup_sent;
	_Atomic uint64_t signals; /* bit N: signal N is to be sent */
	_Atomic bool resized;
	_Atomic int result; /* NOT_ENDED, or `value` of AGENT_EXIT */
	struct inlet in;
	struct outlet out[3];

	/* Of a client; the first command has none. */
	struct relay_client client;
	struct loop_fd talk;
	bool hung_up;
	struct wire wire;
};

struct relay {
	struct relay_config config;
	struct loop *loop;
	struct loop_fd port, wake;
	_Atomic bool greeted;
	_Atomic bool broken;
	char why[160]; /* set before `broken` */

	struct session *session[AGENT_COMMANDS]; /* the first is there always */
	unsigned turn;
	_Atomic unsigned num;		    /* of these, and of: */
	_Atomic(struct session *) newcomer; /* NULL: none */
	struct wire wire;
};

/* Reads what the agent says. 1: there may be more, 0: not now, -EPROTO: the guest breaks the protocol,
 * -EPIPE: it is gone. */
int session_receive(struct relay *r);
/* Makes the next message to the agent; false: there is nothing to say. The first command's place is made
 * before there are others; then they take turns. */
bool session_say_next(struct relay *r);
/* Writes what the reader takes; nobody reads any more, and what comes is dropped. */
void session_drain(struct outlet *o);
void session_lose_reader(struct outlet *o, int error);

#endif
