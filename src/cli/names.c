// SPDX-License-Identifier: BSD-2-Clause
/* The names that VMs have. */
#include <dirent.h>
#include <string.h>

#include "base/runtime.h"
#include "base/util.h"
#include "command.h"

static int is_named(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

void cli_for_each_vm(void (*fn)(void *ctx, const char *dir, const char *name), void *ctx)
{
	_cleanup_free_ char *dir = runtime_directory(false, NULL);
	struct dirent **entries = NULL;
	int n = dir ? scandir(dir, &entries, is_named, alphasort) : 0;

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *socket = NULL;

		if (asprintf(&socket, "%s/%s/" RUNTIME_SOCKET, dir, entries[i]->d_name) >= 0 &&
		    access(socket, F_OK) == 0)
			fn(ctx, dir, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

static void offer(void *word_and_out, const char *dir, const char *name)
{
	void *const *ctx = word_and_out;

	(void)dir;
	if (strncmp(name, ctx[0], strlen(ctx[0])) == 0)
		print_line(ctx[1], "%s", name);
}

void complete_vm(FILE *out, const char *word)
{
	cli_for_each_vm(offer, (void *[]){(void *)(uintptr_t)word, out});
}
