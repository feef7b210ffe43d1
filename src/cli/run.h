// SPDX-License-Identifier: BSD-2-Clause
/* `skep run`: its options, and the default guest. */
#ifndef SKEP_RUN_H
#define SKEP_RUN_H

#include <stdbool.h>
#include <stdio.h>

#include "config/config.h"

struct run_options {
	struct vm_config config;
	bool dry_run;
	size_t num_words; /* that are no options; the first one: */
	const char *word;
};

/*
 * Parses what follows `skep run`. Options apply from left to right: disks and --append add, all
 * else replaces what was there before, whether it came from an option or from --config, which is
 * read at its place. Messages name the option. -EINVAL or -ERANGE: what was written is wrong; other
 * errors: a configuration file could not be read. Destroy *ret with
 * run_options_destroy() in either case. -EHELP at --help.
 */
int cli_parse_run(int argc, char *const *argv, struct run_options *ret, struct error *e);
void run_options_destroy(struct run_options *options);

/*
 * Where there is no kernel, takes that of the default guest, and its initrd where there is none
 * either; and the one with which it goes on with the system of a device, where there may be one and
 * neither --guest nor a command says otherwise. Looks in $SKEP_GUEST_DIR and nowhere else when that is set, then in
 * ${XDG_DATA_HOME:-~/.local/share}/skep/guest, /var/lib/skep/guest and PREFIX/share/skep/guest.
 * -ENOENT or -ENODATA with a message that says how to make one.
 */
int cli_default_guest(struct vm_config *config, struct error *e);

/*
 * Where there is --cloud-init, makes an image of its files and adds it as the last disk. The image
 * is in memory: *ret is its descriptor, to be closed when the VM has opened its disks or is not to
 * run; -1 where there is none. Errors have a message.
 */
int cli_add_seed(struct vm_config *config, int *ret, struct error *e);

/*
 * Where there is a command, notes what it gets of skep's surroundings (as they are now), and adds its
 * root file system. Errors have a message.
 */
int cli_add_command(struct vm_config *config, struct error *e);
/* The same to `out`, without the root; also decides about config->terminal. */
int cli_write_setup(FILE *out, struct vm_config *config, struct error *e);
/*
 * Where there is --artifact, starts who receives them, by config->setup.artifacts; call this while there is
 * one thread. *ret is for the other, which waits for them to be complete, and says whether they are: what
 * is not there was told of. In the sandbox, too, once all that wrote there is closed.
 */
int cli_start_artifacts(struct vm_config *config, int *ret, struct error *e);
bool cli_end_artifacts(struct vm_config *config, int verdict);
/* From now on this process can make files only where unpack() is to make these, the texts after `before`
 * in each, or the whole where that is 0. Errors have a message. */
int cli_confine_unpack(char *const *paths, char before, struct error *e);
/* Adds what it has of the host's files: devices to the config, records to `out`. */
int cli_add_root(struct vm_config *config, FILE *out, struct error *e);

#endif
