# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The guest of test-busy.sh for an hour, or for SKEP_BUSY_SECONDS.

test_busy_for_an_hour() {
	busy_guest "${SKEP_BUSY_SECONDS:-3600}"
}
