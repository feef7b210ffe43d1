#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Usage: rooms.py SOURCE

Fails, and says where, when
- a device's name is in src/ or include/ but in the table of device types,
- a room includes a header of a room above it,
- files include each other in a circle: NAME.c and NAME.h count as one, and a header without a source
  as a part of each file that includes it,
- files call each other in a circle, or use each other's objects,
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
	["boot", "klog"],
	["virtio"],
	["console", "rng", "blk", "net", "balloon", "vsock", "mem", "vport", "fs"],
	["agent"],
	["control"],
	["vm"],
	["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

NAMES = r"(?:disks?|blk|consoles?|tty|rng|nets?|balloons?|vsocks?|vports?)"
# As a word, or as a part of an identifier: disk_config, SANDBOX_DISK, "--console", virtio-rng.
NAME = re.compile(rf"(?<![a-z0-9]){NAMES}(?![a-z0-9])", re.I)

# Where names may be, and which (all, without a pattern): each with the reason.
SKEP_DISK = r"\bdisk_(?:command|action|verbs)|\bDISK_(?:CREATE|INFO|COMPACT|RESIZE)|_disk\b|\"disk(?:\.h)?\""
NAMED = [
	("src/vm/devices.def", None),                  # the table
	("src/agent/", None),                          # a program of the guest's
	("src/cli/disk", None),                        # `skep disk` works on images, without a VM ...
	("src/cli/", SKEP_DISK),                       # ... and is a command as others are
	("src/boot/identify.c", r"a disk|--disk|disk image"),  # what else a file is, and where it goes
	("src/config/table.c", r"RAM disk|boot loader of a disk|disk-limit"),  # an initrd; what is booted;
	("src/config/config.c", r"disk-limit"),        # an option of a command
	("src/cli/check.c", r"vhost.(?:net|vsock)|\"vsock\""),  # the host's names
	("src/klog/vmcoreinfo.c", r"_blk(?:_|\b)"),   # Linux's words
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


def without_strings(text):
	return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


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


def stem(path):
	"""What NAME.c and NAME.h have in common, wherever the header lies: room/NAME."""
	return os.path.splitext(path.split("/", 1)[1])[0]


def include_graph(texts):
	sources = {stem(path) for path in texts if path.endswith(".c")}

	def included(path):
		for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', texts[path], re.M):
			near = [f"{top}/{name}" for top in (os.path.dirname(path), "include", "src", "devices")]
			yield from [other for other in near if other in texts][:1]

	def reach(path, seen):
		for other in included(path):
			if stem(other) in sources:
				yield stem(other)
			elif other not in seen:
				yield from reach(other, seen | {other})

	graph = {}
	for path in texts:
		if stem(path) in sources:
			graph.setdefault(stem(path), set()).update(reach(path, set()))
	return graph


# In this style a definition begins a line, and "static" those that no other file can name.
FUNCTION = re.compile(r"^(?!static\b|typedef\b|extern\b)\w[\w *]*?\b(\w+)\([^;{}]*\)\n\{", re.M)
OBJECT = re.compile(r"^(?!static\b|typedef\b|extern\b)\w[\w *]*?\b(\w+)(?:\[[^]]*\])? = ", re.M)


def call_graph(texts):
	code = {stem(path): without_strings(text) for path, text in texts.items() if path.endswith(".c")}
	owner = {name: module for module, text in code.items()
		 for name in FUNCTION.findall(text) + OBJECT.findall(text)}
	return {module: {owner[word] for word in set(re.findall(r"\w+", text)) & owner.keys()}
		for module, text in code.items()}


def circles(graph):
	"""The shortest way from a module back to itself, for one module of each circle."""
	told = set()
	for start in sorted(graph):
		came, todo = {}, [start]
		while todo and start not in came:
			at = todo.pop(0)
			for other in sorted(graph.get(at, ())):
				if other != at and other not in came:
					came[other] = at
					todo.append(other)
		if start not in came or start in told:
			continue
		way = [start]
		while len(way) == 1 or way[-1] != start:
			way.append(came[way[-1]])
		told.update(way)
		yield " -> ".join(reversed(way))


def circular(texts):
	for way in circles(include_graph(texts)):
		yield f"{way}: these include each other in a circle"
	for way in circles(call_graph(texts)):
		yield f"{way}: these call each other in a circle"


def check(top):
	rooms = {}
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
		if room_of(path) and path.endswith((".c", ".h")):
			rooms[path] = without_comments(text)
	yield from circular(rooms)


def main():
	if len(sys.argv) != 2:
		sys.exit(__doc__)
	faults = list(check(sys.argv[1]))
	print(*faults, sep="\n", end="\n" if faults else "")
	sys.exit(1 if faults else 0)


if __name__ == "__main__":
	main()
