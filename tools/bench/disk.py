# SPDX-License-Identifier: BSD-2-Clause
"""Block requests, beside fio on the host: rates, exits, discards, latency while discards run."""
import json
import os
import subprocess
from collections import namedtuple

from files import MIB, PIECES, RANGE, fill, read_text, refusal, sparse
from monitors import Failed, Guest, Unsupported
from progress import say
from tables import Metric, Table

DISCARD_DEPTH = 32
LIMIT = 600  # seconds after which a run has hung

# What is asked of a disk. `word` is fio's for it.
Load = namedtuple("Load", "title op order size word")
LOADS = (Load("4 KiB random reads", "read", "random", 4096, "randread"),
         Load("4 KiB random writes", "write", "random", 4096, "randwrite"),
         Load("64 KiB sequential reads", "read", "sequential", 65536, "read"),
         Load("64 KiB sequential writes", "write", "sequential", 65536, "write"))
CACHES = {"page": "the host's page cache", "direct": "O_DIRECT"}

# Who asks: `mode` is how a payload guest learns of ends: irq, or polls.
Case = namedtuple("Case", "monitor engine mode direct")
HOST = "host fio"


class Disks:
    """The part of Bench (bench.py) that is about disks."""

    def disk_file(self, name):
        return os.path.join(self.options.disk_dir or self.stage, name)

    def caches(self):
        return self.options.cache.split(",")

    def depths(self):
        return [int(d) for d in self.options.depths.split(",")]

    def payload_cases(self, cache):
        direct = cache == "direct"
        modes = ("irq", "polls") if self.options.polls else ("irq",)
        return [Case(m, engine, mode, direct) for mode in modes for m in self.everyone()
                for engine in (m.engines if not m.no_payload else m.engines[:1])]

    def key(self, case):
        return [case.monitor if case.monitor == HOST else case.monitor.label, case.engine, case.mode]

    # --- one measurement

    def fio(self, path, load, depth, seconds, direct, engine="io_uring"):
        """What fio itself gets on the host: requests a second."""
        r = subprocess.run(
            ["fio", "--name=b", f"--filename={path}", f"--rw={load.word}", f"--bs={load.size}",
             f"--iodepth={depth}", f"--ioengine={engine}", f"--direct={int(direct)}",
             "--time_based", f"--runtime={int(seconds * 1000)}ms", "--norandommap",
             "--randrepeat=0", "--thread", "--allow_file_create=0", "--invalidate=0",
             "--output-format=terse", "--terse-version=3"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, cwd=self.dir)
        for line in r.stdout.splitlines():
            fields = line.split(";")
            if line.startswith("3;fio"):
                return {"iops": float(fields[7 if load.op == "read" else 48])}
        raise Failed(f"no result: {r.stdout.strip()[-80:]}")

    def payload_guest(self, case, words, disk):
        return Guest(self.file("payload"), memory=64, disks=(disk,), console=self.file("run/console"),
                     engine=case.engine, direct=case.direct, linux=False,
                     append=f"test=bench {words}" + (" irq" if case.mode == "irq" else ""))

    def payload(self, case, words, disk, mode="whole"):
        """Runs a payload guest, with nothing of Linux in it: the numbers of its line, with those of
        launch."""
        monitor = case.monitor
        if monitor.no_payload:
            raise Unsupported(monitor.no_payload)
        if case.direct and not monitor.direct:
            raise Unsupported("no O_DIRECT")
        guest = self.payload_guest(case, words, disk)
        if os.path.exists(guest.console):
            os.unlink(guest.console)
        output = guest.console if monitor.console_on_stdout else None
        end = self.run(monitor, guest, mode, output)
        for line in read_text(guest.console).splitlines():
            if line.startswith("bench unsupported="):
                raise Unsupported(f"no {line.partition('=')[2]}")
            if line.startswith("bench requests="):
                return {**end, **{k: int(v) for k, v in (w.split("=") for w in line.split()[1:])}}
        raise Failed(refusal(output or self.file("run/out"), end["status"]))

    def settle(self, path):
        """Nothing of the last writes shall be written back while the next are measured."""
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)

    # --- rates

    def io_payload(self):
        path = self.disk_file("io.img")
        fill(path, self.options.size)
        for cache in self.caches():
            for load in LOADS:
                self.io_rates(load, cache, path)
        self.exits(path)
        os.unlink(path)

    def io_rates(self, load, cache, path):
        seconds = self.options.seconds
        cases = [Case(HOST, "io_uring", "", cache == "direct")] + self.payload_cases(cache)
        subjects = [(c, depth) for depth in self.depths() for c in cases]
        least = {}

        def measure(subject):
            case, depth = subject
            if load.op == "write":
                self.settle(path)
            if case.monitor == HOST:
                return self.fio(path, load, depth, seconds, case.direct)
            sample = self.payload(case, f"op={load.op} order={load.order} bs={load.size} "
                                  f"depth={depth} ms={int(seconds * 1000)}", path)
            if sample.get("depth", depth) < depth:
                least[case.monitor.label] = sample["depth"]
            return sample

        samples = self.alternate(f"{load.title}, {cache}", subjects, measure)
        table = Table(f"io: {load.title}, {CACHES[cache]}: requests a second of a payload guest on this "
                      f"host's KVM, a file of {self.options.size >> 20} MiB",
                      ["", "engine", "guest"],
                      [Metric(f"depth {d}", "{:.0f}", "more") for d in self.depths()],
                      self.key(cases[0]), HOST)
        for c in cases:
            table.add(self.key(c), *[[x["iops"] for x in samples[c, d]] for d in self.depths()],
                      note=self.reason(*[(c, d) for d in self.depths()]))
        table.notes = [f"{name}'s queue has room for {depth} requests, and no more were in flight."
                       for name, depth in least.items()]
        words = f"op={load.op} order={load.order} bs={load.size} depth=N ms={int(seconds * 1000)}"
        # Those of the others differ in these words only.
        self.publish(table, [self.command(c.monitor, self.payload_guest(c, words, path))
                             for c in cases if c.monitor != HOST and load == LOADS[0]])

    EXIT_REQUESTS = (1000, 41000)

    def exits(self, path):
        """Entries of the vCPU from userspace for each request: those of a longer run less those of a
        shorter, so that set-up does not count. How long it takes does not matter here."""
        cases = [c for c in self.payload_cases("page") if c.mode == "irq"]
        subjects = [(c, d) for c in cases for d in self.depths()]
        few, many = self.EXIT_REQUESTS

        def measure(subject):
            case, depth = subject
            runs = []
            for n in (few, many):
                x = self.payload(case, f"op=read bs=4096 depth={depth} requests={n}", path, "count")
                runs.append(x["runs"])
            return {"exits": (runs[1] - runs[0]) / (many - few)}

        samples = self.alternate("exits", subjects, measure, runs=1, warm=False)
        table = Table("io: exits to userspace for each 4 KiB random read, payload guest with interrupts",
                      ["", "engine"], [Metric(f"depth {d}", "{:.4f}", compare=False)
                                       for d in self.depths()], [])
        for c in cases:
            table.add(self.key(c)[:2], *[[x["exits"] for x in samples[c, d]] for d in self.depths()],
                      note=self.reason(*[(c, d) for d in self.depths()]))
        table.notes = [f"Counted are calls of KVM_RUN: those of {many} requests less those of {few}."]
        self.publish(table)

    # --- discards

    def discard(self):
        size, path = self.options.discard_size, self.disk_file("discard.img")
        cases = [Case(HOST, "falloc", "", False)] + self.payload_cases("page")
        trim = Load("discards", "discard", "sequential", RANGE, "trim")

        def measure(case):
            before = sparse(path, size)
            if case.monitor == HOST:
                x = self.fio_discard(path, trim, size)
            else:
                x = self.payload(case, f"op=discard order=sequential bs={RANGE} "
                                 f"ms={LIMIT}000 depth={DISCARD_DEPTH}", path)
            x["back"] = (before - os.stat(path).st_blocks * 512) / MIB
            if x["requests"] != size // RANGE:
                raise Failed(f"{x['requests']} of {size // RANGE} discards were done")
            return x

        samples = self.alternate("discard", cases, measure)
        os.unlink(path)
        table = Table(f"discard: {show_size(size)} of a sparse file in ranges of 1 MiB, depth "
                      f"{DISCARD_DEPTH}, payload guest on this host's KVM", ["", "engine", "guest"],
                      [Metric("discards a second", "{:.0f}", "more"),
                       Metric("seconds for all", "{:.2f}", compare=False),
                       Metric("given back, MiB", "{:.0f}", "more", compare=False)],
                      self.key(cases[0]), HOST)
        for c in cases:
            x = samples[c]
            table.add(self.key(c), [i["requests"] * 1e9 / i["ns"] for i in x],
                      [i["ns"] / 1e9 for i in x], [i["back"] for i in x],
                      note=self.reason(c))
        table.notes = [f"{min(PIECES, size // RANGE)} pieces of 1 MiB of the file are allocated before.",
                       "Host fio punches one hole after the other (ioengine=falloc)."]
        self.publish(table)

    def fio_discard(self, path, load, size):
        r = subprocess.run(
            ["fio", "--name=b", f"--filename={path}", f"--rw={load.word}", f"--bs={RANGE}",
             f"--size={size}", "--ioengine=falloc", "--thread", "--allow_file_create=0",
             "--output-format=json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, cwd=self.dir)
        try:
            trim = fio_json(r.stdout)["jobs"][0]["trim"]
            return {"requests": trim["total_ios"], "ns": trim["total_ios"] * 1e9 / trim["iops"]}
        except (ValueError, KeyError, ZeroDivisionError):
            raise Failed(f"no result: {r.stdout.strip()[-80:]}") from None

    def storm(self):
        path, span = self.disk_file("storm.img"), self.options.size
        free = os.statvfs(os.path.dirname(path))
        size = min(self.options.storm_size, free.f_bavail * free.f_frsize // 2 // MIB * MIB)
        if size < self.options.storm_size:
            say(f"there is room for a storm of {size >> 20} MiB only")
        fill(path, span)
        for cache in self.caches():
            self.storm_table(path, span, size, cache)
        os.unlink(path)

    def storm_table(self, path, span, size, cache):
        cases = self.payload_cases(cache)
        words = f"op=read order=random bs=4096 depth=1 span={span}"
        quiet_ms = int(self.options.seconds * 1000)

        def measure(case):
            with open(path, "r+b") as f:
                os.posix_fallocate(f.fileno(), span, size)
                os.fsync(f.fileno())
            quiet = self.payload(case, f"{words} ms={quiet_ms}", path)
            storm = self.payload(case, f"{words} ms=60000 storm={RANGE} "
                                 f"storm_depth={DISCARD_DEPTH}", path)
            return {"quiet": quiet["p99"] / 1e3, "storm": storm["p99"] / 1e3,
                    "ratio": storm["p99"] / quiet["p99"], "reads": storm["requests"],
                    "rate": storm["storm"] * 1e9 / storm["ns"]}

        samples = self.alternate(f"storm, {cache}", cases, measure)
        table = Table(f"storm: latency of 4 KiB random reads, depth 1, {CACHES[cache]}, while "
                      f"{show_size(size)} are discarded in ranges of 1 MiB, depth {DISCARD_DEPTH}",
                      ["", "engine", "guest"],
                      [Metric("p99 quiet, us", "{:.0f}", compare=False),
                       Metric("p99 in the storm, us", "{:.0f}", compare=False),
                       Metric("storm to quiet", compare=False),
                       Metric("discards a second", "{:.0f}", "more", compare=False),
                       Metric("reads in the storm", "{:.0f}", "more", compare=False)], [])
        for c in cases:
            table.add(self.key(c), *[[x[k] for x in samples[c]]
                                     for k in ("quiet", "storm", "ratio", "rate", "reads")],
                      note=self.reason(c))
        table.notes = ["All of what is discarded was allocated. It ends with the last discard: a p99 "
                       "of few reads says little."]
        self.publish(table)

    # --- Linux guests

    def io_linux(self):
        """fio in a Linux guest whose disk is a null_blk device: what the way there costs."""
        if subprocess.run(["modprobe", "null_blk", "nr_devices=1", "gb=4", "submit_queues=1"],
                          check=False).returncode:
            say("there is no null_blk here: left out")
            return
        tests = [(load, depth) for load in LOADS for depth in self.depths()]
        for cache in self.caches():
            cases = [Case(m, engine, "", cache == "direct") for m in self.everyone()
                     for engine in m.engines]
            cases.append(Case(HOST, "io_uring", "", True))
            samples = self.alternate(f"io in Linux, {cache}", cases,
                                     lambda c: self.guest_fio(c, tests), warm=False,
                                     runs=max(1, self.runs // 5))
            for load in LOADS:
                table = Table(f"io: {load.title} a second, fio (libaio, O_DIRECT) in a Linux guest on "
                              f"null_blk, {CACHES[cache]}", ["", "engine"],
                              [Metric(f"depth {d}", "{:.0f}", "more") for d in self.depths()],
                              [self.skeps[0].label, self.skeps[0].engines[0]])
                for c in cases:
                    table.add(self.key(c)[:2], *[[x[load.word, d] for x in samples[c]
                                                  if (load.word, d) in x] for d in self.depths()],
                              note=self.reason(c))
                self.publish(table)

    def guest_fio(self, case, tests):
        """Requests a second of each test, by (load, depth): one VM for all."""
        seconds = max(1, int(self.options.seconds))
        if case.monitor == HOST:
            return {(load.word, depth): self.fio("/dev/nullb0", load, depth, seconds, True)["iops"]
                    for load, depth in tests}
        if case.direct and not case.monitor.direct:
            raise Unsupported("no O_DIRECT")
        console = self.file("run/console")
        words = ",".join(f"{load.word}:{load.size}:{depth}" for load, depth in tests)
        guest = self.linux(console=console, action="run", initrd=self.file("initrd-fio"),
                           disks=("/dev/nullb0",), memory=512, direct=case.direct,
                           engine=case.engine, words=f"bench.seconds={seconds} bench.tests={words}")
        if os.path.exists(console):
            os.unlink(console)
        output = console if case.monitor.console_on_stdout else None
        self.run(case.monitor, guest, output=output, seconds=LIMIT + len(tests) * (seconds + 20))
        found = {}
        for line in read_text(console).splitlines():
            words = line.split()
            if words[:1] == ["bench-fio:"] and len(words) == 3:
                word, _, depth = words[1].split(":")
                found[word, int(depth)] = float(words[2])
        if not found:
            raise Failed(refusal(output or self.file("run/out")))
        return found


def fio_json(text):
    """Fio may say something before its JSON."""
    return json.loads(text[text.index("{"):])


def show_size(size):
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 1 << shift:
            break
    return f"{size / (1 << shift):g} {unit}"
