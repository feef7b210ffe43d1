// SPDX-License-Identifier: BSD-2-Clause
/*
 * What --artifact copies out of the guest.
 *
 * DOC: Theory of operation. The VM's process opens no file once the guest runs. So another process, which
 * begins before, makes the files out of what comes through a pipe, and says at the end whether all is
 * there. It has nothing else of the VM's, and ends with it, however that ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "agent/pack.h"
#include "base/log.h"
#include "base/util.h"
#include "run.h"
#include "sandbox/sandbox.h"

static void complain(const char *text)
{
	struct error e;

	error_set(&e, -EIO, "--artifact: %.500s", text);
	text_clean(e.msg);
	log_say(&e, -EIO);
}

/* The directory in which unpack() makes it, or goes on making. -1: there is none, as unpack() will say. */
static int open_place(const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *copy = fd < 0 ? strdup(path) : NULL;

	return copy ? open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC) : fd;
}

int cli_confine_unpack(char *const *paths, char before, struct error *e)
{
	size_t num = 0, all = 0;
	int *dirs, r;

	while (paths[all])
		all++;
	dirs = calloc(all + 1, sizeof(*dirs));
	for (size_t i = 0; dirs && i < all; i++) {
		dirs[num] = open_place(before ? strchr(paths[i], before) + 1 : paths[i]);
		num += dirs[num] >= 0;
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	r = dirs ? sandbox_confine(dirs, num, true, e) : error_set(e, -ENOMEM, "out of memory");
	while (dirs && num)
		close(dirs[--num]);
	free(dirs);
	return r;
}

/* In its own process: the pipe is descriptor 3, and 4 is who waits for the end. */
__attribute__((noreturn)) static void receive(char **artifacts)
{
	FILE *in = fdopen(3, "r");
	struct error e;
	bool confined = in && cli_confine_unpack(artifacts, ':', &e) == 0, ok = confined;
	char text[600];

	if (in && !confined)
		complain(e.msg);
	for (; confined && *artifacts; artifacts++) {
		int r = unpack(in, strchr(*artifacts, ':') + 1, complain);

		ok = ok && r == 0;
		if (r >= 0)
			continue;
		snprintf(text, sizeof(text), "'%.400s': %s", *artifacts,
			 r == -ENODATA	? "the VM ended before all was copied"
			 : r == -EPROTO ? "what the guest sends makes no sense"
					: strerror(-r));
		complain(text);
		break;
	}
	if (ok)
		(void)!write(4, "", 1);
	_exit(0);
}

/* Signals that end the VM are not meant for it. */
__attribute__((noreturn)) static void become_receiver(char **artifacts, int data, int verdict)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGTSTP};
	int none = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "skep-artifacts");
	data = fcntl(data, F_DUPFD_CLOEXEC, 5);
	verdict = fcntl(verdict, F_DUPFD_CLOEXEC, 5);
	dup2(none, STDIN_FILENO);
	dup2(none, STDOUT_FILENO);
	dup2(data, 3);
	dup2(verdict, 4);
	close_range(5, ~0u, 0);
	receive(artifacts);
}

int cli_start_artifacts(struct vm_config *config, int *ret, struct error *e)
{
	int data[2], verdict[2];
	pid_t pid;

	*ret = -1;
	if (!config->artifacts)
		return 0;
	if (pipe2(data, O_CLOEXEC) < 0)
		return error_set(e, -errno, "cannot make a pipe: %m");
	if (pipe2(verdict, O_CLOEXEC) < 0) {
		close(data[0]);
		close(data[1]);
		return error_set(e, -errno, "cannot make a pipe: %m");
	}
	pid = fork();
	if (pid == 0)
		become_receiver(config->artifacts, data[0], verdict[1]);
	close(data[0]);
	close(verdict[1]);
	config->setup.artifacts = data[1];
	*ret = verdict[0];
	return pid < 0 ? error_set(e, -errno, "cannot start a process: %m") : 0;
}

bool cli_end_artifacts(struct vm_config *config, int verdict)
{
	char byte;
	bool ok = verdict < 0;

	if (ok)
		return true;
	close(config->setup.artifacts);
	ok = read_full(verdict, &byte, 1) == 1;
	close(verdict);
	return ok;
}
