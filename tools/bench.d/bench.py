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
    def __init__(self, stage, runs, skeps, verbose=False):
        self.stage, self.runs, self.verbose = stage, runs, verbose
        self.dir = os.path.join(stage, "run")
        os.makedirs(self.dir, exist_ok=True)
        self.launch_path = self.file("bin/launch")
        self.cache = {name: self.file(f"cache-{name}") for name in ("warm", "cold")}
        for path in self.cache.values():
            os.makedirs(path, exist_ok=True)
        self.skeps = [monitors.Skep(path, name) for name, path in skeps]
        self.peers = [m for m in map(self.find, monitors.PEERS) if m]
        self.env = {**os.environ, "XDG_CACHE_HOME": self.cache["warm"]}

    def file(self, name):
        return os.path.join(self.stage, name)

    def find(self, kind):
        path = self.file("bin/" + kind.program)
        return kind(path) if os.path.exists(path) else None

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
                if self.verbose:
                    say(f"{turn}: {s} {sample}")
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

        # Not killed at its first KVM_RUN, so that what is kept has been kept.
        for s in self.skeps:
            self.launch("whole", argv((s, "bzImage", "warm")) + ["--timeout", "1s"])

        def measure(subject):
            env = subject[0].environment() if subject[0] != "floor" else {}
            if subject[2] == "cold":
                shutil.rmtree(self.cache["cold"] + "/skep", ignore_errors=True)
                env["XDG_CACHE_HOME"] = self.cache["cold"]
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


    # --- memory

    def hold(self, subject):
        """A guest with a disk and a console, its drivers loaded, that waits: what its monitor holds."""
        monitor, kernel = subject
        console = self.file("run/console")
        with open(console, "wb") as out:
            p = subprocess.Popen(monitor.argv(self.linux(kernel, console=console, action="hold"),
                                              self.dir),
                                 stdin=subprocess.DEVNULL,
                                 stdout=out if monitor.console_on_stdout else subprocess.DEVNULL,
                                 stderr=subprocess.STDOUT,
                                 env={**self.env, **monitor.environment()})
        try:
            for _ in range(600):
                with open(console, "rb") as f:
                    if b"bench: ready" in f.read():
                        break
                if p.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                say(f"{monitor.label}: nothing on its console")
                return None
            time.sleep(0.5)
            return smaps(p.pid, 256 * MIB) if p.poll() is None else None
        finally:
            p.kill()
            p.wait()

    def memory(self):
        subjects = [(m, k) for k in ("bzImage", "vmlinux") for m in self.everyone()
                    if k in m.kernels]
        samples = self.alternate(subjects, self.hold, runs=max(2, self.runs // 3))
        base = samples[(self.skeps[0], "bzImage")]
        table = Table("memory: beyond guest RAM, and guest RAM touched; 256 MiB guest, one disk, one "
                      "console, drivers loaded; MiB, medians",
                      "monitor", "kernel", "resident", "to skep's", "private dirty", "to skep's",
                      "guest RAM touched", "(huge pages)")

        def column(rows, key):
            return middle([r[key] / MIB for r in rows])

        for s in subjects:
            x = samples[s]
            table.add(s[0].label, s[1],
                      f"{column(x, 'rss'):.2f}", ratio(column(x, "rss"), column(base, "rss")),
                      f"{column(x, 'dirty'):.2f}", ratio(column(x, "dirty"), column(base, "dirty")),
                      f"{column(x, 'ram'):.1f}", f"{column(x, 'ram_huge'):.0f}")
        table.print(self.commands(self.linux(console=self.file("run/console"), action="hold")))


    # --- io

    def fio(self, path, op, depth, seconds, engine="io_uring", direct=False):
        """IOPS of fio itself, or None."""
        r = subprocess.run(
            ["fio", "--name=b", f"--filename={path}", f"--rw=rand{op}", "--bs=4k",
             f"--iodepth={depth}", f"--ioengine={engine}", f"--direct={int(direct)}",
             "--time_based", f"--runtime={seconds}", "--norandommap", "--randrepeat=0", "--thread",
             "--allow_file_create=0", "--invalidate=0",
             "--output-format=terse", "--terse-version=3"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False,
            cwd=self.dir)
        for line in r.stdout.splitlines():
            fields = line.split(";")
            if line.startswith("3;fio"):
                return {"iops": float(fields[7 if op == "read" else 48])}
        return None

    def payload(self, subject, op, depth):
        """IOPS that a payload guest has, with nothing of Linux in it."""
        monitor, engine, mode = subject
        if monitor == "fio":
            return self.fio(self.file("io.img"), op, depth, 1, engine)
        console = self.file("run/console")
        guest = Guest(self.file("payload"), memory=64, disks=(self.file("io.img"),),
                      console=console, engine=engine, linux=False,
                      append=f"test=bench op={op} order=random bs=4096 depth={depth} seconds=1" +
                      (" irq" if mode == "irq" else ""))
        if os.path.exists(console):
            os.unlink(console)
        end = self.launch("whole", monitor.argv(guest, self.dir), seconds=10,
                          output=console if monitor.console_on_stdout else None)
        if not end or not os.path.exists(console):
            return None
        with open(console, errors="replace", encoding="utf-8") as f:
            text = f.read()
        at = text.find("iops=")
        if at < 0:
            say(f"{monitor.label}: no figure on its console: {text[-200:]} {end}")
            return None
        return {"iops": float(text[at + 5:].split()[0])}

    TESTS = (("read", 1), ("read", 32), ("write", 1), ("write", 32))

    def io_table(self, title, subjects, samples, base):
        table = Table(title + "; median (range), ratio to skep's", "", "engine", "guest",
                      *[f"{op}, depth {depth}" for op, depth in self.TESTS])
        for s in subjects:
            cells = []
            for test in self.TESTS:
                values = [x["iops"] for x in samples[test][s]]
                first = middle([x["iops"] for x in samples[test][base]])
                cells.append(f"{middle(values):.0f} ({spread(values, '{:.0f}')}) "
                             f"{ratio(middle(values), first)}" if values else "failed")
            table.add(s[0], *s[1:], *cells)
        table.print()

    def io_payload(self):
        path = self.file("io.img")
        with open(path, "wb") as f:
            for _ in range(256):
                f.write(os.urandom(MIB))
            os.fsync(f.fileno())
        subjects = [("fio", "io_uring", ""), ("fio", "psync", "")]
        subjects += [(m, e, mode) for mode in ("irq", "polls") for e in ("uring", "sync")
                     for m in self.everyone() if m.mmio]
        samples = {t: self.alternate(subjects, lambda s, t=t: self.payload(s, *t))
                   for t in self.TESTS}
        self.io_table(f"io, payload guest on this host's KVM: random 4 KiB requests a second, "
                      f"a 256 MiB file in the page cache, {self.runs} alternating runs",
                      subjects, samples, (self.skeps[0], "uring", "irq"))
        print("\nIrq: the guest waits for interrupts; polls: it looks at the ring. Fio psync has "
              "no depth.")

    def io_linux(self):
        """fio in a Linux guest whose disk is a null_blk device: what the way there costs."""
        if subprocess.run(["modprobe", "null_blk", "nr_devices=1", "gb=4", "submit_queues=1"],
                          check=False).returncode:
            say("there is no null_blk here: left out")
            return
        runs = max(1, self.runs // 5)
        subjects = [(m, "uring", "irq") for m in self.everyone()]
        subjects.append(("fio", "io_uring", "none"))
        samples = {t: {s: [] for s in subjects} for t in self.TESTS}
        for _ in range(runs):
            for s in subjects:
                for test, iops in self.guest_fio(s):
                    samples[test][s].append({"iops": iops})
        self.io_table(f"io, fio (libaio, O_DIRECT) in a Linux guest on null_blk, {runs} alternating "
                      "runs: random 4 KiB requests a second",
                      subjects, samples, subjects[0])

    def guest_fio(self, subject):
        monitor = subject[0]
        if monitor == "fio":
            for test in self.TESTS:
                sample = self.fio("/dev/nullb0", *test, 5, direct=True)
                if sample:
                    yield test, sample["iops"]
            return
        console = self.file("run/console")
        guest = self.linux(console=console, action="run", initrd=self.file("initrd-fio"),
                           disks=("/dev/nullb0",), memory=512)
        if os.path.exists(console):
            os.unlink(console)
        self.launch("whole", monitor.argv(guest, self.dir), env=monitor.environment(),
                    output=console if monitor.console_on_stdout else None, seconds=180)
        if not os.path.exists(console):
            return
        with open(console, errors="replace", encoding="utf-8") as f:
            text = f.read()
        found = False
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["bench-fio:"] and len(words) == 4:
                found = True
                yield (words[1], int(words[2])), float(words[3])
        if not found:
            say(f"{monitor.label}: no figures on its console: {text[-300:]}")


def smaps(pid, ram):
    """Bytes resident and private dirty beyond guest RAM, and resident in guest RAM: the largest
    writable mapping, with those right beside it when it alone is less than that."""
    maps = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if not words[0].endswith(":"):
                begin, end = (int(x, 16) for x in words[0].split("-"))
                maps.append({"begin": begin, "end": end, "w": "w" in words[1]})
            elif len(words) == 3 and words[2] == "kB":
                maps[-1][words[0][:-1]] = int(words[1]) << 10

    def size(m):
        return m["end"] - m["begin"]

    guest = max(range(len(maps)), key=lambda i: size(maps[i]) if maps[i]["w"] else 0)
    first = last = guest
    total = size(maps[guest])
    while total < ram:
        before = first > 0 and maps[first - 1]["end"] == maps[first]["begin"]
        after = last + 1 < len(maps) and maps[last + 1]["begin"] == maps[last]["end"]
        if before and (not after or size(maps[first - 1]) > size(maps[last + 1])):
            first -= 1
            total += size(maps[first])
        elif after:
            last += 1
            total += size(maps[last])
        else:
            break
    if total < ram or total > ram + 4 * MIB:
        say(f"guest RAM is not {ram >> 20} MiB but {total >> 20} in {last - first + 1} mappings")
    inside, rest = maps[first:last + 1], maps[:first] + maps[last + 1:]
    return {"rss": sum(m["Rss"] for m in rest), "dirty": sum(m["Private_Dirty"] for m in rest),
            "ram": sum(m["Rss"] for m in inside),
            "ram_huge": sum(m["AnonHugePages"] + m["ShmemPmdMapped"] for m in inside)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--stage", required=True)
    p.add_argument("--copy-to", help="copy the stage here (a tmpfs) first")
    p.add_argument("--verbose", action="store_true")
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
    bench = Bench(stage, args.runs, [(n, os.path.join(stage, p)) for n, p in skeps],
                  args.verbose)
    for what in args.what:
        getattr(bench, what)()


if __name__ == "__main__":
    main()
