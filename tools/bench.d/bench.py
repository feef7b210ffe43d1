# SPDX-License-Identifier: BSD-2-Clause
"""The measuring half of tools/bench, which prepares the directory that this reads."""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

import monitors
from monitors import Guest

MIB = 1 << 20


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Table:
    """Rows of text with a header, columns aligned."""

    def __init__(self, title, *header):
        self.title, self.rows = title, [header]

    def add(self, *cells):
        self.rows.append([str(c) for c in cells])

    def print(self, notes=()):
        widths = [max(len(r[i]) for r in self.rows) for i in range(len(self.rows[0]))]
        print(f"\n## {self.title}\n")
        for n, row in enumerate(self.rows):
            print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |")
            if n == 0:
                print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
        if notes:
            print()
        for note in notes:
            print(note)
        sys.stdout.flush()


def middle(values):
    return statistics.median(values) if values else float("nan")


def spread(values, form="{:.1f}"):
    return f"{form.format(min(values))} - {form.format(max(values))}" if values else "failed"


def ratio(value, base):
    return f"{value / base:.2f}" if base and value == value else "-"


class Bench:
    def __init__(self, stage, runs, skeps):
        self.stage, self.runs = stage, runs
        self.dir = os.path.join(stage, "run")
        os.makedirs(self.dir, exist_ok=True)
        self.launch_path = self.file("bin/launch")
        self.cache = self.file("cache")
        self.skeps = [monitors.Skep(path, name) for name, path in skeps]
        self.peers = [m for m in map(self.find, monitors.PEERS) if m]
        self.env = {**os.environ, "XDG_CACHE_HOME": self.cache}

    def file(self, name):
        return os.path.join(self.stage, name)

    def find(self, kind):
        path = self.file("bin/" + kind.program)
        if not os.path.exists(path):
            path = shutil.which(kind.program)
        return kind(path) if path else None

    def everyone(self):
        return self.skeps + self.peers

    def launch(self, mode, argv, output=None, env=None, seconds=60):
        """Runs it measured: a dict of numbers, or None when it failed, which is told."""
        output = output or self.file("run/out")
        r = subprocess.run([self.launch_path, mode, str(seconds), output] + argv,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                           env={**self.env, **(env or {})})
        if r.returncode:
            say(f"{argv[0]}: did not get there: {r.stderr.strip()}")
            with open(output, errors="replace", encoding="utf-8") as f:
                sys.stderr.write("".join(f.readlines()[-5:]))
            return None
        return {k: int(v) for k, v in (w.split("=") for w in r.stdout.split())}

    def command(self, monitor, guest):
        argv = monitor.argv(guest, self.dir)
        words = [f"'{a}'" if " " in a else a for a in argv]
        return f"{monitor.label}: {' '.join(words).replace(self.stage + '/', '')}"

    def alternate(self, subjects, measure, runs=None):
        """measure(subject) for all of them in turn, `runs` times; the first turn warms up and does
        not count. A subject that fails twice in a row is dropped."""
        samples = {s: [] for s in subjects}
        bad = {s: 0 for s in subjects}
        for turn in range((runs or self.runs) + 1):
            for s in subjects:
                if bad[s] > 1:
                    continue
                sample = measure(s)
                bad[s] = 0 if sample else bad[s] + 1
                if sample and turn:
                    samples[s].append(sample)
        return samples

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
            subjects += [(p, kernel, "") for p in self.peers if kernel in p.kernels]

        def argv(subject):
            monitor, kernel, cache = subject
            if monitor == "floor":
                return [cache, "256"]
            a = monitor.argv(self.linux(kernel), self.dir)
            return a[:2] + ["--no-cache"] + a[2:] if cache == "none" else a

        def measure(subject):
            if subject[2] == "cold":
                shutil.rmtree(self.cache, ignore_errors=True)
                os.makedirs(self.cache)
            elif subject[2] == "warm" and not os.path.exists(self.cache + "/skep"):
                self.launch("first-run", argv(subject))
            env = subject[0].environment() if subject[0] != "floor" else None
            return self.launch("first-run", argv(subject), env=env, seconds=20)

        samples = self.alternate(subjects, measure)
        base = middle([x["wall_ns"] for x in samples[(self.skeps[0], "bzImage", "warm")]])
        table = Table(f"start: exec to first KVM_RUN, {self.runs} alternating runs, medians",
                      "monitor", "kernel", "wall ms", "(range)", "CPU ms", "wall to skep's")
        for s in subjects:
            wall = [x["wall_ns"] / 1e6 for x in samples[s]]
            cpu = [x["cpu_ns"] / 1e6 for x in samples[s]]
            name = s[0] if s[0] == "floor" else s[0].label
            kernel = s[1] + (f", {'no cache' if s[2] == 'none' else 'cache ' + s[2]}"
                             if s[2] in ("warm", "cold", "none") and s[1] == "bzImage" else "")
            table.add(name, kernel, f"{middle(wall):.2f}", spread(wall, "{:.2f}"),
                      f"{middle(cpu):.2f}", ratio(middle(wall) * 1e6, base))
        table.print(self.commands(self.linux("bzImage")))

    def linux(self, kernel="bzImage", console=None, action="end", **more):
        name = {"bzImage": "vmlinuz", "vmlinux": "vmlinux"}[kernel]
        more.setdefault("initrd", self.file("initrd"))
        more.setdefault("disks", (self.file("disk.img"),))
        append = f"bench.do={action}" if action != "end" else ""
        return Guest(self.file(name), console=console, append=append, **more)

    def commands(self, guest):
        return [self.command(m, guest) for m in self.everyone()]

    # --- boot

    def boot(self):
        subjects = [(m, k) for k in ("bzImage", "vmlinux") for m in self.everyone()
                    if k in m.kernels]

        def measure(subject):
            monitor, kernel = subject
            guest = self.linux(kernel)
            sample = self.launch("whole", monitor.argv(guest, self.dir), env=monitor.environment())
            if sample and sample["status"]:
                say(f"{monitor.label}, {kernel}: exit status {sample['status']}")
                with open(self.file("run/out"), errors="replace", encoding="utf-8") as f:
                    sys.stderr.write("".join(f.readlines()[-5:]))
                return None
            return sample

        samples = self.alternate(subjects, measure)
        base = middle([x["wall_ns"] for x in samples[(self.skeps[0], "bzImage")]])
        table = Table(f"boot: Debian's cloud kernel to /init and out, whole process, 256 MiB, "
                      f"{self.runs} alternating runs, medians",
                      "monitor", "kernel", "wall s", "(range)", "CPU s", "wall to skep's")
        for s in subjects:
            wall = [x["wall_ns"] / 1e9 for x in samples[s]]
            cpu = [x["cpu_ns"] / 1e9 for x in samples[s]]
            table.add(s[0].label, s[1], f"{middle(wall):.2f}", spread(wall, "{:.2f}"),
                      f"{middle(cpu):.2f}", ratio(middle(wall) * 1e9, base))
        table.print(self.commands(self.linux()))
        self.boot_parts()

    def report(self, monitor, kernel):
        """One boot that tells its clocks: the seconds of each part."""
        console = self.file("run/console")
        guest = self.linux(kernel, console=console, action="report")
        argv = monitor.argv(guest, self.dir)
        if os.path.exists(console):
            os.unlink(console)
        first = self.launch("first-run", argv, output=self.file("run/out2"),
                            env=monitor.environment())
        whole = self.launch("whole", argv, output=console if monitor.console_on_stdout else None,
                            env=monitor.environment())
        if not first or not whole:
            return None
        with open(console, errors="replace", encoding="utf-8") as f:
            text = f.read()
        numbers = {}
        for line in text.splitlines():
            if line.startswith("bench: since_vcpu"):
                numbers = {k: float(v) for k, v in (w.split("=") for w in line.split()[1:])}
        if not numbers:
            say(f"{monitor.label}: no report on its console")
            return None
        return {"build": first["wall_ns"] / 1e9, "init": numbers["since_vcpu"],
                "clock": numbers["monotonic"]}

    def boot_parts(self):
        """Where the time goes. The guest's time stamp counter runs from the making of its vCPU, its
        own clock from a moment early in its boot."""
        subjects = [(m, k) for k in ("bzImage", "vmlinux") for m in self.everyone()
                    if k in m.kernels and m.name in ("skep", "firecracker", "cloud-hypervisor")]
        samples = self.alternate(subjects, lambda s: self.report(*s), runs=max(3, self.runs // 3))
        table = Table("boot, in parts (seconds; the way out and teardown are the rest of the whole)",
                      "monitor", "kernel", "exec to first KVM_RUN", "vCPU made to guest's clock",
                      "guest's clock to /init")
        for s in subjects:
            x = samples[s]
            table.add(s[0].label, s[1], f"{middle([i['build'] for i in x]):.3f}",
                      f"{middle([i['init'] - i['clock'] for i in x]):.2f}",
                      f"{middle([i['clock'] for i in x]):.2f}")
        table.print()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stage", required=True)
    p.add_argument("--copy-to", help="copy the stage here (a tmpfs) first")
    p.add_argument("--runs", type=int, default=10)
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
    bench = Bench(stage, args.runs, [(n, os.path.join(stage, p)) for n, p in skeps])
    for what in args.what:
        getattr(bench, what)()


if __name__ == "__main__":
    main()
