// SPDX-License-Identifier: BSD-2-Clause
/* Log lines on stderr: one write(2) for each line, from any thread, rate-limited where a guest can
 * cause them. They never wait for their reader: a line for which there is no room is dropped. */
#ifndef SKEP_LOG_H
#define SKEP_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* A notice is what a user wants to know and has nothing to fear of. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* Lines above this level are dropped. The default is LOG_NOTICE. Call before threads start. */
void log_set_level(enum log_level level);

/* Where lines go from now on: a non-blocking description of stderr, or STDERR_FILENO, the default.
 * Returns the previous one. Any thread. */
int log_set_fd(int fd);
int log_fd(void); /* the current one */

/* End lines with CR LF: the terminal is in raw mode. Callable from any thread. */
void log_set_crlf(bool on);

__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *fmt, ...);

/* Writes the message, or that of `code` where there is none, to stderr as one line, at any level,
 * and waits a moment for the reader. Main thread, or when the others no longer matter. */
void log_say(const struct error *e, int code);
/* The same for a line of text that is no message of skep's own: false when the reader took none. */
bool log_text(const char *text);

/* One call site's budget of lines: LOG_BURST in LOG_PERIOD_NS, then a line that counts the rest. */
struct log_limit {
	_Atomic uint64_t window_start; /* CLOCK_MONOTONIC_COARSE, nanoseconds */
	_Atomic uint32_t count;
};
#define LOG_BURST     8u
#define LOG_PERIOD_NS 5000000000u

__attribute__((format(printf, 3, 4))) void log_limited(struct log_limit *limit,
						       enum log_level level, const char *fmt, ...);

#define log_error(...)	log_at(LOG_ERROR, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_warn(...)	log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)	log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)	log_at(LOG_DEBUG, __VA_ARGS__)

/* For everything that a guest can cause. */
#define log_guest(...)                                                                             \
	do {                                                                                       \
		static struct log_limit log_guest_limit_;                                          \
		log_limited(&log_guest_limit_, LOG_WARN, __VA_ARGS__);                             \
	} while (0)

#endif
