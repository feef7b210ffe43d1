// SPDX-License-Identifier: BSD-2-Clause
/* Messages on their way through a port, and the bytes of a stream that wait: for both ends of the talk. */
#ifndef SKEP_WIRE_H
#define SKEP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

#define WIRE_HEADER sizeof(struct agent_message)
#define WIRE_GRANT  (AGENT_WINDOW / 4) /* so many bytes are told of at once */

struct wire {
	int fd;		   /* does not block; the caller's */
	size_t got;	   /* bytes in `from` */
	size_t left, sent; /* of `to`: what is still to go, and what is gone */
	uint8_t from[WIRE_HEADER + AGENT_MAX_DATA], to[WIRE_HEADER + AGENT_MAX_DATA];
};

/* Reads once, and hands on the messages that are whole, in the host's byte order, until `take` returns
 * a negative errno, which is returned. 1: there may be more; 0: not now; -EPIPE: the other end is gone;
 * -EBADMSG: a message has a length that none may have. */
int wire_receive(struct wire *w,
		 int (*take)(void *ctx, const struct agent_message *m, const uint8_t *data),
		 void *ctx);

/* The message to be sent next, when none is left; its data is at wire_data() already. Returns true. */
bool wire_say(struct wire *w, enum agent_kind type, unsigned stream, size_t len, uint32_t value);
static inline uint8_t *wire_data(struct wire *w)
{
	return w->to + WIRE_HEADER;
}
/* Writes what the port takes of it. 1: some; 0: nothing now; -EPIPE: the other end is gone. */
int wire_send(struct wire *w);

/* Bytes of a stream: as much as its window. */
struct ring {
	size_t start, len;
	uint8_t bytes[AGENT_WINDOW];
};
/* `len` is at most what is free. */
void ring_put(struct ring *ring, const uint8_t *data, size_t len);
/* The first that are in one piece, and how many; ring_took() drops as many of them. */
size_t ring_next(const struct ring *ring, const uint8_t **ret);
void ring_took(struct ring *ring, size_t len);

#endif
