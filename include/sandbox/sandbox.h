// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox: no-new-privs, no capabilities, and a seccomp filter for each thread role, generated
 * by libseccomp when skep is built. Everything that a thread needs is opened before.
 */
#ifndef SKEP_SANDBOX_H
#define SKEP_SANDBOX_H

#include "base/error.h"

/* Drops privileges for the whole process: called once by the main thread before other threads
 * exist, after everything that needs a capability. Installs the SIGSYS handler that names the
 * system call; it calls `restore` first, unless that is NULL, which is async-signal-safe. */
int sandbox_process(void (*restore)(void), struct error *e);

/* Gives the calling thread its own descriptor table, without the files, block devices and sockets
 * that were open at sandbox_process(): a vCPU has no use for images. Where that is not possible
 * (before Linux 5.9, without /proc), all stay. */
void sandbox_drop_files(void);

/*
 * Installs the role's filter on the calling thread, for good. Every VM has the roles
 * "control" (the main thread: epoll, signals, slow devices, teardown), "control-socket" (the same,
 * with --control), "vcpu" and "guard"; device types have their own (sandbox/rows.h). -ENOENT for
 * others, with a message as all errors.
 */
int sandbox_thread(const char *role, struct error *e);

#endif
