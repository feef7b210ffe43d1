# SPDX-License-Identifier: BSD-2-Clause
"""Split virtqueues beside packed ones, between two threads."""
import shutil
import subprocess

from disk import LIMIT
from progress import say
from tables import Metric, Table

FORMATS = ("split", "packed")
MS = 20  # so short that nobody misses two CPUs for so long


class Rings:
    """The part of Bench (bench.py) that is about the formats of virtqueues."""

    def ring(self, kind, depth):
        """One run of bin/rings (rings.c), undisturbed by other programs where that is allowed."""
        argv = [self.file("bin/rings"), kind, str(depth), str(MS)]
        first = ["chrt", "-f", "1"]
        if not shutil.which("chrt") or subprocess.run(first + ["true"], stderr=subprocess.DEVNULL,
                                                      check=False).returncode:
            first = []
        r = subprocess.run(first + argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           check=False, timeout=LIMIT)
        if r.returncode:
            say(r.stderr.strip())
            return None
        return {k: int(v) for k, v in (w.split("=") for w in r.stdout.split())}

    def rings(self):
        subjects = [(f, depth) for depth in self.depths() for f in FORMATS]
        samples = self.alternate("rings", subjects, lambda s: self.ring(*s))
        for name, form, better, figure in (
                ("requests, in thousands a second", "{:.0f}", "more",
                 lambda x: x["requests"] / x["ns"] * 1e6),
                ("the device's nanoseconds for a request", "{:.1f}", "less",
                 lambda x: x["device_ns"] / x["requests"])):
            table = Table(f"rings: {name}; indirect tables of 3, neither guest nor I/O, both sides "
                          f"poll, {self.runs} alternating runs, medians", ["format"],
                          [Metric(f"depth {d}", form, better) for d in self.depths()],
                          ["split"], "split")
            for f in FORMATS:
                table.add([f], *[[figure(x) for x in samples[f, d]] for d in self.depths()])
            self.publish(table)
