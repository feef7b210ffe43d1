#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the Linux guest of tools/bench: fio on the disk. The kernel's command line has
# bench.tests=RW:BYTES:DEPTH,... and bench.seconds=N. A line for each test: what it was, and requests
# a second.
export HOME=/tmp
for disk in /dev/vd[a-z] none; do
	[ ! -b "$disk" ] || break
done
# shellcheck disable=SC2046
set -- $(cat /proc/cmdline)
for word; do
	case $word in
	bench.tests=*) tests=${word#*=} ;;
	bench.seconds=*) seconds=${word#*=} ;;
	esac
done
IFS=,
for test in $tests; do
	IFS=:
	# shellcheck disable=SC2086
	set -- $test
	unset IFS
	out=$(fio --name=b --filename="$disk" --rw="$1" --bs="$2" --iodepth="$3" \
		--ioengine=libaio --direct=1 --time_based --runtime="$seconds" --ramp_time=1 --norandommap \
		--randrepeat=0 --output-format=terse --terse-version=3 --thread 2>&1)
	case $1 in *read) field=8 ;; *) field=49 ;; esac
	# Fio's terse output, version 3: IOPS of reads are field 8, of writes 49.
	IFS=';'
	# shellcheck disable=SC2086
	set -- ${out#*3;fio}
	unset IFS
	shift $((field - 2))
	echo "bench-fio: $test $1"
done
