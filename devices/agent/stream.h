// SPDX-License-Identifier: BSD-2-Clause
/* A standard stream of skep's, without making it one that does not block: others share it. */
#ifndef SKEP_AGENT_STREAM_H
#define SKEP_AGENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct std_stream {
	int fd;
	bool owned;  /* another description of the same, which does not block */
	bool socket; /* asked not to block at each call */
	bool blocks; /* neither is possible: polled first, and given little */
};

/* `flags` as open(2): O_RDONLY or O_WRONLY. `fd` stays the caller's. */
void std_open(struct std_stream *ret, int fd, int flags);
void std_close(struct std_stream *s);
/* As read(2) and write(2); -EAGAIN or another negative errno. */
ssize_t std_read(const struct std_stream *s, void *buf, size_t len);
ssize_t std_write(const struct std_stream *s, const void *buf, size_t len);

#endif
