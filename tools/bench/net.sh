#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the Linux guest of tools/bench: the client of net.c. The kernel's command line has
# bench.net=FAMILY:PORT:MILLISECONDS:TEST:...
# shellcheck disable=SC2046
set -- $(cat /proc/cmdline)
for word; do
	case $word in bench.net=*) what=${word#*=} ;; esac
done
IFS=:
# shellcheck disable=SC2086
exec /bin/net client $what
