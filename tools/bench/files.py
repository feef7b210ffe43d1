# SPDX-License-Identifier: BSD-2-Clause
"""Files that monitors read, write and lock."""
import errno
import fcntl
import os
import re
import stat
import time

from progress import say

MIB = 1 << 20
RANGE = MIB  # of one discard
LONGEST = 80  # letters of a refusal
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
    line = re.sub(r"^.*?\berror: *", "", (errors or lines[-1:])[0], flags=re.IGNORECASE)
    return f"refuses: {line if len(line) <= LONGEST else line[:LONGEST - 3] + '...'}"


def is_taken(path):
    """Whether another has locked the file, or has the block device for itself."""
    try:
        fd = os.open(path, os.O_RDWR | (os.O_EXCL if stat.S_ISBLK(os.stat(path).st_mode) else 0))
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno in (errno.EBUSY, errno.EACCES, errno.EAGAIN):
            return True
        raise
    return False


def await_free(path, seconds=5):
    """Until nobody else has the disk. A monitor's io_uring is taken apart after its process is gone,
    and holds its files, with their locks, until then."""
    end = time.monotonic() + seconds
    while is_taken(path):
        if time.monotonic() > end:
            say(f"{path} is still in use after {seconds} s")
            return
        time.sleep(0.005)


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
