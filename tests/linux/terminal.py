#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a command on a terminal of its own and looks at the terminal.

  terminal.py SECONDS escape|term|kill|crash|silence COMMAND...

Says "ok raw", "ok echo", "ok size", "ok resize", "ok end", "ok restored" for each
thing that is so, and waits at most SECONDS for it; size: the guest knows the
terminal's, resize: it hears of another. How it is ended: Ctrl-A x typed, or a signal
(kill cannot be caught: what is restored then is up to a caller's shell, so "restored"
is not expected of it). silence: the guest shows nothing; "ok silence" when skep says so,
"ok last message" when it quotes the guest's kernel as well, then Ctrl-A x is typed.
"""
import fcntl
import os
import pty
import select
import signal
import struct
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


def set_size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, cols, 0, 0))


def guest_says_size(fd, text, seconds):
    """Asks until then: the guest has its own time to take a new size in."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.write(fd, b"stty size\n")
        if read_until(fd, text, 1)[0]:
            return True
    return False


def main():
    seconds, how, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    set_size(slave, 50, 132)
    pid = os.fork()
    if pid == 0:
        os.close(master)
        os.login_tty(slave) if hasattr(os, "login_tty") else login(slave)
        os.execvp(command[0], command)
    if how == "silence":
        hear_of_silence(master, seconds)
    else:
        talk(master, slave, seconds)
    if how in ("escape", "silence"):
        os.write(master, b"\x01x")
    else:
        os.kill(pid, SIGNALS[how])
    end = time.monotonic() + seconds
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


def hear_of_silence(master, seconds):
    found, seen = read_until(master, b"last message: [", seconds)
    if b"guest has shown nothing for" in seen:
        print("ok silence")
    if found:
        print("ok last message")
    else:
        print("skep said:", seen[-2000:])


def talk(master, slave, seconds):
    found, seen = read_until(master, b"# ", seconds)
    if is_raw(slave):
        print("ok raw")
    os.write(master, b"echo x$((40 + 2))y\n")
    found, more = read_until(master, b"x42y", seconds)
    if found:
        print("ok echo")
    else:
        print("the guest said:", (seen + more)[-2000:])
    if guest_says_size(master, b"50 132", seconds):
        print("ok size")
    set_size(slave, 43, 99)
    if guest_says_size(master, b"43 99", seconds):
        print("ok resize")


def login(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    if slave > 2:
        os.close(slave)


main()
