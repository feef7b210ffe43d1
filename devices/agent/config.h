// SPDX-License-Identifier: BSD-2-Clause
/* What a relay is made from, and what clients bring. */
#ifndef SKEP_AGENT_CONFIG_H
#define SKEP_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream.h"

struct relay_config {
	int port;	   /* a socket that does not block, to the agent; becomes the relay's */
	int in, out, err;  /* the streams; they stay the caller's */
	int artifacts;	   /* the same, for what is packed of the command's files; -1: none */
	const char *setup; /* AGENT_SETUP; outlives the relay */
	size_t setup_len;
	/* How large the terminal is, `value` of AGENT_SIZE; NULL: there is none. On the loop. */
	uint32_t (*size)(void *ctx);
	void *ctx;
};

/* Who wants a command of its own (`skep exec`). All descriptors become the relay's. */
struct relay_client {
	int talk;  /* a socket that does not block: AGENT_SIGNAL and AGENT_SIZE come, AGENT_EXIT is
		    * said; when it closes, the command gets SIGHUP */
	int setup; /* a file with AGENT_SETUP, to be read from where it is */
	struct std_stream stream[3]; /* standard input, output, error; all `owned` */
	bool terminal;
	uint32_t size; /* of the terminal, `value` of AGENT_SIZE */
};

#endif
