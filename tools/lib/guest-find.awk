# SPDX-License-Identifier: BSD-2-Clause
#
# What would the boot loader of a disk start?
#
#   awk -f guest-find.awk -f guest-grub.awk -v mounts=DIR -v disk=vda DEVICES
#
# DEVICES has a line for each file system that is mounted at DIR/DEVICE: device, type, UUID, label. A btrfs's
# top level may be at DIR/DEVICE.top. In the order of its loaders (systemd-boot, GRUB, entries that are for any, a
# unified kernel image as the firmware's default, a kernel in /boot), the first of the disk that has a kernel is
# told, in lines that begin with a word: loader, title, linux or uki, initrd (of which there may be several),
# options. Standard error has what was found beside.
#
# Paths are looked up as they are: links are followed within one file system, where they are relative.

{
	devices[++num_devices] = $1
	type[$1] = $2
	if ($3 != "-") by["uuid", tolower($3)] = $1
	label = $0
	sub(/^[^ ]+ [^ ]+ [^ ]+ ?/, "", label)
	if (label != "") by["label", label] = $1
}

END {
	if (!systemd_boot() && !grub() && !any_loader() && !firmware() && !plain())
		exit 1
	print "loader " loader
	print "title " title
	print (uki ? "uki " : "linux ") kernel
	for (i = 1; i <= initrds; i++) print "initrd " initrd[i]
	print "options " options
}

function note(text) { print text | "cat >&2" }

# --- files

