# SPDX-License-Identifier: BSD-2-Clause
"""What is going on, on standard error, for anything that takes longer than two seconds."""
import sys
import threading
import time

FIRST = 2  # seconds of silence
LATER = 15  # seconds between lines where they cannot be written over


def say(text):
    Progress.clear()
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Progress:
    """with Progress("boot", 24) as p: p.step("skep, bzImage") before each of 24 steps."""

    width = 0  # of the line on the terminal that the next one replaces

    def __init__(self, name, total):
        self.name, self.total, self.done = name, total, -1
        self.what, self.began = "", time.monotonic()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.clear()

    def step(self, what):
        self.done, self.what = self.done + 1, what

    def line(self):
        spent = time.monotonic() - self.began
        left = ""
        if self.done > 0:
            left = f", about {spent / self.done * (self.total - self.done):.0f} s left"
        return f"bench: {self.name}: {self.done + 1} of {self.total}, {self.what}; {spent:.0f} s{left}"

    def run(self):
        tty = sys.stderr.isatty()
        pause = FIRST
        while not self.stop.wait(pause):
            text = self.line()
            if tty:
                sys.stderr.write("\r" + text.ljust(Progress.width))
                sys.stderr.flush()
                Progress.width = len(text)
            else:
                print(text, file=sys.stderr, flush=True)
                pause = LATER

    @classmethod
    def clear(cls):
        if cls.width:
            sys.stderr.write("\r" + " " * cls.width + "\r")
            cls.width = 0
