// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's end of the console: stdio, a file or nothing. A terminal is in raw mode, with an escape
 * key (Ctrl-A), and is restored however skep ends, even by a crash.
 */
#ifndef SKEP_TTY_H
#define SKEP_TTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/pty.h"
#include "base/writer.h"
#include "console/config.h"
#include "virtio/type.h"

struct tty {
	int in_fd;	  /* -1: no input */
	int out_fd;	  /* -1: output is discarded */
	bool is_terminal; /* in_fd is a terminal, which has the escape key */
	bool background;  /* the terminal is another job's: there is no input */
	bool owns_in, owns_out;
	bool confined;		 /* the sandbox forbids to remove the socket */
	int listener;		 /* of a socket: for the next client; else -1 */
	int far_end;		 /* of a pseudo-terminal, which is kept open; else -1 */
	char name[PTY_NAME_LEN]; /* of a pseudo-terminal */
	bool is_file;		 /* out_fd is a regular file of --console */
	int again, old;		 /* if it is rotated: to read it, and the one before it; else -1 */
	struct writer *writer;	 /* of out_fd; NULL: none */
	bool escape;		 /* Ctrl-A was typed */
	void (*quit)(void *ctx); /* Ctrl-A x; called on the console's loop */
	void *quit_ctx;
};

/*
 * Opens what the config asks for and, on a terminal, enters raw mode: then log lines end in CR LF,
 * and a signal that would end the process restores the terminal first. SIGPIPE, SIGTTOU and SIGTTIN
 * are ignored from then on. If skep is not the terminal's foreground job, the terminal is left alone.
 * Descriptors 0 and 1 never become O_NONBLOCK, as they are shared with the user's shell. The config
 * in `host` says which files the VM uses otherwise.
 */
int tty_open(struct tty *ret, const struct console_config *config, const struct device_host *host,
	     struct error *e);
/* What is in the file becomes the one before it, and it starts anew: false if it has none. Any thread. */
bool tty_rotate(struct tty *tty);
/* Sends further output to the regular file `fd`, which is open to append and stays the caller's. Any
 * thread. -ENOTSUP if the console is not in a file, or
 * rotates it itself, or another negative errno, with a message. */
int tty_replace_file(struct tty *tty, int fd, struct error *e);
/* Somebody comes to the listener, and becomes input and output: 1; 0 when there is nobody, or a
 * negative errno. That one has gone. On the console's loop. */
int tty_accept(struct tty *tty);
void tty_hang_up(struct tty *tty);
/* Starts the thread that writes output; it calls setup(arg) first. */
int tty_start(struct tty *tty, int (*setup)(void *arg), void *arg, struct error *e);
/* Ends it: what is left has TTY_LAST_NS to be written. Returns the counts of all output.
 * Idempotent. */
#define TTY_LAST_NS 1000000000u
struct writer_count tty_stop(struct tty *tty);
/* Restores the terminal and closes what was opened. Idempotent. */
void tty_close(struct tty *tty);

/* Puts the terminal into raw mode if skep is its foreground job, else lets go of it. Returns whether
 * there can be input. Called after SIGCONT, and from time to time in the background, because nothing
 * tells when a job comes to the foreground. The control loop's thread. */
bool tty_attend(struct tty *tty);
/* Stops skep, as an unhandled SIGTSTP does, once the terminal is as it was, until the next
 * tty_attend(). NULL: there is none. */
void tty_suspend(const struct tty *tty);
/* Restores the terminal; async-signal-safe, for crash handlers and atexit. */
void tty_restore(void);

/* Filters the escape key out of what was typed, in place; returns the bytes that go to the guest.
 * Ctrl-A a sends Ctrl-A, Ctrl-A x calls quit (and takes nothing after it), Ctrl-A h prints help.
 * Unchanged when not a terminal.
 */
size_t tty_filter_input(struct tty *tty, uint8_t *buf, size_t len);

/* Reads input, filtered, without waiting: 0 at its end, -EAGAIN when there is none now, another errno
 * when the terminal is gone. */
ssize_t tty_read(struct tty *tty, void *buf, size_t len);
/* Writes output without waiting: what does not fit is lost and counted (writer.h). Any thread. */
void tty_write(struct tty *tty, const void *buf, size_t len);

/* Columns and rows, 0 and 0 if unknown. */
void tty_size(const struct tty *tty, uint16_t *ret_cols, uint16_t *ret_rows);

#endif
