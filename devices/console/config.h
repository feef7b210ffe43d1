// SPDX-License-Identifier: BSD-2-Clause
/* Where the guest's console is to be. */
#ifndef SKEP_CONSOLE_CONFIG_H
#define SKEP_CONSOLE_CONFIG_H

#include <stdbool.h>

#include "config/device_options.h"

enum console_mode { CONSOLE_STDIO, CONSOLE_FILE, CONSOLE_OFF };

struct console_config {
	char *path; /* CONSOLE_FILE */
	enum console_mode mode;
	bool fresh; /* CONSOLE_FILE: emptied at the start; else added to */
};

extern const struct device_options console_options;

#endif
