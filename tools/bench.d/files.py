# SPDX-License-Identifier: BSD-2-Clause
"""Files that monitors read, write and lock."""
import fcntl
import os
import re
import time

from progress import say

MIB = 1 << 20
RANGE = MIB  # of one discard
PIECES = 1024  # of the file that is discarded, that hold data: that much of it, in MiB


def read_text(path):
    if not os.path.exists(path):
        return ""
    with open(path, errors="replace", encoding="utf-8") as f:
        return f.read()


def refusal(path, status=None):
    """Of what a program has said, why it went no further: its first error, or its last word."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    errors = [line for line in lines if re.search("error", line, re.IGNORECASE)]
    if not lines:
        return "failed" if status is None else f"exit status {status}"
    line = (errors or lines[-1:])[0]
    return "refuses: " + re.sub(r"^.*?\berror: *", "", line, flags=re.IGNORECASE)[-80:]


def await_unlocked(path, seconds=5):
    """Until nobody has locked the file. A killed monitor's io_uring is taken apart after the process
    is gone, and holds its files, with their locks, until then."""
    with open(path, "r+b") as f:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.005)
    say(f"{path} is still locked after {seconds} s")


def fill(path, size):
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(os.urandom(MIB))
        os.fsync(f.fileno())


def sparse(path, size):
    """Makes the file anew, with some pieces allocated: how many bytes it takes."""
    pieces = min(PIECES, size // RANGE)
    with open(path, "wb") as f:
        f.truncate(size)
        for n in range(pieces):
            os.posix_fallocate(f.fileno(), n * (size // pieces) // RANGE * RANGE, RANGE)
        os.fsync(f.fileno())
        return os.fstat(f.fileno()).st_blocks * 512
