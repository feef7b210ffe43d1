#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Usage: rooms.py SOURCE

Fails, and says where, when
- a device's name is in src/ or include/ but in the table of device types,
- a room includes a header of a room above it,
- a file has more lines than MAX_LINES.
Comments may name what they like.
"""
import os
import re
import subprocess
import sys

MAX_LINES = 600

# Low to high: each calls those before it. One line may have several, which do not know each other.
ROOMS = [
	["base"],
	["config"],
	["sandbox"],
	["kvm"],
	["boot"],
	["virtio"],
	["console", "rng", "blk", "net", "balloon"],
	["control"],
	["vm"],
	["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

NAMES = r"(?:disks?|blk|consoles?|tty|rng|nets?|balloons?)"
# As a word, or as a part of an identifier: disk_config, SANDBOX_DISK, "--console", virtio-rng.
NAME = re.compile(rf"(?<![a-z0-9]){NAMES}(?![a-z0-9])", re.I)

# Where names may be, and which (all, without a pattern): each with the reason.
SKEP_DISK = r"\bdisk_(?:command|action|verbs)|\bDISK_(?:CREATE|INFO|COMPACT|RESIZE)|_disk\b|\"disk(?:\.h)?\""
NAMED = [
	("src/vm/devices.def", None),                  # the table
	("src/cli/disk", None),                        # `skep disk` works on images, without a VM ...
	("src/cli/", SKEP_DISK),                       # ... and is a command as others are
	("src/boot/identify.c", r"a disk|--disk|disk image"),  # what else a file is, and where it goes
	("src/config/table.c", r"RAM disk"),           # an initrd
	("src/cli/check.c", r"vhost.net|/dev/net"),    # the host's names
	("src/boot/cmdline.c", r"console=|\"tty\"|tty0"),  # Linux's words
]
# The generator is a program of its own, made of the rows of all types.
UPWARD = [("src/sandbox/generator.c", "vm/devices.def")]


def files(top):
	out = subprocess.run(["git", "ls-files", "src", "include", "devices", "tests", "tools"], cwd=top,
			     check=True, capture_output=True, text=True).stdout
	return [f for f in out.split("\n") if f and os.path.isfile(os.path.join(top, f))]


def without_comments(text):
	"""The same lines, comments blank."""
	def blank(m):
		return m[0] if m[0][0] in "\"'" else re.sub(r"[^\n]", " ", m[0])
	return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def room_of(path):
	"""The room that a source or header is of, or None."""
	for prefix in "include/", "src/", "devices/":
		if path.startswith(prefix):
			room = path[len(prefix):].split("/")[0]
			return room if room in LEVEL else None
	return None


def without_allowed(path, line):
	for prefix, pattern in NAMED:
		if path.startswith(prefix):
			line = re.sub(pattern, "", line) if pattern else ""
	return line


def names(path, text):
	"""Devices' names in a source of src/ or include/."""
	for number, line in enumerate(without_comments(text).split("\n"), 1):
		m = NAME.search(without_allowed(path, line))
		if m:
			yield f"{path}:{number}: '{m[0]}' is a device's: it belongs in the device's room"


def upward(path, text):
	"""Headers of rooms above, by their folder; those without one lie beside the source."""
	room = room_of(path)
	for number, line in enumerate(text.split("\n"), 1):
		m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
		other = m and m[1].split("/")[0]
		if not m or other not in LEVEL or other == room or (path, m[1]) in UPWARD:
			continue
		if LEVEL[other] >= LEVEL[room]:
			yield f"{path}:{number}: {room} includes {m[1]}, which is not below it"


def check(top):
	for path in files(top):
		with open(os.path.join(top, path), encoding="utf-8", errors="replace") as f:
			text = f.read()
		lines = text.count("\n")
		if lines > MAX_LINES and not path.startswith("tests/fuzz/seeds"):
			yield f"{path}: has {lines} lines, more than {MAX_LINES}: it is several files"
		if not path.endswith((".c", ".h", ".def")):
			continue
		if path.startswith(("src/", "include/")):
			yield from names(path, text)
		if room_of(path):
			yield from upward(path, text)


def main():
	if len(sys.argv) != 2:
		sys.exit(__doc__)
	faults = list(check(sys.argv[1]))
	print(*faults, sep="\n", end="\n" if faults else "")
	sys.exit(1 if faults else 0)


if __name__ == "__main__":
	main()
