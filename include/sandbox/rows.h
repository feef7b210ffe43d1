// SPDX-License-Identifier: BSD-2-Clause
/*
 * Rows of the sandbox's table, for the program that makes its filters when skep is built: a system
 * call, with which arguments, for which roles. A device type has its own in its room (sandbox.c),
 * each with the reason beside it.
 */
#ifndef SKEP_SANDBOX_ROWS_H
#define SKEP_SANDBOX_ROWS_H

#include <linux/io_uring.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* Roles of threads that every VM has. */
#define CONTROL	       (1u << 0 | CONTROL_SOCKET) /* the main thread, in any case */
#define CONTROL_SOCKET (1u << 1)		  /* only with a control socket */
#define VCPU	       (1u << 2)
#define GUARD	       (1u << 3 | GUARD_NAMED) /* in any case */
#define GUARD_NAMED    (1u << 4)	       /* only with a name, whose directory it removes */
/* The type's own roles: an index into sandbox_rows.roles. */
#define OWN(n) (1u << (8 + (n)))

struct sandbox_row {
	unsigned roles;
	int call;
	const char *name; /* of the call, or of ioctl's request */
	unsigned num_args;
	struct scmp_arg_cmp arg[2]; /* all must hold */
};

/* What a type brings: DEVICE(foo) in src/vm/devices.def stands for foo_sandbox. */
#define SANDBOX_MAX_OWN 6u
struct sandbox_rows {
	const char *roles[SANDBOX_MAX_OWN]; /* at most 15 bytes each; NULL: no more */
	const struct sandbox_row *rows;
	size_t num;
};

#define ROW(roles_, call_, name_, num_, ...)                                                       \
	{                                                                                          \
		.roles = (roles_), .call = SCMP_SYS(call_), .name = (name_), .num_args = (num_),   \
		.arg = {__VA_ARGS__},                                                              \
	}
#define CALL(roles_, call_)		     ROW(roles_, call_, #call_, 0)
#define CALL_IF(roles_, call_, cond)	     ROW(roles_, call_, #call_, 1, cond)
#define CALL_IF2(roles_, call_, cond, cond2) ROW(roles_, call_, #call_, 2, cond, cond2)
#define IOCTL(roles_, request)		     ROW(roles_, ioctl, #request, 1, INT_IS(1, request))

/* Argument n has these 32 bits; the kernel looks at no more of an int. */
#define INT_IS(n, value)                                                                           \
	{                                                                                          \
		(n), SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)(value)                             \
	}
/* Of argument n's bits in `mask`, exactly those in `value` are set. */
#define BITS_ARE(n, mask, value)                                                                   \
	{                                                                                          \
		(n), SCMP_CMP_MASKED_EQ, (mask), (value)                                           \
	}

/* What a loop's thread calls, by its engine: timers, eventfds, the wait; a watch pauses; io_uring's
 * end. On a ring that is sealed: see loop_uring.c. */
#define EPOLL_LOOP(roles)                                                                          \
	CALL(roles, read), CALL(roles, timerfd_settime), CALL(roles, epoll_wait),                  \
		CALL(roles, epoll_ctl)
#define URING_LOOP(roles)                                                                          \
	CALL(roles, read), CALL(roles, timerfd_settime), CALL(roles, io_uring_enter),              \
		CALL_IF(roles, io_uring_register, INT_IS(1, IORING_UNREGISTER_FILES)),             \
		CALL_IF(roles, io_uring_register, INT_IS(1, IORING_UNREGISTER_BUFFERS))

#endif
