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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "agent/pack.h"
#include "base/log.h"
#include "base/util.h"
#include "run.h"

static void complain(const char *text)
{
	struct error e;

	error_set(&e, -EIO, "--artifact: %.500s", text);
	text_clean(e.msg);
	log_say(&e, -EIO);
}

/* In its own process: the pipe is descriptor 3, and 4 is who waits for the end. */
__attribute__((noreturn)) static void receive(char **artifacts)
{
	FILE *in = fdopen(3, "r");
	bool ok = in;
	char text[600];

	for (; in && *artifacts; artifacts++) {
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