function quoted(text) {
	gsub(/'/, "'\\''", text)
	return "'" text "'"
}

# To read a line takes no process.
function test_file(how, path,   line, r) {
	if (how != "" && how != "f") return system("test -" how " " quoted(path)) == 0
	r = (getline line <path) >= 0
	close(path)
	return r
}

function on_disk(dev) { return index(dev, disk) == 1 && substr(dev, length(disk) + 1) ~ /^[0-9]*$/ }

# The file's place here, when it is there. GRUB's paths on a btrfs begin at its top level, or at its default
# subvolume; where /boot is no file system of its own, some entries leave it out.
function place(dev, path, how,   i, at) {
	split(mounts "/" dev "|" mounts "/" dev ".top|" mounts "/" dev "/boot", at, "|")
	if (dev != "" && path != "")
		for (i = 1; i <= 3; i++)
			if (test_file(how, at[i] "/" path)) {
				gsub(/\/+/, "/", path)
				sub(/^\//, "", path)
				return at[i] "/" path
			}
	return ""
}

# The names in a directory that match: LIST[1..].
function list(dir, pattern,   n, name, command) {
	delete LIST
	command = "ls -1 " quoted(dir) " 2>/dev/null"
	while ((command | getline name) > 0)
		if (name ~ pattern) LIST[++n] = name
	close(command)
	return n
}

# For messages: vda2:/boot/grub/grub.cfg
function shown(path) {
	path = substr(path, length(mounts) + 2)
	sub(/^[^\/]*/, "&:", path)
	sub(/\.top:/, ":", path)
	return path
}

# Which version is the newer one, by their digits and words in turn: less than, equal to or more than 0. A tilde
# comes before the end.
function compare(a, b,   x, y) {
	while (a != "" || b != "") {
		if (match(a, /^[^0-9A-Za-z~]+/)) a = substr(a, RLENGTH + 1)
		if (match(b, /^[^0-9A-Za-z~]+/)) b = substr(b, RLENGTH + 1)
		if (a ~ /^~/ || b ~ /^~/) {
			if (a !~ /^~/) return 1
			if (b !~ /^~/) return -1
			a = substr(a, 2)
			b = substr(b, 2)
			continue
		}
		if (a == "" || b == "") break
		if (a ~ /^[0-9]/ || b ~ /^[0-9]/) {
			x = match(a, /^[0-9]+/) ? substr(a, 1, RLENGTH) : ""
			y = match(b, /^[0-9]+/) ? substr(b, 1, RLENGTH) : ""
			if (x == "" || y == "") return x == "" ? -1 : 1
			a = substr(a, length(x) + 1)
			b = substr(b, length(y) + 1)
			if (x + 0 != y + 0) return x - y
		} else {
			match(a, /^[A-Za-z]+/)
			x = substr(a, 1, RLENGTH)
			match(b, /^[A-Za-z]+/)
			y = substr(b, 1, RLENGTH)
			a = substr(a, length(x) + 1)
			b = substr(b, length(y) + 1)
			if (x != y) return x < y ? -1 : 1
		}
	}
	return (a != "") - (b != "")
}

# --- entries of the boot loader specification: bls[1..num_bls], best first

function bls_field(file, key) { return (file, key) in BLS ? BLS[file, key] : "" }

function read_bls(file,   line, key) {
	if (file in BLS_DEV) return
	while ((getline line <file) > 0) {
		sub(/\r$/, "", line)
		sub(/^[ \t]+/, "", line)
		if (line ~ /^#/ || !match(line, /^[^ \t]+[ \t]+/)) continue
		key = substr(line, 1, RLENGTH)
		sub(/[ \t]+$/, "", key)
		line = substr(line, RLENGTH + 1)
		sub(/[ \t]+$/, "", line)
		if ((file, key) in BLS) line = BLS[file, key] " " line
		BLS[file, key] = line
	}
	close(file)
}

function bls_id(file) {
	sub(/.*\//, "", file)
	sub(/\.(conf|efi)$/, "", file)
	sub(/\+[0-9]+(-[0-9]+)?$/, "", file)
	return file
}

# Whether entry a comes before b in the menu.
function bls_before(a, b,   c, x, y) {
	x = a ~ /\+0(-[0-9]+)?\.(conf|efi)$/ # it was tried often enough
	y = b ~ /\+0(-[0-9]+)?\.(conf|efi)$/
	if (x != y) return y
	x = bls_field(a, "sort-key")
	y = bls_field(b, "sort-key")
	if (!bls_by_name && (x != "" || y != "")) {
		if (x == "" || y == "") return y == ""
		if (x != y) return x < y
		x = bls_field(a, "machine-id")
		y = bls_field(b, "machine-id")
		if (x != y) return x < y
		c = compare(bls_field(a, "version"), bls_field(b, "version"))
		if (c) return c > 0
	}
	return compare(bls_id(a), bls_id(b)) > 0
}

function add_bls(file,   i) {
	for (i = ++num_bls; i > 1 && bls_before(file, bls[i - 1]); i--) bls[i] = bls[i - 1]
	bls[i] = file
}

# Those of a file system; a kernel image that has all in it is one, too.
function find_bls(dev, dir,   n, i, file, names) {
	n = list(mounts "/" dev "/" dir, "\\.conf$")
	for (i = 1; i <= n; i++) names[i] = LIST[i]
	for (i = 1; i <= n; i++) {
		file = mounts "/" dev "/" dir "/" names[i]
		read_bls(file)
		BLS_DEV[file] = dev
		if (bls_field(file, "architecture") ~ /^(|x64|x86-64|X64)$/ &&
		    (bls_field(file, "linux") != "" || bls_field(file, "uki") bls_field(file, "efi") ~ /\/EFI\/Linux\//))
			add_bls(file)
	}
	if (dir != "loader/entries" || in_grub) return
	n = list(mounts "/" dev "/EFI/Linux", "\\.efi$")
	for (i = 1; i <= n; i++) names[i] = LIST[i]
	for (i = 1; i <= n; i++) {
		file = mounts "/" dev "/EFI/Linux/" names[i]
		BLS_DEV[file] = dev
		BLS[file, "title"] = names[i]
		BLS[file, "uki"] = "/EFI/Linux/" names[i]
		add_bls(file)
	}
}

# Takes the entry; false when its kernel is not there.
function take_bls(file,   n, i, words, path, dev) {
	dev = BLS_DEV[file]
	title = bls_field(file, "title")
	if (title == "") title = bls_id(file)
	path = bls_field(file, "uki") bls_field(file, "efi")
	uki = bls_field(file, "linux") == ""
	if (!uki) path = substitute(bls_field(file, "linux"))
	kernel = place(dev, path)
	if (kernel == "") {
		note("'" title "': " dev " has no " path)
		return 0
	}
	options = substitute(bls_field(file, "options"))
	initrds = 0
	n = uki ? 0 : split(substitute(bls_field(file, "initrd")), words, /[ \t]+/)
	for (i = 1; i <= n; i++)
		if (words[i] != "" && !add_initrd(dev, words[i])) return 0
	return 1
}

function add_initrd(dev, path,   at) {
	at = place(dev, path)
	if (at == "") {
		note("'" title "': " dev " has no " path)
		return 0
	}
	initrd[++initrds] = at
	return 1
}

# --- systemd-boot

function pattern_of(glob) {
	gsub(/[.+^$(){}|\\]/, "\\\\&", glob)
	gsub(/\*/, ".*", glob)
	gsub(/\?/, ".", glob)
	return "^" glob "$"
}

# The first that loader.conf names, else the first.
function take_best(default_glob,   i, round) {
	for (round = default_glob == ""; round < 2; round++)
		for (i = 1; i <= num_bls; i++)
			if ((round || bls_id(bls[i]) ~ default_glob || bls_id(bls[i]) ".conf" ~ default_glob ||
			     bls_id(bls[i]) ".efi" ~ default_glob) && take_bls(bls[i]))
				return 1
	return 0
}

function systemd_boot(   i, dev, file, line, glob, esp) {
	for (i = 1; i <= num_devices; i++) {
		dev = devices[i]
		if (on_disk(dev) && type[dev] == "vfat" &&
		    (place(dev, "EFI/systemd/systemd-bootx64.efi") != "" || place(dev, "loader/loader.conf") != "")) {
			esp = dev
			break
		}
	}
	if (esp == "") return 0
	file = mounts "/" esp "/loader/loader.conf"
	while ((getline line <file) > 0)
		if (line ~ /^[ \t]*default[ \t]/) {
			sub(/^[ \t]*default[ \t]+/, "", line)
			sub(/[ \t\r]+$/, "", line)
			if (line !~ /^@/) glob = pattern_of(line)
		}
	close(file)
	loader = "systemd-boot on " esp
	return all_bls(glob) || !note(esp ": systemd-boot has no entry that starts Linux") && 0
}

function all_bls(glob,   i) {
	num_bls = 0
	for (i = 1; i <= num_devices; i++)
		if (on_disk(devices[i])) find_bls(devices[i], "loader/entries")
	return take_best(glob)
}

# Entries, and no loader that is known.
function any_loader(   i) {
	loader = "its boot loader entries"
	if (all_bls("")) return 1
	for (i = 1; i <= num_devices; i++)
		if (on_disk(devices[i])) find_bls(devices[i], "boot/loader/entries")
	return take_best("")
}

# The firmware's default, where that is no loader.
function firmware(   i) {
	for (i = 1; i <= num_devices; i++)
		if (on_disk(devices[i]) && type[devices[i]] == "vfat") {
			kernel = place(devices[i], "EFI/BOOT/BOOTX64.EFI")
			if (kernel == "" || system("head -c 4096 " quoted(kernel) " | grep -q '[.]linux'") != 0)
				continue
			uki = 1
			title = "EFI/BOOT/BOOTX64.EFI"
			loader = "the firmware's default on " devices[i]
			return 1
		}
	return 0
}

# A kernel, and nothing that says how it is started.
function plain(   i, j, n, dev, dirs, dir, version, best, names) {
	loader = "no boot loader: a kernel that was found"
	options = "ro"
	uki = initrds = 0
	split("/ /boot/", dirs, " ")
	for (i = 1; i <= num_devices; i++)
		for (j = 1; j <= 2; j++) {
			dev = devices[i]
			dir = dirs[j]
			if (!on_disk(dev) || !test_file("d", mounts "/" dev dir)) continue
			if ((kernel = place(dev, dir "vmlinuz")) != "") {
				names = "initrd.img initrd initramfs"
			} else {
				best = ""
				n = list(mounts "/" dev dir, "^vmlinuz-")
				for (; n > 0; n--) {
					version = substr(LIST[n], 9)
					if (version !~ /rescue/ && (best == "" || compare(version, best) > 0)) best = version
				}
				if (best == "") continue
				kernel = place(dev, dir "vmlinuz-" best)
				names = "initrd.img-" best " initramfs-" best ".img initrd-" best " initramfs-" best
			}
			title = substr(kernel, length(mounts "/" dev) + 1)
			n = split(names, words, " ")
			for (version = 1; version <= n; version++)
				if (place(dev, dir words[version]) != "") {
					add_initrd(dev, dir words[version])
					break
				}
			return 1
		}
	return 0
}
