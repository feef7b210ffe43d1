// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define LOG_LINE_MAX 1024 /* below PIPE_BUF, so that lines of several threads never mix */

/* How long an error waits for its reader before it is dropped; what is less does not wait. */
#define STALLED_MS 300

static enum log_level max_level = LOG_NOTICE;
static _Atomic bool crlf;
static _Atomic int out_fd = STDERR_FILENO;

void log_set_level(enum log_level level)
{
	max_level = level;
}

void log_set_crlf(bool on)
{
	atomic_store_explicit(&crlf, on, memory_order_relaxed);
}

int log_set_fd(int fd)
{
	return atomic_exchange(&out_fd, fd);
}

int log_fd(void)
{
	return atomic_load(&out_fd);
}

/* A reader that stalls must stall nobody. */
static bool can_write(int fd, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int r;

	do
		r = poll(&p, 1, wait_ms);
	while (r < 0 && errno == EINTR);
	return r != 0;
}

static bool put(const char *line)
{
	int fd = atomic_load(&out_fd);

	return can_write(fd, STALLED_MS) && write(fd, line, strlen(line)) > 0;
}

bool log_text(const char *text)
{
	char line[LOG_LINE_MAX];

	snprintf(line, sizeof(line) - 1, "%s", text);
	text_clean(line);
	strcat(line, "\n");
	return put(line);
}

void log_say(const struct error *e, int code)
{
	char line[sizeof(e->msg) + sizeof("skep: \n")];

	snprintf(line, sizeof(line), "skep: %s", e->msg[0] ? e->msg : strerror(-code));
	text_clean(line);
	strcat(line, "\n");
	put(line);
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *fmt,
							   va_list ap)
{
	static const char *const prefix[] = {
		"skep: error: ", "skep: warning: ", "skep: ", "skep: ", "skep: debug: "};
	char line[LOG_LINE_MAX + PATH_MAX]; /* a path may be in it, until it is shortened */
	size_t start = strlen(prefix[level]), len;
	int fd = atomic_load(&out_fd);

	strcpy(line, prefix[level]);
	if (vsnprintf(line + start, sizeof(line) - start, fmt, ap) < 0 ||
	    !can_write(fd, level == LOG_ERROR ? STALLED_MS : 0))
		return;
	shorten(line, LOG_LINE_MAX - 3); /* CR LF */
	text_clean(line);		 /* it may quote the guest */
	len = strlen(line);
	if (atomic_load_explicit(&crlf, memory_order_relaxed))
		line[len++] = '\r';
	line[len++] = '\n';
	(void)!write(fd, line, len);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	log_line(level, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	uint64_t start = atomic_load(&limit->window_start), now = clock_ns(CLOCK_MONOTONIC_COARSE);
	va_list ap;

	if (level > max_level)
		return;
	/* The first line after a window has passed opens the next one and accounts for the last. */
	if (now - start >= LOG_PERIOD_NS &&
	    atomic_compare_exchange_strong(&limit->window_start, &start, now)) {
		uint32_t count = atomic_exchange(&limit->count, 0);

		if (count > LOG_BURST)
			log_at(level, "%u more lines like the next one were dropped",
			       count - LOG_BURST);
	}
	if (atomic_fetch_add(&limit->count, 1) >= LOG_BURST)
		return;
	va_start(ap, fmt);
	log_line(level, fmt, ap);
	va_end(ap);
}
