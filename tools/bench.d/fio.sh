#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the Linux guest of tools/bench: fio on the disk. A line for each test: what it was, and IOPS.
export HOME=/tmp
for disk in /dev/vd[a-z] none; do
	[ ! -b "$disk" ] || break
done
for test in "read 1" "read 32" "write 1" "write 32"; do
	out=$(fio --name=b --filename="$disk" --rw="rand${test% *}" --bs=4k --iodepth="${test#* }" \
		--ioengine=libaio --direct=1 --time_based --runtime=5 --ramp_time=1 --norandommap \
		--randrepeat=0 --output-format=terse --terse-version=3 --thread 2>&1)
	# Fio's terse output, version 3: IOPS of reads are field 8, of writes 49.
	IFS=';'
	# shellcheck disable=SC2086
	set -- ${out#*3;fio}
	unset IFS
	case $test in read*) shift 6 ;; *) shift 47 ;; esac
	echo "bench-fio: $test $1"
done
