# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What test-busy.sh does each day, for an hour.

test_busy_for_an_hour() {
	busy_guest 3600
}
