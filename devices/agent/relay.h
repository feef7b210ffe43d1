// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between skep's standard streams and the agent in the guest, which runs a command there
 * (agent/protocol.h).
 */
#ifndef SKEP_RELAY_H
#define SKEP_RELAY_H

#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "config.h"

struct relay;

/* `loop` is of LOOP_EPOLL, and does not run yet. A negative errno with a message. */
int relay_new(struct relay **ret, const struct relay_config *config, struct loop *loop,
	      struct error *e);
/* The loop has ended, and may be gone; NULL-safe. */
void relay_free(struct relay *relay);

/* Hands this signal to the command; the terminal has another size, or is ours again. Any thread. */
void relay_signal(struct relay *relay, int sig);
void relay_resize(struct relay *relay);

/* The loop has ended, and so has the guest: writes what that said last, however long it takes. */
void relay_finish(struct relay *relay);

/* How the command ended: `value` of AGENT_EXIT. Or a negative errno with a message: it has not. Any
 * thread. */
int relay_result(const struct relay *relay, struct error *e);

/* Begins the command of a client once the first has begun. A negative errno with a message: the descriptors are still
 * the caller's. One thread at a time. */
int relay_add(struct relay *relay, const struct relay_client *client, struct error *e);

struct relay_counters {
	int64_t stdin_bytes, stdout_bytes, stderr_bytes;
};
/* Any thread. */
void relay_counters(const struct relay *relay, struct relay_counters *ret);

#endif
