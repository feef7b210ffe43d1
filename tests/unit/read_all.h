// SPDX-License-Identifier: BSD-2-Clause
/* For fixtures whose device has an end at the host. After cmocka.h. */
#ifndef SKEP_READ_ALL_H
#define SKEP_READ_ALL_H

#include <poll.h>
#include <unistd.h>

#include "patience.h"

/* Exactly `len` bytes, waiting for them. */
static inline void read_all(int fd, void *buf, size_t len)
{
	for (size_t n = 0; n < len;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t r;

		assert_int_equal(poll(&p, 1, patience_ms()), 1);
		r = read(fd, (char *)buf + n, len - n);
		assert_true(r > 0);
		n += (size_t)r;
	}
}

#endif
