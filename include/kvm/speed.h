// SPDX-License-Identifier: BSD-2-Clause
/* How fast KVM runs the code of kernels, tried in a VM of its own. */
#ifndef SKEP_SPEED_H
#define SKEP_SPEED_H

#include "base/error.h"

/* Nanoseconds an instruction. Hardware needs less than one, KVM on an emulated processor a few, a KVM that
 * emulates several hundred. */
#define SPEED_OF_HARDWARE 50.0
#define SPEED_REMEDY                                                                               \
	"use a host whose processor has VT-x or SVM, or has them passed through by its "           \
	"hypervisor; for tests, tools/lab emulates one"

/* Nanoseconds for one instruction of a kernel, or 0 if it did not run: *ret_exit is KVM's exit reason then.
 * Takes at most a second, and the timer ITIMER_REAL. 0; a negative errno when there is no VM. */
int speed_measure(double *ret_ns, unsigned *ret_exit, struct error *e);

/* For who is about to boot Linux: -ENOTSUP, with the remedy, if KVM emulates the code of kernels, of which
 * it is sure after a fifth of a second; else 0, at once where the processor has VT-x or SVM. What else may be wrong with KVM is
 * none of its business. */
int speed_check(struct error *e);

#endif
