# SPDX-License-Identifier: BSD-2-Clause
#
# Runs GRUB's scripts, as far as they choose what to boot. The second half of guest-find.awk.
#
# A script is words, W[1..num_words], raw; a line's end is a ";". Blocks are ranges of them.

function read_script(file,   line) {
	word = quote = ""
	while ((getline line <file) > 0) scan(line)
	close(file)
	W[++num_words] = ";"
}

function end_word() {
	if (word != "") W[++num_words] = word
	word = ""
}

function scan(line,   n) {
	while (1) {
		if (quote == "'") {
			if (!(n = index(line, "'"))) break
			word = word substr(line, 1, n)
			line = substr(line, n + 1)
			quote = ""
		} else if (quote != "") {
			n = match(line, /^([^"\\]|\\.)+/) ? RLENGTH : 0
			word = word substr(line, 1, n)
			line = substr(line, n + 1)
			if (line !~ /^"/) break
			word = word "\""
			line = substr(line, 2)
			quote = ""
		} else if (line == "" || (word == "" && line ~ /^#/)) {
			end_word()
			W[++num_words] = ";"
			return
		} else if (line ~ /^[ \t\r]/) {
			end_word()
			sub(/^[ \t\r]+/, "", line)
		} else if (line ~ /^;/ || (word == "" && line ~ /^[{}]/)) {
			end_word()
			W[++num_words] = substr(line, 1, 1)
			line = substr(line, 2)
		} else if (line ~ /^['"]/) {
			quote = substr(line, 1, 1)
			word = word quote
			line = substr(line, 2)
		} else if (line == "\\") {
			return
		} else {
			n = match(line, /^(\$\{[^}]*\}|\\.|[^ \t\r;'"\\])+/) ? RLENGTH : 1
			word = word substr(line, 1, n)
			line = substr(line, n + 1)
		}
	}
	# The quote goes on in the next line.
	sub(/\\$/, "", line)
	word = word line "\n"
}

# Adds what a raw word comes to, to A[1..num_args]: nothing at all for an empty variable without quotes.
function expand(raw,   out, any, in_quotes, n, i, name, part) {
	for (; raw != ""; raw = substr(raw, n + 1)) {
		if (!in_quotes && raw ~ /^'/) {
			n = index(substr(raw, 2), "'") + 1
			out = out substr(raw, 2, n - 2)
			any = 1
		} else if (raw ~ /^"/) {
			in_quotes = !in_quotes
			n = any = 1
		} else if (raw ~ /^\\/) {
			n = 2
			out = out (in_quotes && raw !~ /^\\["$\\]/ ? substr(raw, 1, 2) : substr(raw, 2, 1))
		} else if (match(raw, VARIABLE)) {
			n = RLENGTH
			name = name_of(substr(raw, 1, n))
			if (in_quotes) {
				out = out V[name]
				continue
			}
			split(V[name], part, " ")
			for (i = 1; i in part; i++) {
				if (i > 1) {
					A[++num_args] = out
					out = ""
				}
				out = out part[i]
			}
		} else {
			n = match(raw, /^[^'"\\$]+/) ? RLENGTH : 1
			out = out substr(raw, 1, n)
		}
	}
	if (any || out != "") A[++num_args] = out
}

function name_of(variable) {
	gsub(/[${}]/, "", variable)
	return variable
}

# A text of an entry with GRUB's variables in it.
function substitute(text,   out) {
	if (!in_grub) return text
	while (match(text, VARIABLE_INSIDE)) {
		out = out substr(text, 1, RSTART - 1) V[name_of(substr(text, RSTART, RLENGTH))]
		text = substr(text, RSTART + RLENGTH)
	}
	return out text
}

# The first word from i on that is one of `stops` (" then ", " elif else fi ") and ends what is open there.
function find(i, stops,   depth, at_start) {
	for (at_start = 1; i <= num_words; i++) {
		if (W[i] == ";") {
			at_start = 1
		} else if (depth == 0 && (at_start || W[i] == "}") && index(stops, " " W[i] " ")) {
			return i
		} else if (W[i] == "{" || (at_start && W[i] ~ /^(if|for|while|until)$/)) {
			depth++
			at_start = W[i] !~ /^for$/
		} else if (W[i] == "}" || (at_start && W[i] ~ /^(fi|done)$/)) {
			depth--
			at_start = 0
		} else {
			at_start = at_start && W[i] ~ /^(then|else|elif|do)$/
		}
	}
	return i
}

# Runs the words from i up to end; its status is that of the last command.
function run(i, end,   close_, name) {
	for (status = 0; i < end && !is_done; i++) {
		if (W[i] == ";") continue
		if (W[i] == "if") {
			i = run_if(i)
		} else if (W[i] == "for") {
			i = run_for(i)
		} else if (W[i] == "while" || W[i] == "until") {
			i = find(i + 1, " done ")
		} else if (W[i] == "function") {
			name = W[i + 1]
			close_ = find(i + 3, " } ")
			BODY[name] = i + 3
			BODY_END[name] = close_
			i = close_
		} else {
			for (num_args = 0; i < end && W[i] !~ /^[;{]$/; i++) expand(W[i])
			if (W[i] == "{") {
				close_ = find(i + 1, " } ")
				add_menu_entry(i + 1, close_)
				i = close_
			} else if (num_args) {
				status = command()
			}
		}
	}
	return status
}

function run_if(i,   then_, end, taken) {
	while (W[i] == "if" || W[i] == "elif") {
		then_ = find(i + 1, " then ")
		end = find(then_ + 1, " elif else fi ")
		if (!taken && (taken = run(i + 1, then_) == 0)) {
			run(then_ + 1, end)
			taken = 1
		}
		i = end
	}
	if (W[i] == "else") {
		end = find(i + 1, " fi ")
		if (!taken) run(i + 1, end)
		i = end
	}
	return i
}

function run_for(i,   name, values, n, j, do_, end) {
	name = W[i + 1]
	do_ = find(i + 1, " do ")
	end = find(do_ + 1, " done ")
	num_args = 0
	for (j = i + 3; j < do_ && W[j] != ";"; j++) expand(W[j])
	n = num_args
	for (j = 1; j <= n; j++) values[j] = A[j]
	for (j = 1; j <= n; j++) {
		V[name] = values[j]
		run(do_ + 1, end)
	}
	return end
}

# Menu entries and submenus: their words are run when they are chosen.
function add_menu_entry(start, end,   i, n) {
	n = ++num_entries
	KIND[n] = A[1]
	START[n] = start
	END_[n] = end
	for (i = 2; i <= num_args; i++) {
		if (A[i] ~ /^--(class|users|hotkey|id|source)$/) {
			if (A[i] == "--id") ID[n] = A[i + 1]
			i++
		} else if (A[i] ~ /^--id=/) {
			ID[n] = substr(A[i], 6)
		} else if (A[i] !~ /^--/ && TITLE[n] == "") {
			TITLE[n] = A[i]
		}
	}
	PLACE[n] = MENU_SIZE[menu]++
	PARENT[n] = menu
}

function command(   name, i, n) {
	name = A[1]
	if (name ~ /^[A-Za-z_][A-Za-z0-9_]*=/) return assign(name)
	if (name == "set") return num_args > 1 ? assign(A[2]) : 0
	if (name == "unset") return V[A[2]] = ""
	if (name == "[") num_args--
	if (name == "[" || name == "test") return !is_true(2, num_args)
	if (name == "false") return 1
	if (name ~ /^(source|\.|configfile|normal)$/) return source(name, A[2])
	if (name == "load_env") return load_env()
	if (name ~ /^search(\.|$)/) return search(name)
	if (name ~ /^linux(16|efi)?$/) return linux()
	if (name ~ /^initrd(16|efi)?$/) {
		for (i = 2; i <= num_args; i++)
			if (!add_initrd(device_of(A[i]), path_of(A[i]))) return is_broken = 1
		return 0
	}
	if (name == "blscfg") return blscfg()
	if (name in BODY) {
		for (i = 1; i <= 9; i++) V[i] = i < num_args ? A[i + 1] : ""
		return run(BODY[name], BODY_END[name])
	}
	return name ~ /^(regexp|chainloader|multiboot2?)$/ # the rest is for a screen
}

function assign(text,   n) {
	n = index(text, "=")
	V[substr(text, 1, n - 1)] = substr(text, n + 1)
	if (text ~ /^root=/) V["root"] = device_name(substr(text, 6))
	return 0
}

# "hd0,gpt2", as a device here: hd0 is the disk that GRUB began on.
function device_name(text,   n, part, i, whole, num) {
	gsub(/[()]/, "", text)
	if (text !~ /^hd[0-9]+/) return text
	n = split(text, part, ",")
	whole = disk
	if (part[1] != "hd0") {
		for (i = 1; i <= num_devices; i++) {
			whole = devices[i]
			sub(/[0-9]+$/, "", whole)
			if (i == 1 || whole != last) num++
			last = whole
			if (num == substr(part[1], 3) + 1) break
		}
	}
	sub(/^[a-z]+/, "", part[2])
	return whole (n > 1 ? part[2] : "")
}

function device_of(path) {
	if (path !~ /^\(/) return V["root"]
	return device_name(substr(path, 2, index(path, ")") - 2))
}

function path_of(path) {
	sub(/^\([^)]*\)/, "", path)
	return path
}

function place_of(path, how) { return place(device_of(path), path_of(path), how) }

function is_true(from, to,   i) {
	for (i = from + 1; i < to; i++)
		if (A[i] == "-o" || A[i] == "||") return is_true(from, i - 1) || is_true(i + 1, to)
	for (i = from + 1; i < to; i++)
		if (A[i] == "-a" || A[i] == "&&") return is_true(from, i - 1) && is_true(i + 1, to)
	if (to < from) return 0
	if (A[from] == "!") return !is_true(from + 1, to)
	if (to == from) return A[from] != ""
	if (to == from + 1) {
		if (A[from] == "-z") return A[to] == ""
		if (A[from] == "-n") return A[to] != ""
		if (A[from] ~ /^-[defs]$/) return place_of(A[to], substr(A[from], 2)) != ""
		return 0
	}
	if (A[from + 1] == "=" || A[from + 1] == "==") return A[from] "" == A[to] ""
	if (A[from + 1] == "!=") return A[from] "" != A[to] ""
	if (A[from + 1] == "-eq") return A[from] + 0 == A[to] + 0
	if (A[from + 1] == "-ne") return A[from] + 0 != A[to] + 0
	if (A[from + 1] == "-lt") return A[from] + 0 < A[to] + 0
	if (A[from + 1] == "-le") return A[from] + 0 <= A[to] + 0
	if (A[from + 1] == "-gt") return A[from] + 0 > A[to] + 0
	if (A[from + 1] == "-ge") return A[from] + 0 >= A[to] + 0
	return 0
}

function source(how, path,   file, from) {
	file = place_of(path)
	if (file == "" || sourced++ > 100) return 1
	if (how == "configfile" || how == "normal") {
		if (how == "configfile") V["config_file"] = path
		# A menu of its own, in the place of this one.
		num_entries = num_bls = MENU_SIZE[menu] = 0
		loader = "GRUB, " shown(file)
	}
	from = num_words + 1
	read_script(file)
	run(from, num_words + 1)
	if (how != "source" && how != ".") is_done = 1
	return status
}

# Of what it keeps from one start to the next. What is for the next start alone is left out: it stays there, as
# nothing is written.
function load_env(   i, file, line, n) {
	file = V["prefix"] "/grubenv"
	for (i = 2; i <= num_args; i++)
		if (A[i] ~ /^(-f|--file)$/) file = A[++i]
		else if (A[i] ~ /^--file=/) file = substr(A[i], 8)
	file = place_of(file)
	if (file == "") return 1
	while ((getline line <file) > 0)
		if (line !~ /^#/ && (n = index(line, "=")) && line !~ /^next_entry=/) {
			gsub(/\\\\/, "\\", line)
			V[substr(line, 1, n - 1)] = substr(line, n + 1)
		}
	close(file)
	return 0
}

function search(name,   how, to, i, want, num_plain, dev) {
	how = name ~ /^search\.(fs_)?uuid/ ? "uuid" : name ~ /^search\.(fs_)?label/ ? "label" : "file"
	to = "root"
	for (i = 2; i <= num_args; i++) {
		if (A[i] ~ /^(-u|--fs-uuid)$/) how = "uuid"
		else if (A[i] ~ /^(-l|--label)$/) how = "label"
		else if (A[i] ~ /^--set=/) to = substr(A[i], 7)
		else if (A[i] ~ /^(-s|--set)$/ && i < num_args - 1 && A[i + 1] !~ /^-/) to = A[++i]
		else if (A[i] ~ /^--hint.*[^=]$/ && A[i] !~ /=/) i++
		else if (A[i] ~ /^-/) continue
		else if (++num_plain == 1) want = A[i]
		else if (num_plain == 2 && name != "search") to = A[i]
	}
	if (how != "file") {
		dev = by[how, how == "uuid" ? tolower(want) : want]
	} else {
		for (i = num_devices; i > 0; i--)
			if (place(devices[i], want) != "") dev = devices[i]
	}
	if (dev == "") return 1
	V[to] = dev
	return 0
}

function linux(   i) {
	initrds = 0
	is_broken = 0
	kernel = place_of(A[2])
	if (kernel == "") {
		note("'" title "': " device_of(A[2]) " has no " path_of(A[2]))
		return 1
	}
	options = ""
	for (i = 3; i <= num_args; i++)
		options = options (i > 3 ? " " : "") (A[i] ~ / / ? "\"" A[i] "\"" : A[i])
	return 0
}

# Fedora's: an entry of the menu for each file.
function blscfg(   i, first) {
	first = num_bls + 1
	bls_by_name = 1
	if (V["blsdir"] != "") {
		find_bls(device_of(V["blsdir"]), path_of(V["blsdir"]))
	} else {
		find_bls(V["root"], "loader/entries")
		if (num_bls < first) find_bls(V["root"], "boot/loader/entries")
	}
	for (i = first; i <= num_bls; i++) {
		A[1] = "bls"
		A[2] = bls_field(bls[i], "title")
		A[3] = "--id"
		A[4] = bls_id(bls[i])
		num_args = 4
		add_menu_entry(bls[i], 0)
	}
	return 0
}

# Starts entry n: whether it has a kernel.
function start_entry(n) {
	kernel = ""
	title = TITLE[n]
	if (KIND[n] == "bls") return take_bls(START[n])
	run(START[n], END_[n])
	is_done = 0
	return kernel != "" && !is_broken
}

function start_menu(n, choice,   i, name, rest) {
	if (n) {
		menu = n
		run(START[n], END_[n])
	}
	i = index(choice, ">")
	name = i ? substr(choice, 1, i - 1) : choice
	rest = i ? substr(choice, i + 1) : ""
	for (i = 1; i <= num_entries; i++)
		if (PARENT[i] == n && (name ~ /^[0-9]+$/ ? PLACE[i] == name + 0 : name != "" && (TITLE[i] == name || ID[i] == name)))
			if (KIND[i] == "submenu" ? start_menu(i, rest) : start_entry(i))
				return 1
	# The first that works, as a person would choose.
	for (i = 1; i <= num_entries; i++)
		if (PARENT[i] == n && KIND[i] != "submenu" && start_entry(i))
			return 1
	return 0
}

function grub(   i, j, n, dirs, file) {
	VARIABLE = "^[$]([{][^}]*[}]|[A-Za-z_][A-Za-z0-9_]*|[0-9?])"
	VARIABLE_INSIDE = substr(VARIABLE, 2)
	n = split("boot/grub boot/grub2 grub grub2 @/boot/grub @/boot/grub2 root/boot/grub2 EFI/debian EFI/ubuntu EFI/fedora " \
		"EFI/BOOT", dirs, " ")
	for (j = 1; j <= n; j++)
		for (i = 1; i <= num_devices; i++) {
			if (!on_disk(devices[i]) || (file = place(devices[i], dirs[j] "/grub.cfg")) == "") continue
			if (run_grub(devices[i], dirs[j], file)) return 1
			note(shown(file) ": no entry starts Linux")
		}
	return 0
}

function run_grub(dev, dir, file) {
	in_grub = 1
	uki = initrds = 0
	num_words = num_entries = num_bls = menu = is_done = MENU_SIZE[0] = 0
	loader = "GRUB, " shown(file)
	delete V
	V["root"] = dev
	V["prefix"] = "(" dev ")/" dir
	V["config_directory"] = V["prefix"]
	V["config_file"] = V["prefix"] "/grub.cfg"
	V["grub_platform"] = "pc"
	V["grub_cpu"] = "i386"
	# Ubuntu tries some kernels without their initrd first, which has the drivers.
	V["initrdfail"] = 1
	V["feature_menuentry_id"] = V["feature_timeout_style"] = V["feature_default_font_path"] = "y"
	V["feature_all_video_module"] = V["feature_platform_search_hint"] = "y"
	read_script(file)
	run(1, num_words + 1)
	is_done = 0
	if (start_menu(0, V["default"] == "" ? "0" : V["default"])) return 1
	in_grub = bls_by_name = 0
	return 0
}
