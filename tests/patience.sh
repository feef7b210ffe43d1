# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# How long tests wait for what must come, in seconds. It takes moments, but on a busy machine, under a
# sanitizer, a hundred times as long: so this ends what hangs, and decides nothing else. What boots in the
# lab is given ten times that, and a program with all its tests thirty times. This is the only place that
# says how long: scripts source it, meson.build asks it, programs see the variable.
# SKEP_PATIENCE=N: N times as long (tools/test sets it by the load).
patience=$((120 * ${SKEP_PATIENCE:-1}))
export patience
