// SPDX-License-Identifier: BSD-2-Clause
/* Where the guest's console goes. */
#ifndef SKEP_CONSOLE_CONFIG_H
#define SKEP_CONSOLE_CONFIG_H

#include <stdbool.h>

#include "config/device_options.h"

#define CONSOLE_MIN_SIZE 65536u /* of a file that is rotated */

enum console_mode {
	CONSOLE_STDIO,
	CONSOLE_FILE,
	CONSOLE_SOCKET,
	CONSOLE_PTY,
	CONSOLE_FD,
	CONSOLE_OFF,
};

struct console_config {
	char *path; /* CONSOLE_FILE, CONSOLE_SOCKET */
	enum console_mode mode;
	bool fresh;	   /* CONSOLE_FILE: is emptied at the start, not appended to */
	uint64_t max_size; /* CONSOLE_FILE: bytes, upon which it is rotated; 0: none */
	unsigned fd;	   /* CONSOLE_FD: inherited */
};

extern const struct device_options console_options;

#endif
