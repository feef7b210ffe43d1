// SPDX-License-Identifier: BSD-2-Clause
/* The option --balloon. */
#include "config.h"

static const struct setting settings[] = {
	{"off", BOOL_FIELD(balloon_config, off),
	 .help = "no balloon: what the guest has touched once "
		 "stays allocated"},
	{"report", .arg = "on|off", BOOL_FIELD(balloon_config, report),
	 .help = "whether the guest tells which memory it freed, for the host to have (default: "
		 "on)"},
	{"size", .arg = "SIZE", BYTES_FIELD(balloon_config, size),
	 .help = "memory that the guest is to do without, like 1G; 'skep control PATH balloon' "
		 "changes it (default: 0)"},
	{"deflate-on-oom", .arg = "on|off", BOOL_FIELD(balloon_config, deflate_on_oom),
	 .help = "whether a guest that is out of memory takes it back from the balloon (default: "
		 "on)"},
	{"stats", .arg = "TIME", DURATION_FIELD(balloon_config, stats_ns),
	 .help = "how often the guest is asked for its memory statistics, like 10s (default: 0, "
		 "when 'skep control PATH status' is)"},
	{"drop-caches", .arg = "TIME", DURATION_FIELD(balloon_config, idle_ns),
	 .help = "how long the guest must have been idle before the balloon takes its page cache, "
		 "and lets go again, like 5m (default: 0, never)"},
	{.name = NULL},
};

static bool is_off(const void *config)
{
	return ((const struct balloon_config *)config)->off;
}

const struct device_options balloon_options = {
	.name = "balloon",
	.what = "the balloon",
	.max = 1,
	.option = {.arg = "OPTION[,OPTION...]",
		   .help = "how memory that the guest does not use goes back to the host; see "
			   "below"},
	.size = sizeof(struct balloon_config),
	.defaults = &(const struct balloon_config){.report = true, .deflate_on_oom = true},
	.settings = settings,
	.named = true,
	.is_off = is_off,
};
