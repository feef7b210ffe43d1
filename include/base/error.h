// SPDX-License-Identifier: BSD-2-Clause
/* A message for the user, beside a negative errno. */
#ifndef SKEP_ERROR_H
#define SKEP_ERROR_H

struct error {
	char msg[512]; /* empty: none; never ends in a newline */
};

/* Not an errno of the host: what the user asked for is wrong on any host. */
#define EUSAGE 4096

/* Exit statuses of the program; those of a guest's ends are in vm/result.c. */
#define STATUS_USAGE  2
#define STATUS_FAILED 125

/*
 * Writes the message (what was found, where, what to do) and returns `code`, a negative errno, so
 * that a caller can `return error_set(e, -EINVAL, ...)`. %m stands for what strerror(3) says of
 * `code`. `e` may be NULL. A message that is too long loses its middle. Callable from any thread;
 * the struct itself is not shared.
 */
__attribute__((format(printf, 3, 4))) int error_set(struct error *e, int code, const char *fmt,
						    ...);

/* The code of the last message that this thread wrote. */
int error_last_code(void);

/* What to do when a thread or process could not be created, by `code`: ": raise ...", or "". */
const char *error_task_remedy(int code);

/* What to say when open(2) or the like failed; NULL: the usual. */
struct open_failure {
	const char *action;    /* "open": what cannot be done, for all other errors */
	const char *missing;   /* ENOENT, ENOTDIR */
	const char *denied;    /* EACCES, EPERM */
	const char *read_only; /* EROFS: ": add ...", after the usual */
};
/* Says what `err`, an errno, means, and what to do; returns -err. */
int error_open(struct error *e, int err, const struct open_failure *say);

/* Puts "prefix: " before the message, e.g. the name of a file. If that is too long, the prefix is
 * shortened. Returns `code`. */
__attribute__((format(printf, 3, 4))) int error_prefix(struct error *e, int code, const char *fmt,
						       ...);

#endif
