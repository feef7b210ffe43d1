# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# bash completion for skep(1). The candidates are skep's own.

_skep() {
	local line cur=${COMP_WORDS[COMP_CWORD]}

	[ "$cur" != = ] || cur=
	COMPREPLY=()
	while IFS= read -r line; do
		if [ "$line" = :files ]; then
			compopt -o filenames
			while IFS= read -r line; do
				COMPREPLY+=("$line")
			done < <(compgen -f -- "$cur")
		else
			# More follows what ends in "=".
			case $line in *=) compopt -o nospace ;; esac
			COMPREPLY+=("$line")
		fi
	done < <("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _skep skep
