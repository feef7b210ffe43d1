#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a command on a terminal of its own and looks at the terminal.

  terminal.py escape|term|kill|crash COMMAND...

Says "ok raw", "ok echo", "ok end", "ok restored" for each thing that is so. How
it is ended: Ctrl-A x typed, or a signal (kill cannot be caught: what is restored
then is up to a caller's shell, so "restored" is not expected of it).
"""
import os
import pty
import select
import signal
import sys
import termios
import time

SIGNALS = {"term": signal.SIGTERM, "kill": signal.SIGKILL, "crash": signal.SIGSEGV}


def is_raw(fd):
    return not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def read_until(fd, what, seconds):
    seen, end = b"", time.monotonic() + seconds
    while what not in seen and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                seen += os.read(fd, 4096)
            except OSError:
                break
    return what in seen, seen


def main():
    how, command = sys.argv[1], sys.argv[2:]
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if pid == 0:
        os.close(master)
        os.login_tty(slave) if hasattr(os, "login_tty") else login(slave)
        os.execvp(command[0], command)
    found, seen = read_until(master, b"# ", 120)
    if is_raw(slave):
        print("ok raw")
    os.write(master, b"echo x$((40 + 2))y\n")
    found, more = read_until(master, b"x42y", 30)
    if found:
        print("ok echo")
    else:
        print("the guest said:", (seen + more)[-2000:])
    if how == "escape":
        os.write(master, b"\x01x")
    else:
        os.kill(pid, SIGNALS[how])
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            print("ok end", status)
            break
        select.select([master], [], [], 0.1)[0] and read_until(master, b"\0never", 0.2)
    else:
        os.kill(pid, signal.SIGKILL)
    if termios.tcgetattr(slave) == before:
        print("ok restored")


def login(slave):
    import fcntl
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    if slave > 2:
        os.close(slave)


main()
