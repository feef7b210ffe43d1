// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sandbox: no-new-privs, no capabilities, and a seccomp filter for each thread role, generated
 * by libseccomp when skep is built. Everything that a thread needs is opened before, but for files of
 * shared directories, where Landlock confines who opens them.
 */
#ifndef SKEP_SANDBOX_H
#define SKEP_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Threads of this role keep these capabilities (bits of <linux/capability.h>), as far as the process
 * has them. Before sandbox_process(). */
void sandbox_keep_capabilities(const char *role, uint64_t capabilities);

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
 * with a control socket), "vcpu", "guard" and "guard-named" (the same, where sandbox_allow_removal()
 * is 1); device types have their own (sandbox/rows.h). -ENOENT for
 * others, with a message as all errors.
 */
int sandbox_thread(const char *role, struct error *e);

/* From now on the calling thread can only open, make, rename and remove what is in these directories, or
 * only read it. Where the kernel cannot do that (before Linux 5.19, without Landlock), it says so in
 * the log, and returns 0. The thread's filter, if it has one, allows Landlock's calls. */
int sandbox_confine(const int *dirs, size_t num, bool writable, struct error *e);

/* From now on the calling thread can open nothing, and remove only what is in `dir`, and directories in
 * `in` that are empty. 1; 0 where the kernel cannot do that (before Linux 5.13, without Landlock), and
 * nothing has changed; or a negative errno with a message. After sandbox_process(), before the thread's
 * filter. */
int sandbox_allow_removal(int dir, int in, struct error *e);

#endif
