// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The descriptor may be anything, and shared with other processes: a
 * stopped terminal, a pipe to a pager, the socket of a log daemon, a file on a dead server. Not all
 * of these can be made non-blocking, and what poll(2) says is outdated if others write there, too.
 * So a separate thread does the writing, and may get stuck in it.
 *
 * When the ring is full, everything is dropped (a gap) until it is empty. Then a line says how much
 * is missing, and new data is accepted again. So gaps are few, though long, and the line is in the
 * right place.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/util.h"
#include "base/writer.h"

#define WRITER_SIGNAL (SIGRTMIN + 2) /* cuts a system call short */
#define WRITER_STACK  (64 * KIB)
#define WRITE_MAX     (16 * KIB)
#define RETRY_NS      NSEC_PER_SEC /* after an error that may pass: a full disk */
#define CUT_NS	      10000000u
#define MAX_CUTS      50u

struct writer {
	int fd;
	bool is_file; /* which another one may replace */
	const char *name;
	uint64_t max; /* bytes of the file; 0: any ... */
	int again;    /* ... else it is read by this, ... */
	int old;      /* ... and moved to this one */
	pthread_t thread;
	bool started, stuck; /* stuck: in a system call, for as long as that takes */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t news;  /* any of it changed; CLOCK_MONOTONIC */
	bool done;	      /* the thread has no more to do */
	bool ending, cut;     /* it ends when all is written; at once */
	bool gone;	      /* nobody will ever read there */
	bool returns, away;   /* readers come and go; nobody reads there now */
	unsigned readers;     /* so many came */
	bool rotate;	      /* what is in the file is to be moved */
	size_t start, len;    /* of what waits in the ring */
	uint64_t gap;	      /* bytes lost after that, and not told yet */
	struct writer_count count;
	uint8_t ring[WRITER_SIZE];
};

void writer_put(struct writer *w, const void *data, size_t len)
{
	size_t at, n, first;

	pthread_mutex_lock(&w->lock);
	at = (w->start + w->len) % WRITER_SIZE;
	n = w->gap || w->gone ? 0 : MIN(len, WRITER_SIZE - w->len);
	first = MIN(n, WRITER_SIZE - at);
	memcpy(w->ring + at, data, first);
	memcpy(w->ring, (const uint8_t *)data + first, n - first);
	w->len += n;
	w->count.lost += len - n;
	if (!w->gone)
		w->gap += len - n;
	pthread_cond_broadcast(&w->news);
	pthread_mutex_unlock(&w->lock);
}

/* Waits for news until `deadline` (now_ns()): false when that has come. Locked. */
static bool wait_until(struct writer *w, uint64_t deadline)
{
	struct timespec ts = {.tv_sec = (time_t)(deadline / NSEC_PER_SEC),
			      .tv_nsec = (long)(deadline % NSEC_PER_SEC)};

	return pthread_cond_timedwait(&w->news, &w->lock, &ts) == 0;
}

/* After a write to this reader that failed; locked. One that has hung up does not come back, though the
 * next one may be there already; a full disk may get space again. */
static void handle_error(struct writer *w, int error, unsigned reader)
{
	uint64_t retry = now_ns() + RETRY_NS;

	if (w->returns && (error == EPIPE || error == ECONNRESET)) {
		w->away = reader == w->readers;
		return;
	}
	w->gone = error == EPIPE || error == ECONNRESET || (error == EIO && !w->is_file);
	w->cut |= w->ending; /* it was tried once more */
	if (w->gone || w->cut || error != w->count.error)
		log_guest("%s: %s: %s", w->name, strerror(error),
			  w->gone || w->cut ? "its output is lost" : "trying again");
	w->count.error = error;
	while (!w->gone && !w->ending && wait_until(w, retry))
		;
}

/* Copied, because in the sandbox nothing can be renamed; not locked. */
static void move_file(struct writer *w)
{
	uint8_t piece[8 * KIB];
	uint64_t at = 0;
	int r = ftruncate(w->old, 0) < 0 ? -errno : 0;
	ssize_t n = 0;

	while (r == 0 && (n = pread_full(w->again, piece, sizeof(piece), at)) > 0) {
		ssize_t done = write_full(w->old, piece, (size_t)n);

		r = done < 0 ? (int)done : 0;
		at += (uint64_t)n;
	}
	if (r < 0 || n < 0)
		log_guest("%s: the file before this one is not whole: %s", w->name,
			  strerror(r < 0 ? -r : (int)-n));
	if (ftruncate(w->fd, 0) < 0)
		log_guest("%s: cannot empty the file: %s", w->name, strerror(errno));
}

/* If there is something in the file, and with `len` bytes more it would be beyond `max`; not locked. */
static void make_room(struct writer *w, size_t len, uint64_t max)
{
	off_t size = lseek(w->again, 0, SEEK_END);

	if (size > 0 && (uint64_t)size + len > max)
		move_file(w);
}

static void rotate(struct writer *w)
{
	w->rotate = false;
	pthread_mutex_unlock(&w->lock);
	make_room(w, 0, 0);
	pthread_mutex_lock(&w->lock);
}

