// SPDX-License-Identifier: BSD-2-Clause
/* `skep check`: what this host offers, and the remedy for what it does not. */
#ifndef SKEP_CHECK_H
#define SKEP_CHECK_H

#include <stdbool.h>
#include <stdio.h>

#include "command.h"

enum check_state {
	CHECK_OK,
	CHECK_ABSENT, /* skep works without it */
	CHECK_FAILED, /* skep does not work */
};

struct check_item {
	char name[40]; /* the same in text and JSON: scripts may look it up */
	enum check_state state;
	char finding[160];
	char remedy[240]; /* empty: none needed */
};

#define CHECK_MAX_ITEMS 64u
#define CHECK_DISCARD	"discard"

struct check_report {
	struct check_item items[CHECK_MAX_ITEMS];
	unsigned num_items;
	/* What scripts ask for. */
	bool kvm_usable;	   /* skep can create VMs with it */
	bool kvm_accelerated;	   /* guest kernel code runs at hardware speed */
	double ns_per_instruction; /* of guest kernel code; 0: not measured */
	unsigned max_vcpus;
};

/* Adds a line; `remedy` may be NULL. */
__attribute__((format(printf, 5, 6))) void check_add(struct check_report *report, const char *name,
						     enum check_state state, const char *remedy,
						     const char *finding, ...);
/* Prints it. Returns whether nothing failed. */
bool check_print(const struct check_report *report, bool json, FILE *out);

/* KVM: presence, permission, capabilities, speed (takes at most a second). */
void check_kvm(struct check_report *report);

/* Writes a MiB to a nameless file in `dir` and punches it out again: 0, or a negative errno.
 * -EOPNOTSUPP: no holes here. *ret_step says what failed. */
int check_punch_hole(const char *dir, const char **ret_step);

struct check_options {
	bool json;
	const char *paths[16]; /* borrowed from argv */
	size_t num_paths;
};
extern const struct setting check_settings[]; /* ends with name == NULL */
int cli_parse_check(int argc, char *const *argv, struct check_options *ret, struct error *e);

/* Checks all and prints the report. Returns whether nothing failed: `skep run` works here, and the
 * paths that were asked about exist; that the default guest is missing does not count. Opens and
 * creates nothing that stays. */
bool check_host(const struct check_options *options, FILE *out);

#endif
