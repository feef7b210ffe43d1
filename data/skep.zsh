#compdef skep
# SPDX-License-Identifier: BSD-2-Clause
#
# zsh completion for skep(1). The candidates are skep's own.

local line

for line in "${(@f)$("${(Q)words[1]}" complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
	case $line in
	'') ;;
	:files)
		compset -P '--*='
		_files
		;;
	# More follows what ends in "=".
	*=) compadd -S '' -- "$line" ;;
	*) compadd -- "$line" ;;
	esac
done