/* Writes some of `len` bytes: how many, maybe none. Locked, but not while it writes. */
static size_t write_some(struct writer *w, const void *data, size_t len)
{
	struct pollfd p = {.fd = w->fd, .events = POLLOUT};
	unsigned reader = w->readers;
	ssize_t n;
	int error;

	pthread_mutex_unlock(&w->lock);
	if (w->max)
		make_room(w, len, w->max);
	n = write(w->fd, data, len);
	error = n < 0 ? errno : n == 0 ? EIO : 0; /* 0: no device should */
	if (error == EAGAIN)
		poll(&p, 1, -1);
	pthread_mutex_lock(&w->lock);
	if (error && error != EAGAIN && error != EINTR)
		handle_error(w, error, reader);
	return n > 0 ? (size_t)n : 0;
}

static void write_ring(struct writer *w)
{
	size_t n = MIN(MIN(w->len, WRITER_SIZE - w->start), WRITE_MAX);

	n = write_some(w, w->ring + w->start, n);
	w->count.written += n;
	w->len -= n;
	w->start = w->len ? (w->start + n) % WRITER_SIZE : 0; /* the same pages again */
}

static void tell_gap(struct writer *w)
{
	char line[128];
	uint64_t gap = w->gap;
	size_t n, len = (size_t)snprintf(line, sizeof(line),
					 "\r\n[skep: %" PRIu64 " bytes are missing here: %s]\r\n",
					 gap,
					 w->count.error ? strerror(w->count.error) : WRITER_LATE);

	w->gap = 0; /* what is put from now on comes after the line */
	for (n = 0; n < len && !w->gone && !w->away && !w->cut;)
		n += write_some(w, line + n, len - n);
	w->gap += w->away ? gap : 0; /* for the next reader */
}

static void write_all(struct writer *w)
{
	while (!w->cut && !w->gone) {
		if (w->rotate)
			rotate(w);
		else if (w->len && !w->away)
			write_ring(w);
		else if (w->gap && !w->away)
			tell_gap(w);
		else if (w->ending)
			break;
		else
			pthread_cond_wait(&w->news, &w->lock);
	}
	w->count.lost += w->len;
	w->len = 0;
	w->gap = 0;
}

static void writer_main(void *arg)
{
	struct writer *w = arg;

	pthread_mutex_lock(&w->lock);
	write_all(w);
	w->done = true;
	pthread_cond_broadcast(&w->news);
	pthread_mutex_unlock(&w->lock);
}

int writer_new(struct writer **ret, int fd, const char *name, struct error *e)
{
	struct writer *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;
	struct stat st;

	if (!w)
		return error_set(e, -ENOMEM, "out of memory");
	w->fd = fd;
	w->name = name;
	w->is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->news, &attr);
	pthread_condattr_destroy(&attr);
	*ret = w;
	return 0;
}

void writer_await(struct writer *w)
{
	w->returns = w->away = true;
}

void writer_resume(struct writer *w)
{
	pthread_mutex_lock(&w->lock);
	w->away = false;
	w->readers++;
	pthread_cond_broadcast(&w->news);
	pthread_mutex_unlock(&w->lock);
}

void writer_limit(struct writer *w, uint64_t max, int again, int old)
{
	w->max = max;
	w->again = again;
	w->old = old;
}

void writer_rotate(struct writer *w)
{
	pthread_mutex_lock(&w->lock);
	w->rotate = true;
	pthread_cond_broadcast(&w->news);
	pthread_mutex_unlock(&w->lock);
}

static void on_signal(int sig)
{
	(void)sig;
}

int writer_start(struct writer *w, int (*setup)(void *arg), void *arg, struct error *e)
{
	const struct thread_start start = {.name = w->name,
					   .stack = WRITER_STACK,
					   .signal = WRITER_SIGNAL,
					   .setup = setup,
					   .setup_arg = arg,
					   .main = writer_main,
					   .main_arg = w};
	struct sigaction sa = {.sa_handler = on_signal};
	int r;

	sigaction(WRITER_SIGNAL, &sa, NULL);
	w->done = w->ending = w->cut = false;
	r = thread_start(&w->thread, &start, e);
	w->started = r == 0;
	return r;
}

void writer_stop(struct writer *w, uint64_t ns)
{
	uint64_t deadline = now_ns() + ns;

	if (!w || !w->started)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->news);
	while (!w->done && wait_until(w, deadline))
		;
	/* The signal may come just before the system call that it is to cut short. */
	for (unsigned i = 0; !w->done && i < MAX_CUTS; i++) {
		w->cut = true;
		pthread_cond_broadcast(&w->news);
		pthread_kill(w->thread, WRITER_SIGNAL);
		deadline = now_ns() + CUT_NS;
		while (!w->done && wait_until(w, deadline))
			;
	}
	w->started = false;
	w->stuck = !w->done;
	if (w->stuck)
		w->count.lost += w->len;
	pthread_mutex_unlock(&w->lock);
	if (w->stuck)
		pthread_detach(w->thread);
	else
		pthread_join(w->thread, NULL);
}

struct writer_count writer_count(struct writer *w)
{
	struct writer_count count;

	pthread_mutex_lock(&w->lock);
	count = w->count;
	pthread_mutex_unlock(&w->lock);
	return count;
}

void writer_free(struct writer *w)
{
	if (!w || w->stuck)
		return;
	assert(!w->started);
	pthread_cond_destroy(&w->news);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
