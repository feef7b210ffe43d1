// SPDX-License-Identifier: BSD-2-Clause
/* What the thread of the memory device calls. */
#include <linux/kvm.h>

#include "base/util.h"
#include "sandbox/rows.h"

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(OWN(0)), IOCTL(OWN(0), KVM_SET_USER_MEMORY_REGION), /* a block comes or goes */
};

const struct sandbox_rows mem_sandbox = {
	.roles = {"mem"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
