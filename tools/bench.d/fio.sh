#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# In the Linux guest of tools/bench: fio on the first disk. One line for each: what IOPS.
# shellcheck shell=dash
disk=$(ls /dev | grep '^vd[a-z]$' | head -n 1)
echo "disk $disk"
