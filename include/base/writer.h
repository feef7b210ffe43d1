// SPDX-License-Identifier: BSD-2-Clause
/*
 * A thread that writes to a descriptor what others hand over, so that a slow reader holds nobody
 * up. The buffer is limited; what does not fit is lost and counted, and a line in the stream says
 * where.
 */
#ifndef SKEP_WRITER_H
#define SKEP_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define WRITER_SIZE 1048576u /* bytes of the buffer; unused memory is not allocated */

struct writer_count {
	uint64_t written; /* bytes that were put and went out */
	uint64_t lost;	  /* bytes that were put and did not ... */
	int error;	  /* ... for this reason; 0: nobody read them in time */
};
#define WRITER_LATE "nobody read them in time"

struct writer;

/* A writer to `fd`, which stays the caller's and may block or not. `name` is borrowed: for messages
 * and its thread. -ENOMEM with a message. */
int writer_new(struct writer **ret, int fd, const char *name, struct error *e);

/* Starts the thread, once setup(arg) has succeeded on it (e.g. to enter the sandbox). What was put
 * before is written then. May be called again after writer_stop(). A negative errno with a
 * message. */
int writer_start(struct writer *w, int (*setup)(void *arg), void *arg, struct error *e);

/* Readers come and go: nobody is there until writer_resume(), nor when one has hung up, until the next
 * writer_resume(); what is put meanwhile is kept, as far as it fits. Before writer_start(). */
void writer_await(struct writer *w);
/* There is another reader at the descriptor, which may have become another file. Any thread. */
void writer_resume(struct writer *w);

/* The descriptor is a regular file's, open to append, that is not to grow beyond `max` bytes: before it
 * would, what is in it moves to the file `old`, also open to append, in place of what that had. `again`
 * reads the same file. All stay the caller's. Before writer_start(). */
void writer_limit(struct writer *w, uint64_t max, int again, int old);
/* Moves it now. Any thread. */
void writer_rotate(struct writer *w);

/* Hands over `len` bytes. Never waits for the reader. Any thread. */
void writer_put(struct writer *w, const void *data, size_t len);

/* Ends the thread: for `ns` it may write what is left, then a write that waits is cut short. If the
 * kernel cannot interrupt it (a dead file server), it is left to the end of the process. NULL-safe,
 * idempotent. No writer_put() after this. */
void writer_stop(struct writer *w, uint64_t ns);

/* What became of all bytes that were put. Final after writer_stop(). Any thread. */
struct writer_count writer_count(struct writer *w);

/* Stopped, or never started; NULL-safe. Closes nothing. */
void writer_free(struct writer *w);

#endif
