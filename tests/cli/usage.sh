#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Usage: usage.sh SKEP
#
# Commands, help, and what is said about wrong usage.
set -eu
# shellcheck source=lib.sh
. "${0%/*}/lib.sh"

run
ok "no command: status 2" [ "$status" = 2 ]
ok "no command: help on stderr" err_has '^Usage: skep COMMAND'
ok "no command: nothing on stdout" out_is_empty

for words in --help -h help "help help"; do
	# shellcheck disable=SC2086
	run $words
	ok "$words: status 0" [ "$status" = 0 ]
	ok "$words: lists the commands" out_has '^  run +boot'
	ok "$words: nothing on stderr" err_is_empty
done
for words in "run --help" "run -h" "help run" "run -c 2 --help --nonsense"; do
	# shellcheck disable=SC2086
	run $words
	ok "$words: status 0" [ "$status" = 0 ]
	ok "$words: lists the options" out_has '^  -k, --kernel FILE '
	ok "$words: nothing on stderr" err_is_empty
done
run check --help
ok "check --help" out_has '^Usage: skep check'
for words in --version -V version; do
	run "$words"
	ok "$words" out_has '^skep [0-9]+\.[0-9]+\.[0-9]+$'
done

ok "a misspelt command" complains 2 "unknown command 'rum': did you mean 'run'" rum
ok "a command that is none" complains 2 "'skep help' lists the commands" frobnicate
ok "an option in front of the command" complains 2 "unknown option '--kernel'" --kernel x run
ok "help on nothing" complains 2 "did you mean 'check'" help chekc
ok "a misspelt option" complains 2 "did you mean '--memory'" run --memroy 1G
ok "an unknown option" complains 2 "'skep help run' lists the options" run --bios
ok "an option of check" complains 2 "did you mean '--json'" check --jsn
ok "a missing value" complains 2 '^skep: --memory needs a value: --memory SIZE$' run -m
ok "a value too many" complains 2 'takes no value' run --dry-run=1
ok "an argument too many" complains 2 'are given with --kernel' run vmlinux
ok "an argument before the command" complains 2 "unexpected argument 'vmlinux'.*a command after --" run vmlinux -- true
ok "a terminal and none" complains 2 'terminal and no-terminal exclude' run -tT -- true
for words in "-e A=1" "--user nobody" "--root /" "--cwd ro" "--expose x" "--env-file x" "--artifact a:b" "--cache a:/b" "--disk-limit 1M" "--kill-after 1s"; do
	# shellcheck disable=SC2086
	ok "$words without a command" complains 2 "are a command's" run $words
done
for words in a a: :b; do
	ok "--artifact $words" complains 2 "artifact: '$words': write what to copy" run -k K --artifact "$words" -- true
done
for words in a a: :/b a:b ../a:/b .a:/b a/b:/c; do
	ok "--cache $words" complains 2 "cache: '$words': write a name" run -k K --cache "$words" -- true
done
ok "a view of the directory that there is not" complains 2 'none of rw|ro|overlay|off' run --cwd rx -- true
echo x >"$tmp/kernel"
ok "a variable without a name" complains 2 "--env: '=1' has no name" run -k "$tmp/kernel" -e =1 -- true
ok "a file of variables that is not there" complains 125 "--env-file: '/no/such': No such file" \
	run -k "$tmp/kernel" --env-file /no/such -- true
ok "a root that is not there" complains 125 "--root: '/no/such': No such file" run -k "$tmp/kernel" --root /no/such -- true
ok "a console where the command's streams are" complains 125 "the standard streams are the command's" \
	run -k "$tmp/kernel" --guest --cwd off --console stdio -- true
run run -k K --no-cache -e A=1 -e B --user u -t --cwd ro --artifact x:y --cache x:/y --disk-limit 5M --kill-after 2s --dry-run -- a '' $'b\nc'
"$skep" run --config "$tmp/out" --dry-run >"$tmp/again"
ok "a command goes through the configuration" cmp "$tmp/out" "$tmp/again"
ok "all of it" python3 -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["command"] != ["a", "", "b\nc"])' "$tmp/out"
for words in "" vm "vm true" "vm x -- true" "-- true"; do
	# shellcheck disable=SC2086
	ok "exec $words" complains 2 'write skep exec .OPTION...] VM -- COMMAND' exec $words
done
ok "a terminal and none for another command" complains 2 'exclude each other' exec -tT vm -- true
for words in "" a "a b" "vm:a vm:b" "vm: a" ":a b" "./vm:a b" "a vm:b c"; do
	# shellcheck disable=SC2086
	ok "cp $words" complains 2 'write skep cp VM:PATH PATH, or' cp $words
done
ok "a command in a VM that is not there" complains 125 'no/such: no such socket' exec no/such -- true
ok "a negative number" complains 2 "^skep: --cpus: '-1' is not a number from 1 to 64$" run -c -1
ok "a number out of range" complains 2 'from 1 to 64' run -c 65
ok "a number that overflows" complains 2 'too large a size' run -m 18446744073709551616G
ok "a number that is none" complains 2 'write it like 512M' run -m much
ok "memory in pieces too small" complains 2 'try 4M' run -m 3M
ok "memory that grows: the start is missing" complains 2 'start=1G,max=8G' run -m max=1G
ok "a negative time" complains 2 'write it like 90s' run --timeout -5
ok "an unknown option of a disk" complains 2 "did you mean 'readonly'" run -d x,readnly
ok "a bad option of a disk" complains 2 'from 1 to 16' run -d x,queues=0
ok "a time without its unit" complains 2 'poll is longer than 10ms: write it like 50us' \
	run -k K -d x,poll=50
ok "a line break in an argument" complains 2 "unexpected argument 'a\?b'" run $'a\nb'
for name in a/b .a -a 'a b'; do
	ok "the name '$name'" complains 2 "^skep: name: '$name': write it with letters" run --name "$name"
done
ok "a name that is too long" complains 2 'longer than 64 characters' run --name "$(printf 'a%.0s' {1..65})"
ok "contradictions" complains 2 'verbose and quiet exclude' run -vq
ok "the result over a disk" complains 2 "'d' is both the result and a disk" run -d d --result d

# What is printed must arrive.
status=0
"$skep" help run >/dev/full 2>"$tmp/err" </dev/null || status=$?
ok "standard output is full: status 125" [ "$status" = 125 ]
ok "standard output is full: says so" err_has 'No space left'

done_testing
