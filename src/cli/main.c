// SPDX-License-Identifier: BSD-2-Clause
/* The program: runs a command, and turns what it returns into an exit status. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/log.h"
#include "command.h"

/* It is a failure if what was printed did not arrive: a full disk, a closed pipe. */
static int printed(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "skep: standard output: %s\n", strerror(errno));
	return STATUS_FAILED;
}

/*
 * If a standard descriptor is closed, the next file that is opened gets its number, and messages
 * and the guest's console would go there. So missing ones are opened on /dev/null, the wrong way
 * round, which makes using them fail as with a closed one.
 */
static int open_missing_descriptors(void)
{
	static const int flags[] = {
		[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", flags[fd]) < 0)
			return -errno;
	return 0;
}

static int run_command_of(int argc, char **argv, struct error *e)
{
	const struct command *command;
	int r = open_missing_descriptors();

	if (r < 0)
		return error_set(
			e, r,
			"a standard descriptor is closed, and /dev/null cannot be opened: %m");
	signal(SIGXFSZ, SIG_IGN); /* a limit on files fails the write or the resize, not skep */
	inherited_note();
	if (argc < 2) {
		command_help.help(stderr);
		return STATUS_USAGE;
	}
	command = command_find(argv[1], e);
	if (!command)
		return -EUSAGE;
	r = command->run(argc - 2, argv + 2, e);
	if (r != -EHELP)
		return r;
	command->help(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct error e = {""};
	int r = run_command_of(argc, argv, &e);

	if (r >= 0)
		return printed(r);
	log_say(&e, r);
	return r == -EUSAGE ? STATUS_USAGE : STATUS_FAILED;
}
