# SPDX-License-Identifier: BSD-2-Clause
"""Networks: connections between a Linux guest and the host, by a tap and by vsock."""
import os
import subprocess
from typing import NamedTuple

from files import read_text, refusal
from monitors import Failed
from tables import Metric, Table

TAP = "skep-bench"
PORT = 5201
STEP = 1 << 20
STUCK = 120  # seconds after which a run has hung


class Path(NamedTuple):
    monitor: object
    kind: str  # one of monitors.NETWORKS


class Test(NamedTuple):
    word: str  # the client's
    title: str
    unit: int


TESTS = (Test("out", "to the host, MiB/s", STEP), Test("in", "to the guest, MiB/s", STEP),
         Test("rr1", "round trips a second", 1), Test("rr32", "of 32 connections", 1))

KINDS = {"tap": "TCP over a tap, the monitor's own data path",
         "vhost": "TCP over a tap, the kernel's data path (vhost-net)",
         "vsock": "vsock, to a Unix socket of the host",
         "vhost-vsock": "vsock, to the host's own (vhost-vsock)"}


class Net:
    def net(self):
        for module in ("tun", "vhost_net", "vhost_vsock"):
            subprocess.run(["modprobe", "-q", module], check=False)
        make_tap()
        try:
            paths = [Path(m, k) for k in KINDS for m in self.everyone() if k in m.networks]
            words = [t.word for t in TESTS]
            samples = self.alternate("net", paths, lambda p: self.traffic(p, words),
                                     runs=max(1, self.runs // 3), warm=False)
            for kind, title in KINDS.items():
                self.rates(title, [p for p in paths if p.kind == kind], samples)
            self.net_exits(paths)
        finally:
            subprocess.run(["ip", "link", "delete", TAP], check=False)

    def rates(self, title, paths, samples):
        table = Table(f"net: {title}; a Linux guest with one vCPU", [""],
                      [Metric(t.title, "{:.0f}", "more") for t in TESTS], [self.skeps[0].label])
        for p in paths:
            table.add([p.monitor.label],
                      *[[x[t.word][0] / t.unit * 1e9 / x[t.word][1] for x in samples[p]] for t in TESTS],
                      note=self.reason(p))
        self.publish(table, [self.command(p.monitor, self.net_guest(p, [t.word for t in TESTS]))
                             for p in paths])

    def net_exits(self, paths):
        """Entries of the vCPU from userspace: those of a longer run less those of a shorter one."""
        tests = (("rr1", 1), ("out", 1 << 16))

        def measure(path):
            found = []
            for word, unit in tests:
                few, many = (self.traffic(path, [word], ms, "count") for ms in (200, 1200))
                found.append((many["runs"] - few["runs"]) * unit / (many[word][0] - few[word][0]))
            return found

        samples = self.alternate("net, exits", paths, measure, runs=1, warm=False)
        table = Table("net: exits to userspace", ["", "network"],
                      [Metric("each round trip", "{:.3f}", compare=False),
                       Metric("each 64 KiB to the host", "{:.3f}", compare=False)], [])
        for p in paths:
            table.add([p.monitor.label, p.kind], *[[x[n] for x in samples[p]] for n in range(2)],
                      note=self.reason(p))
        self.publish(table)

    def net_guest(self, path, words, ms=None):
        ms = ms or int(self.options.seconds * 1000)
        family = "vsock" if "vsock" in path.kind else "tcp"
        network = {"tap": TAP} if family == "tcp" else {"vsock": self.file("run/vsock")}
        return self.linux(console=self.file("run/console"), action="run", disks=(), memory=512,
                          initrd=self.file("initrd-devices"), vhost="vhost" in path.kind,
                          words=f"bench.net={family}:{PORT}:{ms}:{':'.join(words)}", **network)

    def traffic(self, path, words, ms=None, mode="whole"):
        """One guest: by a test's word, bytes or round trips and nanoseconds; and what launch() says."""
        guest = self.net_guest(path, words, ms)
        for old in (guest.console, guest.vsock):
            if old and os.path.exists(old):
                os.unlink(old)
        where = {"vsock": ["unix", f"{guest.vsock}_{PORT}"],
                 "vhost-vsock": ["vsock", str(PORT)]}.get(path.kind, ["tcp", str(PORT)])
        with subprocess.Popen([self.file("bin/net"), "server"] + where, stdout=subprocess.PIPE,
                              text=True) as server:
            try:
                ready = server.stdout.readline().strip()
                if ready != "ready":
                    raise Failed(ready or "no server")
                output = guest.console if path.monitor.console_on_stdout else None
                end = self.run(path.monitor, guest, mode, output, STUCK)
            finally:
                server.kill()
        return {**end, **results(guest.console, words, output or self.file("run/out"))}


def results(console, words, output):
    said = [line.split() for line in read_text(console).splitlines() if "net: " in line]
    found = {w[1]: (int(w[2]), int(w[3])) for w in said if w[0] == "bench-net:" and len(w) == 4}
    if set(words) - set(found):
        raise Failed(" ".join(said[-1]) if said else refusal(output))
    return found


def make_tap():
    for words in (["tuntap", "add", TAP, "mode", "tap"], ["addr", "add", "192.0.2.1/24", "dev", TAP],
                  ["link", "set", TAP, "up"]):
        subprocess.run(["ip"] + words, check=True)
