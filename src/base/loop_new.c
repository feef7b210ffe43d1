// SPDX-License-Identifier: BSD-2-Clause
/* Making a loop, with one of the engines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_engine.h"

static int open_engine(struct loop *loop, enum loop_engine engine, unsigned entries,
		       struct error *e)
{
	int r = -ENOSYS;

	if (engine != LOOP_EPOLL) {
		loop->engine = &loop_engine_uring;
		r = loop->engine->open(loop, entries, e);
	}
	if (r < 0 && engine != LOOP_URING) {
		loop->engine = &loop_engine_epoll;
		r = loop->engine->open(loop, entries, engine == LOOP_EPOLL ? e : NULL);
	}
	if (r < 0)
		loop->engine = NULL;
	return r;
}

int loop_new(struct loop **ret, const char *name, enum loop_engine engine, unsigned entries,
	     struct error *e)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int fd, r;

	if (!loop)
		return error_set(e, -ENOMEM, "out of memory for the event loop \"%s\"", name);
	strncpy(loop->name, name, sizeof(loop->name) - 1);
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->called, NULL);
	loop->owner = pthread_self();
	loop->wake.fd = -1;

	r = open_engine(loop, engine, entries, e);
	if (r < 0)
		goto fail;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0) {
		r = error_set(e, -errno, "cannot create an eventfd: %m");
		goto fail;
	}
	r = loop_watch(loop, &loop->wake, fd, EPOLLIN, loop_woken);
	if (r < 0) {
		close(fd);
		loop->wake.fd = -1;
		error_set(e, r, "cannot watch an eventfd: %m");
		goto fail;
	}
	*ret = loop;
	return 0;
fail:
	loop_free(loop);
	return r;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->engine)
		loop->engine->close(loop);
	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	pthread_cond_destroy(&loop->called);
	pthread_mutex_destroy(&loop->lock);
	free(loop->files);
	free(loop);
}
