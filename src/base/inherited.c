// SPDX-License-Identifier: BSD-2-Clause
#include <stdlib.h>
#include <unistd.h>

#include "base/inherited.h"
#include "base/util.h"

#define FIRST (STDERR_FILENO + 1)

static int *inherited;
static int num_inherited;

void inherited_note(void)
{
	num_inherited = open_descriptors(&inherited);
	if (num_inherited < 0 && close_range(FIRST, ~0u, 0))
		for (int fd = FIRST; fd < 1024; fd++)
			close(fd);
}

void inherited_close(void)
{
	for (int i = 0; i < num_inherited; i++)
		close(inherited[i]);
	free(inherited);
	inherited = NULL;
	num_inherited = 0;
}
