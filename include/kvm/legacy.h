// SPDX-License-Identifier: BSD-2-Clause
/*
 * What guests use without checking that it exists: ports of three devices, and the BIOS's reset
 * vector.
 */
#ifndef SKEP_LEGACY_H
#define SKEP_LEGACY_H

#include "base/error.h"
#include "kvm/bus.h"
#include "kvm/gmem.h"

#define LEGACY_PORTS 3u

struct legacy {
	struct legacy_port {
		struct legacy *all;
		const struct legacy_rule *rule;
	} port[LEGACY_PORTS];
	void (*reset)(void *ctx); /* vCPU thread; set by the caller */
	void *ctx;
};

/* Puts the ports on the bus, which goes on to use *legacy. -EEXIST, -ENOSPC. */
int legacy_add(struct legacy *legacy, struct bus *pio);

/* Puts code that resets the VM where a CPU goes that is sent to the BIOS (Linux: reboot=bios). */
int legacy_write_reset_vector(const struct gmem *mem);

#endif
