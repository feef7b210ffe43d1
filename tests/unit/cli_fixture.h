// SPDX-License-Identifier: BSD-2-Clause
#ifndef SKEP_CLI_FIXTURE_H
#define SKEP_CLI_FIXTURE_H

#include "cli/check.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/disk.h"
#include "cli/run.h"
#include "config_fixture.h"

/* What is typed, as argc and argv. */
#define ARGS(...)                                                                                  \
	(int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[])                        \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

#endif
