// SPDX-License-Identifier: BSD-2-Clause
#include "base/util.h"
#include "sandbox/rows.h"

static const struct sandbox_row rows[] = {
	EPOLL_LOOP(OWN(0)), /* that is all it does, besides interrupts */
};

const struct sandbox_rows echo_sandbox = {
	.roles = {"echo"},
	.rows = rows,
	.num = ARRAY_SIZE(rows),
};
