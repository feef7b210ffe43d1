// SPDX-License-Identifier: BSD-2-Clause
/* Every test of the payload: test_NAME() runs for "test=NAME". */
#ifndef TESTS_H
#define TESTS_H

#include "lib/vio.h"

#define GUEST_TESTS(X)                                                                             \
	X(hello)                                                                                   \
	X(cpus)                                                                                    \
	X(msrs)                                                                                    \
	X(apic)                                                                                    \
	X(mptable)                                                                                 \
	X(unknown)                                                                                 \
	X(end)                                                                                     \
	X(transport)                                                                               \
	X(rings)                                                                                   \
	X(exits)                                                                                   \
	X(blk)                                                                                     \
	X(blk_cache)                                                                               \
	X(blk_huge)                                                                                \
	X(blk_kicks)                                                                               \
	X(blk_bad)                                                                                 \
	X(blk_readonly)                                                                            \
	X(blk_zeros)                                                                               \
	X(blk_resize)                                                                              \
	X(hostile)                                                                                 \
	X(hostile_life)                                                                            \
	X(hostile_random)                                                                          \
	X(hostile_race)                                                                            \
	X(net_race)                                                                                \
	X(smp_blk)                                                                                 \
	X(console_output)                                                                          \
	X(console_echo)                                                                            \
	X(console_input)                                                                           \
	X(console_hostile)                                                                         \
	X(port_hostile)                                                                            \
	X(share_hostile)                                                                           \
	X(rng)                                                                                     \
	X(echo)                                                                                    \
	X(end_while_reset)                                                                         \
	X(end_busy)                                                                                \
	X(end_writing)                                                                             \
	X(memory)                                                                                  \
	X(memory_race)                                                                             \
	X(crash)                                                                                   \
	X(bench)

#define DECLARE_TEST(name) void test_##name(void);
GUEST_TESTS(DECLARE_TEST)

#endif
