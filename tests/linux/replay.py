#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""replay.py LOG DISK COPY DIR POINTS FILES: applies a log of the device mapper's log-writes target to DISK, which
is as the logged device was at first. After POINTS of the flushes, the last one included, a copy of the disk must
be an ext4 whose journal can be replayed and that then has no fault; mounted on DIR it holds what tests/linux/guest/
journal has made stable by then: files named by numbers without a gap, whole. At the end, the last is FILES."""
import os
import struct
import subprocess
import sys

MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def entries(log):
    """Sector, sectors, flags and the data of each entry."""
    magic, version, count, size = struct.unpack("<QQQI", log.read(28))
    assert magic == MAGIC and version == 1, "not a log"
    place = size
    for _ in range(count):
        log.seek(place)
        sector, sectors, flags, extra = struct.unpack("<QQQQ", log.read(32))
        place += (32 + extra + size - 1) // size * size if flags & MARK else size
        data = b""
        # Sectors are of `size` bytes here.
        if sectors and not flags & DISCARD:
            log.seek(place)
            data = log.read(sectors * size)
            place += len(data)
        yield sector * size, sectors * size, flags, data


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def content(n):
    return (f"{n}\n".encode() * (140000 // 2))[:n % 7 * 20000 + 5000]


def check(disk, copy, mount_point):
    """The files that are there, by number."""
    assert run("cp", "--sparse=always", disk, copy)[0] == 0
    status, said = run("e2fsck", "-y", "-E", "journal_only", copy)
    assert status in (0, 1), f"the journal cannot be replayed: {said}"
    status, said = run("e2fsck", "-fn", copy)
    assert status == 0, f"the file system has faults: {said}"
    status, said = run("mount", "-o", "loop,ro", copy, mount_point)
    assert status == 0, said
    try:
        files = sorted(int(name) for name in os.listdir(mount_point) if name.isdigit())
        for n in files:
            with open(f"{mount_point}/{n}", "rb") as f:
                assert f.read() == content(n), f"file {n} of {files} is not whole"
    finally:
        run("umount", mount_point)
    assert not files or files == list(range(files[0], files[-1] + 1)), f"some are missing: {files}"
    return files


def main():
    log_path, disk, copy, mount_point, points, last = sys.argv[1:]
    with open(log_path, "rb") as log:
        flushes = sum(1 for e in entries(log) if e[2] & FLUSH)
    assert flushes, "nothing was flushed"
    points = min(int(points), flushes)
    wanted = {flushes - i * flushes // points for i in range(points)}
    seen, writes, files, newest = 0, 0, [], 0
    with open(log_path, "rb") as log, open(disk, "r+b", buffering=0) as out:
        for offset, length, flags, data in entries(log):
            if flags & DISCARD:
                data = bytes(length)
            # A flush comes before the data of its own entry.
            if flags & FLUSH:
                seen += 1
                if seen in wanted:
                    files = check(disk, copy, mount_point)
                    assert (files or [0])[-1] >= newest, f"after {newest} there was {files}"
                    newest = (files or [0])[-1]
            if data:
                writes += 1
                os.pwrite(out.fileno(), data, offset)
    files = check(disk, copy, mount_point)
    assert files and files[-1] == int(last), f"in the end there are {files}"
    print(f"{writes} writes, {flushes} flushes, {points} of them looked at")


main()
