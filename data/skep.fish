# SPDX-License-Identifier: BSD-2-Clause
#
# fish completion for skep(1). The candidates are skep's own.

function __skep_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    for line in ($words[1] complete $words[2..-1] "$word" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (string replace -r -- '^--[^=]*=' '' "$word")
        else
            echo $line
        end
    end
end
complete -c skep -f -a '(__skep_complete)'
