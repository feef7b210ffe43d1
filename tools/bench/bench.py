# SPDX-License-Identifier: BSD-2-Clause
"""The measuring half of tools/bench/run, which prepares the directory that this reads."""
import argparse
import os
import shutil
import subprocess
import sys
import time

import monitors
from disk import LIMIT, Disks
from files import await_free, read_text, refusal
from memory import Memory
from monitors import Failed, Guest, Unsupported
from net import Net
from progress import Progress, say
from rings import Rings
from tables import Metric, Table

MIB = 1 << 20
LATE = 124  # launch's exit status when the time ran out
SETTLED = 3  # seconds after which skep takes a kernel that has not changed for one that it knows


class Bench(Disks, Memory, Net, Rings):
    def __init__(self, stage, skeps, options):
        self.stage, self.options = stage, options
        self.runs, self.verbose = options.runs, options.verbose
        self.reasons = {}  # subject: why there is no figure of it
        self.dir = os.path.join(stage, "run")
        os.makedirs(self.dir, exist_ok=True)
        self.launch_path = self.file("bin/launch")
        self.cache = {name: self.file(f"cache-{name}") for name in ("warm", "cold")}
        for path in self.cache.values():
            os.makedirs(path, exist_ok=True)
        self.skeps = [monitors.Skep(path, name) for name, path in skeps]
        self.peers = [m for m in map(self.find, monitors.PEERS) if m]
        self.env = {**os.environ, "XDG_CACHE_HOME": self.cache["warm"]}
        if os.path.exists(self.file("vmlinuz")):
            age = time.time() - os.stat(self.file("vmlinuz")).st_ctime
            time.sleep(max(0, SETTLED - age))

    def file(self, name):
        return os.path.join(self.stage, name)

    def find(self, kind):
        path = self.file("bin/" + kind.program)
        return kind(path) if os.path.exists(path) else None

    def everyone(self):
        return self.skeps + self.peers

    def launch(self, mode, argv, output=None, env=None, seconds=LIMIT):
        """Runs it measured: a dict of numbers. Raises Failed."""
        output = output or self.file("run/out")
        r = subprocess.run([self.launch_path, mode, str(seconds), output] + argv,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                           env={**self.env, **(env or {})})
        if r.returncode == LATE:
            raise Failed(f"not done in {seconds} s")
        if r.returncode:
            raise Failed(r.stderr.strip() or refusal(output))
        return {k: int(v) for k, v in (w.split("=") for w in r.stdout.split())}

    def run(self, monitor, guest, mode="whole", output=None, seconds=LIMIT):
        """Runs the guest under the monitor, measured: what launch() returns."""
        for disk in guest.disks:
            await_free(disk)
        return self.launch(mode, monitor.argv(guest, self.dir), output, monitor.environment(),
                           seconds)

    def run_well(self, monitor, guest, output=None):
        """The same to an end without an error."""
        result = self.run(monitor, guest, output=output)
        if result["status"]:
            raise Failed(refusal(output or self.file("run/out"), result["status"]))
        return result

    def command(self, monitor, guest):
        argv = monitor.argv(guest, self.dir)
        words = [f"'{a}'" if " " in a else a for a in argv]
        return f"{monitor.label}: {' '.join(words).replace(self.stage + '/', '')}"

    def alternate(self, name, subjects, measure, runs=None, warm=True):
        """measure(subject) for all of them in turn, `runs` times; the first turn warms up and does
        not count. A subject that fails twice in a row is dropped, and at once when it would always."""
        samples = {s: [] for s in subjects}
        bad = {s: 0 for s in subjects}
        turns = (runs or self.runs) + int(warm)
        with Progress(name, turns * len(subjects)) as progress:
            for turn in range(turns):
                for s in subjects:
                    progress.step(self.describe(s))
                    if bad[s] > 1:
                        continue
                    try:
                        sample = measure(s)
                    except Failed as e:
                        self.reasons[s] = str(e)
                        bad[s] = 2 if isinstance(e, Unsupported) else bad[s] + 1
                        if not isinstance(e, Unsupported) or self.verbose:
                            say(f"{name}: {self.describe(s)}: {e}")
                        continue
                    if self.verbose:
                        say(f"{name}, turn {turn}: {self.describe(s)}: {sample}")
                    bad[s] = 0
                    if turn or not warm:
                        samples[s].append(sample)
        return samples

    def describe(self, subject):
        """A subject is a monitor, or a tuple with one and its circumstances, maybe nested."""
        if not isinstance(subject, tuple):
            return str(subject)
        fields = getattr(subject, "_fields", ())
        parts = [("direct" if value else "") if fields and fields[n] == "direct"
                 else self.describe(value) for n, value in enumerate(subject)]
        return ", ".join(p for p in parts if p)

    def reason(self, *subjects):
        """Why there is no figure of these, in words for their row."""
        return next((self.reasons[s] for s in subjects if s in self.reasons), "")

    def publish(self, table, commands=()):
        table.commands = list(commands)
        table.publish(self.options.results)

    def versions(self):
        for m in self.everyone():
            print(f"{m.label}: {m.version()}")

    # --- start

    def start(self):
        subjects = [("floor", "", self.file("bin/floor"))]
        for kernel in ("bzImage", "vmlinux"):
            for s in self.skeps:
                subjects += [(s, kernel, cache) for cache in ("warm", "cold", "none")
                             if kernel == "bzImage" or cache == "none"]
            subjects += [(p, kernel, "") for p in self.peers]

        def argv(subject):
            monitor, kernel, cache = subject
            if monitor == "floor":
                return [cache, "256"]
            a = monitor.argv(self.linux(kernel), self.dir)
            return a[:2] + ["--no-cache"] + a[2:] if cache == "none" else a

        # Not killed at its first KVM_RUN, so that what is kept has been kept.
        for s in self.skeps:
            self.launch("whole", argv((s, "bzImage", "warm")) + ["--timeout", "1s"])

        def measure(subject):
            monitor, kernel, cache = subject
            env = {}
            if monitor != "floor":
                monitor.check(kernel)
                env = monitor.environment()
                await_free(self.file("disk.img"))
            if cache == "cold":
                shutil.rmtree(self.cache["cold"] + "/skep", ignore_errors=True)
                env["XDG_CACHE_HOME"] = self.cache["cold"]
            return self.launch("first-run", argv(subject), env=env)

        def key(subject):
            monitor, kernel, cache = subject
            if cache in ("warm", "cold", "none") and kernel == "bzImage":
                kernel += ", no cache" if cache == "none" else f", cache {cache}"
            return ["floor" if monitor == "floor" else monitor.label, kernel]

        samples = self.alternate("start", subjects, measure)
        table = Table(f"start: exec to first KVM_RUN, {self.runs} alternating runs, medians",
                      ["monitor", "kernel"],
                      [Metric("wall ms"), Metric("CPU ms", compare=False)],
                      key((self.skeps[0], "bzImage", "warm")))
        for s in subjects:
            table.add(key(s), [x["wall_ns"] / 1e6 for x in samples[s]],
                      [x["cpu_ns"] / 1e6 for x in samples[s]], note=self.reason(s))
        self.publish(table, self.commands(self.linux("bzImage")))

    def linux(self, kernel="bzImage", console=None, action="end", words="", **more):
        name = {"bzImage": "vmlinuz", "vmlinux": "vmlinux"}[kernel]
        more.setdefault("initrd", self.file("initrd"))
        more.setdefault("disks", (self.file("disk.img"),))
        append = f"bench.do={action} {words}" if action != "end" else ""
        return Guest(self.file(name), console=console, append=append, **more)

    def commands(self, guest):
        return [self.command(m, guest) for m in self.everyone()]

    def both_kernels(self):
        return [(m, k) for k in ("bzImage", "vmlinux") for m in self.everyone()]

    # --- boot

    def boot(self):
        subjects = self.both_kernels()

        def measure(subject):
            monitor, kernel = subject
            monitor.check(kernel)
            return self.run_well(monitor, self.linux(kernel))

        samples = self.alternate("boot", subjects, measure)
        table = Table(f"boot: Debian's cloud kernel to /init and out, whole process, 256 MiB, "
                      f"{self.runs} alternating runs, medians", ["monitor", "kernel"],
                      [Metric("wall s"), Metric("CPU s", compare=False)],
                      [self.skeps[0].label, "bzImage"])
        for s in subjects:
            table.add([s[0].label, s[1]], [x["wall_ns"] / 1e9 for x in samples[s]],
                      [x["cpu_ns"] / 1e9 for x in samples[s]], note=self.reason(s))
        self.publish(table, self.commands(self.linux()))
        self.boot_parts()

    def boot_clocks(self, subject):
        """One boot that tells its clocks: the seconds of each part."""
        monitor, kernel = subject
        monitor.check(kernel)
        console = self.file("run/console")
        guest = self.linux(kernel, console=console, action="report")
        if os.path.exists(console):
            os.unlink(console)
        first = self.run(monitor, guest, "first-run", output=self.file("run/out2"))
        whole = self.run_well(monitor, guest, console if monitor.console_on_stdout else None)
        at = {}  # of the guest's clock: when it began in the host's time, and what it said when
        for line in read_text(console).splitlines():
            if line.startswith("bench: clocks "):
                at.update((k, float(v)) for k, v in (w.split("=") for w in line.split()[2:]))
        if "end" not in at:
            raise Failed("no report on its console")
        wall = whole["wall_ns"] / 1e9
        began = at["began"] - whole["real_ns"] / 1e9
        return {"build": first["wall_ns"] / 1e9, "early": began, "clock": at["init"],
                "drivers": at["drivers"] - at["init"], "report": at["end"] - at["drivers"],
                "out": wall - began - at["end"], "whole": wall}

    def boot_parts(self):
        """Where the time goes."""
        subjects = self.both_kernels()
        samples = self.alternate("boot, in parts", subjects, self.boot_clocks,
                                 runs=max(1, self.runs // 3))
        parts = (("early", "to the guest's clock"), ("clock", "to /init"), ("drivers", "drivers"),
                 ("report", "report"), ("out", "way out"), ("whole", "whole"),
                 ("build", "to KVM_RUN"))
        table = Table("boot, in parts: seconds, medians", ["monitor", "kernel"],
                      [Metric(name, compare=False) for _, name in parts], [])
        for s in subjects:
            table.add([s[0].label, s[1]], *[[i[k] for i in samples[s]] for k, _ in parts],
                      note=self.reason(s))
        table.notes = ["From exec until the guest's clock begins, until /init, which loads its drivers "
                       "and writes a report to the console; above it does neither. The way out is from "
                       "the guest's last system call until the monitor has been reaped. The first "
                       "KVM_RUN, counted from exec, is of a run of its own."]
        self.publish(table)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stage", required=True)
    p.add_argument("--copy-to", help="copy the stage here (a tmpfs) first")
    p.add_argument("--results", help="append the tables to this file")
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--seconds", type=float, default=1)
    p.add_argument("--depths", default="1,32,128")
    p.add_argument("--cache", default="page,direct")
    p.add_argument("--polls", action="store_true")
    p.add_argument("--disk-dir")
    for name, default in (("size", 256 * MIB), ("discard-size", 1 << 40), ("storm-size", 16 << 30)):
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--skep", action="append", default=[], metavar="NAME=PATH")
    p.add_argument("what", nargs="+")
    args = p.parse_args()
    stage = args.stage
    if args.copy_to:
        began = time.monotonic()
        shutil.copytree(stage, args.copy_to, symlinks=True)
        stage = args.copy_to
        say(f"copied the inputs in {time.monotonic() - began:.1f} s")
    skeps = [tuple(s.split("=", 1)) for s in args.skep]
    bench = Bench(stage, [(n, os.path.join(stage, p)) for n, p in skeps], args)
    for what in args.what:
        getattr(bench, what)()


if __name__ == "__main__":
    main()
