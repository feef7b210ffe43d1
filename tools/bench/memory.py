# SPDX-License-Identifier: BSD-2-Clause
"""Memory: what a monitor holds, and what it gives back."""
import contextlib
import os
import subprocess
import time

from files import await_free, read_text, refusal
from monitors import Failed, Unsupported
from progress import say
from tables import Metric, Table

MIB = 1 << 20
RECLAIM_RAM = 1024  # MiB of the guest whose memory comes back
RECLAIM = 512  # that it uses and frees
RECLAIM_WAIT = 60  # seconds until what has not come back does not count


class Memory:
    @contextlib.contextmanager
    def held(self, monitor, guest):
        """A guest that waits, its drivers loaded: its monitor's process."""
        output = guest.console if monitor.console_on_stdout else self.file("run/out")
        for disk in guest.disks:
            await_free(disk)
        with open(guest.console, "wb"), open(output, "wb") as out:
            p = subprocess.Popen(monitor.argv(guest, self.dir), stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT,
                                 env={**self.env, **monitor.environment()})
        try:
            await_word(p, guest.console, "bench: ready", output)
            yield p
        finally:
            p.kill()
            p.wait()

    def hold(self, subject):
        """A guest with a disk and a console: what its monitor holds."""
        monitor, kernel = subject
        monitor.check(kernel)
        guest = self.linux(kernel, console=self.file("run/console"), action="hold")
        with self.held(monitor, guest) as p:
            time.sleep(0.5)
            return smaps(p.pid, 256 * MIB)

    def memory(self):
        subjects = self.both_kernels()
        samples = self.alternate("memory", subjects, self.hold, runs=max(2, self.runs // 3))
        table = Table("memory: beyond guest RAM, and guest RAM touched; 256 MiB guest, one disk, one "
                      "console, drivers loaded; MiB, medians", ["monitor", "kernel"],
                      [Metric("resident"), Metric("private dirty"),
                       Metric("guest RAM touched", "{:.1f}", compare=False),
                       Metric("of it huge pages", "{:.0f}", "more", compare=False)],
                      [self.skeps[0].label, "bzImage"])
        for s in subjects:
            table.add([s[0].label, s[1]], *[[r[k] / MIB for r in samples[s]]
                                            for k in ("rss", "dirty", "ram", "ram_huge")],
                      note=self.reason(s))
        self.publish(table, self.commands(self.linux(console=self.file("run/console"),
                                                     action="hold")))

    # --- memory that comes back

    def reclaim_guest(self):
        return self.linux(console=self.file("run/console"), action="free", disks=(),
                          memory=RECLAIM_RAM, initrd=self.file("initrd-devices"), reports_free=True,
                          words=f"bench.mib={RECLAIM}")

    def reclaim_one(self, monitor):
        """The monitor's resident memory from when the guest has freed what it used."""
        if not monitor.reports_free:
            raise Unsupported("no free page reporting")
        guest = self.reclaim_guest()
        with self.held(monitor, guest) as p:
            await_word(p, guest.console, "bench: used", self.file("run/out"))
            top = resident(p.pid)
            await_word(p, guest.console, "bench: freed", self.file("run/out"))
            freed = time.monotonic()
            seen = [(0, resident(p.pid))]
            while seen[-1][0] < RECLAIM_WAIT and seen[-1][1] > top - RECLAIM * MIB * 0.95:
                time.sleep(0.01)
                seen.append((time.monotonic() - freed, resident(p.pid)))
        back = [(at, top - rss) for at, rss in seen]
        begin = next((at for at, b in back if b >= RECLAIM * MIB * 0.05), None)
        end = next((at for at, b in back if b >= RECLAIM * MIB * 0.90), None)
        if end is None:
            raise Failed(f"{max(b for _, b in back) // MIB} MiB back in {RECLAIM_WAIT} s")
        return {"end": end, "rate": RECLAIM * 0.85 / 1024 / max(end - begin, 0.01),
                "back": max(b for _, b in back) / MIB}

    def reclaim(self):
        samples = self.alternate("reclaim", self.everyone(), self.reclaim_one,
                                 runs=max(1, self.runs // 3), warm=False)
        table = Table(f"reclaim: a guest of {RECLAIM_RAM} MiB uses {RECLAIM} MiB and frees them; free "
                      "page reporting", ["monitor"],
                      [Metric("seconds until the host has 90 %", "{:.2f}"),
                       Metric("GiB a second meanwhile", "{:.2f}", "more"),
                       Metric("MiB given back", "{:.0f}", "more", compare=False)],
                      [self.skeps[0].label])
        for m in self.everyone():
            table.add([m.label], *[[x[k] for x in samples[m]] for k in ("end", "rate", "back")],
                      note=self.reason(m))
        table.notes = ["Linux waits two seconds before it reports what is free."]
        self.publish(table, self.commands(self.reclaim_guest()))


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="utf-8") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def await_word(process, console, word, output, seconds=120):
    end = time.monotonic() + seconds
    while word not in read_text(console):
        if process.poll() is not None:
            raise Failed(refusal(output, process.returncode))
        if time.monotonic() > end:
            raise Failed(f"not '{word}' on its console in {seconds} s")
        time.sleep(0.01)


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
