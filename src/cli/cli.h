// SPDX-License-Identifier: BSD-2-Clause
/* The command line: from argv to what is to be done. Nothing here prints on its own or exits. */
#ifndef SKEP_CLI_H
#define SKEP_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "config/config.h"
#include "control.h"
#include "disk.h"

enum cli_command_id {
	CLI_RUN,
	CLI_CONTROL,
	CLI_DISK,
	CLI_CHECK,
	CLI_HELP,
	CLI_VERSION,
	CLI_COMPLETE
};

struct cli_command {
	enum cli_command_id id;
	const char *name, *summary; /* summary NULL: not listed */
	void (*help)(FILE *out);
};

/* The command that argv[1] names; -h, --help, -V and --version count. NULL with a message that has
 * a remedy. */
const struct cli_command *cli_command_find(const char *name, struct error *e);

struct run_options {
	struct vm_config config;
	bool dry_run;
	bool help;
};

/*
 * Parses what follows `skep run`. Options apply from left to right: disks and --append add, all
 * else replaces what was there before, whether it came from an option or from --config, which is
 * read at its place. Messages name the option. -EINVAL or -ERANGE: what was written is wrong; other
 * errors: a configuration file could not be read. *ret is to be destroyed with
 * run_options_destroy() in either case. Stops at --help.
 */
int cli_parse_run(int argc, char *const *argv, struct run_options *ret, struct error *e);
void run_options_destroy(struct run_options *options);

struct check_options {
	bool json;
	bool help;
	const char *paths[16]; /* borrowed from argv */
	size_t num_paths;
};
int cli_parse_check(int argc, char *const *argv, struct check_options *ret, struct error *e);

/* What follows `skep disk`. ret->path is borrowed from argv. */
int cli_parse_disk(int argc, char *const *argv, struct disk_command *ret, struct error *e);

/* Help, wrapped at 80 columns. */
void cli_help(FILE *out);
void cli_help_run(FILE *out);
void cli_help_control(FILE *out);
void cli_help_disk(FILE *out);
void cli_help_check(FILE *out);

/*
 * Shell completion: `words` are those after `skep`, the last being the one at the cursor (perhaps
 * empty). Prints one candidate a line; a line ":files" stands for file names.
 */
void cli_complete(int num_words, char *const *words, FILE *out);

/*
 * Where there is no kernel, takes that of the default guest, and its initrd where there is none
 * either. Looks in $SKEP_GUEST_DIR and nowhere else when that is set, then in
 * ${XDG_DATA_HOME:-~/.local/share}/skep/guest, /var/lib/skep/guest and PREFIX/share/skep/guest.
 * -ENOENT with a message that says how to make one.
 */
int cli_default_guest(struct vm_config *config, struct error *e);

#endif
