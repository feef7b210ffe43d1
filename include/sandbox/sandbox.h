// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox: no-new-privs, no capabilities, and a seccomp filter for each thread role, generated
 * by libseccomp when skep is built. Everything a thread needs is open before.
 */
#ifndef SKEP_SANDBOX_H
#define SKEP_SANDBOX_H

#include "base/error.h"

enum sandbox_role {
	SANDBOX_CONTROL,	/* the main thread: epoll, signals, console, rng, teardown */
	SANDBOX_CONTROL_SOCKET, /* the same, with --control: clients, disks that grow */
	SANDBOX_VCPU,		/* KVM_RUN and what exits need */
	SANDBOX_DISK_URING,	/* io_uring_enter on a sealed ring */
	SANDBOX_DISK_SYNC,	/* preadv2, pwritev2, fdatasync, ...; also a disk's worker */
	SANDBOX_GUARD,		/* signals, deadlines, the result when nothing else can write it */
	SANDBOX_WRITER,		/* the console's output: nothing but what all may */
	SANDBOX_ROLES,
};

/* Drops privileges for the whole process: called once by the main thread before other threads
 * exist, after everything that needs a capability. Installs the SIGSYS handler that names the
 * system call. */
int sandbox_process(struct error *e);

/* Gives the calling thread descriptors of its own, without the files, block devices and sockets that
 * were open at sandbox_process(): images are not for who emulates a CPU. Where that cannot be
 * (before Linux 5.9, without /proc), all stay. */
void sandbox_drop_files(void);

/* Installs the role's filter on the calling thread; there is no way back. */
int sandbox_thread(enum sandbox_role role, struct error *e);

#endif
