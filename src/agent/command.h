// SPDX-License-Identifier: BSD-2-Clause
/* A command that the agent runs (command.c), for agent.c. */
#ifndef SKEP_AGENT_COMMAND_H
#define SKEP_AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "wire.h"

struct command {
	char *setup_text; /* AGENT_SETUP, so far */
	size_t setup_len;
	struct winsize size;
	pid_t child;
	int status; /* as of wait(2) */
	bool started, exited;
	unsigned long kills_before;

	/* What it reads from. */
	struct {
		int fd; /* -1: it takes no more */
		bool terminal, ending, told;
		uint32_t done; /* bytes that are written, of which skep does not know */
		struct ring ring;
	} in;
	/* What it writes to: standard output, standard error; then what is copied of its files. */
	struct out {
		int fd; /* -1: nothing more comes, or skep takes no more */
		bool terminal, told;
		uint32_t credit;
		int rest; /* bytes that are left since the command ended; -1: it runs */
	} out[3];
};

/* NULL when memory is short. */
struct command *command_new(void);
void command_free(struct command *c); /* has ended */
/* The setup is whole, and ends in NUL. What goes wrong is told on the command's standard error, and ends it. */
void command_start(struct command *c);
/* Its process has: all that it has written is there, but others may go on. */
void command_ended(struct command *c, int status);
/* For all its processes, if there are any. */
void command_signal(const struct command *c, int sig);
/* The terminal has another size, if there is one by now. */
void command_resize(struct command *c);
/* Hands it what it takes. */
void command_feed(struct command *c);
/* `value` of AGENT_EXIT. */
uint32_t command_result(const struct command *c);

/* Whether the kernel is not to kill the process, when memory is short. */
void command_spare(bool spare);
void command_close(int *fd);

#endif
