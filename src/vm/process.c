// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/util.h"
#include "inside.h"

/* A disk has a handful of descriptors per queue; the usual limit of 1024 is for programs that use
 * select(2). */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void process_explain_limit(struct error *e)
{
	struct error found = *e;
	struct rlimit limit = {0};

	getrlimit(RLIMIT_NOFILE, &limit);
	error_set(e, -EMFILE,
		  "%.300s: all %llu descriptors are in use: raise the limit (ulimit -n, or "
		  "LimitNOFILE= of a systemd unit), or give devices fewer queues",
		  found.msg, (unsigned long long)limit.rlim_cur);
}

/* vCPUs must not wait for the log's reader, even if poll(2) promised too much. */
static void open_log(void)
{
	int fd = open_again(STDERR_FILENO, O_WRONLY);

	if (fd >= 0)
		log_set_fd(fd);
}

void process_add_signals(sigset_t *set, const int *sigs)
{
	struct sigaction sa;

	for (; sigs && *sigs; sigs++)
		if (sigaction(*sigs, NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(set, *sigs);
}

void process_prepare(void)
{
	mallopt(M_ARENA_MAX, 1); /* threads hardly allocate: one arena keeps fewer pages dirty */
	raise_descriptor_limit();
	/* A reader that hangs up ends nothing, and being in the background stops nothing. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	open_log();
}

void process_restore(void)
{
	int fd = log_set_fd(STDERR_FILENO);

	if (fd != STDERR_FILENO)
		close(fd);
}
