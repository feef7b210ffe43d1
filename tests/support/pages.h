// SPDX-License-Identifier: BSD-2-Clause
/* Pages of guest memory that are not there until the test gives them (userfaultfd): whoever touches
 * one waits, be it this process or the kernel on its behalf, and the test learns how. */
#ifndef SKEP_TEST_PAGES_H
#define SKEP_TEST_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Takes the pages of [at, at + len) away. A descriptor for the rest, to be closed; -1 where a
 * process may not do that. */
int pages_take(void *at, size_t len);
/* Waits up to `ms` until one is touched: its address, or NULL. */
void *pages_wait(int fd, int ms, bool *is_write);
/* Gives a page, every byte of which is `fill`. */
void pages_give(int fd, void *page, int fill);

#endif
