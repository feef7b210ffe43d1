// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/util.h"

#define EXTRA (STDERR_FILENO + 1)

/* In the child, so only what is async-signal-safe. It returns when the program cannot be executed: an
 * error number. */
static int become(char *const argv[], int out, int extra, int messages)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(out < 0 ? null : out, STDOUT_FILENO) < 0 || dup2(messages, STDERR_FILENO) < 0 ||
	    (extra >= 0 && (dup2(extra, EXTRA) < 0 || fcntl(EXTRA, F_SETFD, 0) < 0)))
		return errno;
	if (close_range(extra < 0 ? EXTRA : EXTRA + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0 &&
	    errno != ENOSYS && errno != EINVAL)
		return errno;
	execvp(argv[0], argv);
	return errno;
}

/* What it said last, but for how it is used, and the host's log. */
static bool last_line(int messages, struct error *e)
{
	char text[4096], *rest = text, *line;
	ssize_t n = pread(messages, text, sizeof(text) - 1, 0);
	bool found = false;

	text[n < 0 ? 0 : n] = '\0';
	while ((line = strsep(&rest, "\n")) && strncasecmp(line, "usage", 5) != 0)
		if (line[0] && !strstr(line, "syslog")) {
			text_clean(line);
			error_set(e, -EIO, "%.200s", line);
			found = true;
		}
	return found;
}

static int explain(int status, int messages, struct error *e)
{
	if (last_line(messages, e))
		return -EIO;
	if (WIFSIGNALED(status))
		return error_set(e, -EIO, "it ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
	return error_set(e, -EIO, "it ended with status %d, and did not say why",
			 WEXITSTATUS(status));
}

int child_run(char *const argv[], int out, int extra, struct error *e)
{
	_cleanup_close_ int messages = memfd_create("messages", MFD_CLOEXEC);
	int report[2], status = 0, failed = 0;
	pid_t pid;

	if (messages < 0 || pipe2(report, O_CLOEXEC) < 0)
		return error_set(e, -errno, "%m");
	pid = fork();
	if (pid == 0) {
		int end = fcntl(report[1], F_DUPFD_CLOEXEC, EXTRA + 1);

		failed = become(argv, out, extra, messages);
		(void)!write(end, &failed, sizeof(failed));
		_exit(127);
	}
	close(report[1]);
	if (pid < 0)
		failed = errno;
	else
		(void)!read_full(report[0], &failed, sizeof(failed));
	close(report[0]);
	/* Where SIGCHLD is ignored there is no status. */
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (failed)
		return error_set(e, -failed, "cannot be started: %s", strerror(failed));
	return status ? explain(status, messages, e) : 0;
}
