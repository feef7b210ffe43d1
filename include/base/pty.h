// SPDX-License-Identifier: BSD-2-Clause
/* Pseudo-terminals. */
#ifndef SKEP_PTY_H
#define SKEP_PTY_H

#include "base/error.h"

#define PTY_NAME_LEN 32u

/*
 * Makes a pseudo-terminal in raw mode, of 80 columns and 24 rows, and returns skep's end of it, which
 * does not block. *ret_other is the other end: while that is open, nobody's leaving it is a hang-up,
 * and what nobody reads stays there as far as it fits. `ret_name` is what programs open. A negative
 * errno with a message.
 */
int pty_open(int *ret_other, char ret_name[PTY_NAME_LEN], struct error *e);

#endif
