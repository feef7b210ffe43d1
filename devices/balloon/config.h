// SPDX-License-Identifier: BSD-2-Clause
/* What the memory balloon is to be. */
#ifndef SKEP_BALLOON_CONFIG_H
#define SKEP_BALLOON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "config/device_options.h"

struct balloon_config {
	bool off;	     /* there is no balloon */
	bool report;	     /* the guest tells which pages it freed */
	bool deflate_on_oom; /* a guest that is out of memory takes it back from the balloon */
	uint64_t size;	     /* bytes in the balloon to begin with */
	uint64_t stats_ns;   /* between two requests for statistics; 0: only when asked */
	uint64_t idle_ns;    /* after which an idle guest's page cache goes; 0: it stays */
};

extern const struct device_options balloon_options;

#endif
