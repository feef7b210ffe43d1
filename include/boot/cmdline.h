// SPDX-License-Identifier: BSD-2-Clause
/* The kernel's command line. */
#ifndef SKEP_CMDLINE_H
#define SKEP_CMDLINE_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

/*
 * Parameters for this machine with `devices` virtio-mmio devices, then those of --append; warns of
 * some that do not work here. *ret is freed by the caller. -ENOMEM, -E2BIG.
 */
int cmdline_build(const struct vm_config *config, unsigned devices, char **ret, struct error *e);

bool cmdline_has_word(const char *cmdline, const char *word);

#endif
