# SPDX-License-Identifier: BSD-2-Clause
"""How each monitor is told to run the same guest.

Each is given what makes it fast where that costs the guest nothing: its recommended kernel
parameters, no serial port unless it is the console, the fastest engine for disks that it has. The
parameters that skep gives by default are given to all, as far as they fit their machines.
"""
import json
import os
import subprocess

COMMON = "quiet panic=-1 tsc=reliable no_timer_check cryptomgr.notests"


class Failed(Exception):
    """There is no figure. What it says goes into the table."""


class Unsupported(Failed):
    """And there would be none the next time."""


class Guest:
    """What is to be run. `console` is a file, or None for no console at all; `tap` a tap's name, for
    the kernel to serve with `vhost`; `vsock` the path of a Unix socket, or with `vhost` anything."""

    def __init__(self, kernel, initrd=None, append="", memory=256, disks=(), console=None,
                 engine="io_uring", direct=False, linux=True, tap=None, vsock=None, vhost=False,
                 reports_free=False):
        self.kernel, self.initrd, self.append, self.memory = kernel, initrd, append, memory
        self.disks, self.console, self.engine, self.linux = disks, console, engine, linux
        self.direct = direct  # past the host's page cache
        self.tap, self.vsock, self.vhost = tap, vsock, vhost
        self.reports_free = reports_free  # of pages, to a balloon


def first_line(argv):
    try:
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return (out.strip().splitlines() or ["?"])[0]


class Monitor:
    name = ""
    program = ""
    end = "off"  # what it takes as an end: off or reboot
    tty = "hvc0"
    no_payload = ""  # why it does not run the payload guest, an ELF that looks for virtio-mmio
    engines = ("io_uring",)  # of its disks
    direct = True  # its disks can pass by the host's page cache
    networks = ("tap", "vsock")
    reports_free = True
    kernels = ("bzImage", "vmlinux")
    params = ""

    def __init__(self, path, label=None):
        self.path = path
        self.label = label or self.name

    def __repr__(self):
        return self.label

    def version(self):
        return first_line([self.path, "--version"])

    def check(self, kernel):
        if kernel not in self.kernels:
            raise Unsupported(f"boots no {kernel}")

    def cmdline(self, guest):
        if not guest.linux:
            return guest.append
        console = f"bench.tty={self.tty}" if guest.console else ""
        serial = "" if guest.console and self.tty == "ttyS0" else "8250.nr_uarts=0"
        return " ".join(f"{COMMON} {serial} {self.params} bench.end={self.end} {console} "
                        f"{guest.append}".split())

    def environment(self):
        return {}

    def argv(self, guest, directory):
        """The command. `directory` is for files of its own; output that the console needs comes on
        standard output where console_on_stdout."""
        raise NotImplementedError

    console_on_stdout = False


class Skep(Monitor):
    name = program = "skep"

    def argv(self, guest, directory):
        a = [self.path, "run", "-k", guest.kernel, "-m", f"{guest.memory}M"]
        if guest.initrd:
            a += ["-i", guest.initrd]
        for disk in guest.disks:
            engine = "sync" if guest.engine == "sync" else "auto"
            a += ["-d", f"{disk},engine={engine}" + (",cache=none" if guest.direct else "")]
        if guest.tap:
            a += ["--net", f"tap={guest.tap}" + (",vhost" if guest.vhost else "")]
        if guest.vsock:
            a += ["--vsock", f"cid=3,uds={guest.vsock}"]
        a += ["--console", f"file={guest.console}" if guest.console else "off"]
        return a + ["-a", self.cmdline(guest)]

    engines = ("io_uring", "sync")
    networks = ("tap", "vhost", "vsock")


class Firecracker(Monitor):
    name = program = "firecracker"
    end = "reboot"
    tty = "ttyS0"
    console_on_stdout = True
    engines = ("io_uring", "sync")
    direct = False

    # Its own defaults, but for "nomodule".
    params = "reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"

    def argv(self, guest, directory):
        boot = {"kernel_image_path": guest.kernel, "boot_args": self.cmdline(guest)}
        if guest.initrd:
            boot["initrd_path"] = guest.initrd
        drives = [{"drive_id": f"d{i}", "is_root_device": False, "cache_type": "Unsafe",
                   "is_read_only": False, "path_on_host": disk,
                   "io_engine": "Sync" if guest.engine == "sync" else "Async"}
                  for i, disk in enumerate(guest.disks)]
        config = {"boot-source": boot, "drives": drives,
                  "machine-config": {"vcpu_count": 1, "mem_size_mib": guest.memory}}
        if guest.tap:
            config["network-interfaces"] = [{"iface_id": "n0", "host_dev_name": guest.tap}]
        if guest.reports_free:
            config["balloon"] = {"amount_mib": 0, "deflate_on_oom": True,
                                 "free_page_reporting": True}
        if guest.vsock:
            config["vsock"] = {"guest_cid": 3, "uds_path": guest.vsock}
        path = os.path.join(directory, "firecracker.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        return [self.path, "--no-api", "--level", "Error", "--config-file", path]


class CloudHypervisor(Monitor):
    name = program = "cloud-hypervisor"
    no_payload = "its disks are on PCI"

    def argv(self, guest, directory):
        a = [self.path, "--kernel", guest.kernel, "--cpus", "boot=1",
             "--memory", f"size={guest.memory}M", "--serial", "off",
             "--console", f"file={guest.console}" if guest.console else "off",
             "--cmdline", self.cmdline(guest)]
        if guest.initrd:
            a += ["--initramfs", guest.initrd]
        if guest.disks:
            direct = ",direct=on" if guest.direct else ""
            a += ["--disk"] + [f"path={disk},image_type=raw{direct}" for disk in guest.disks]
        if guest.tap:
            a += ["--net", f"tap={guest.tap}"]
        if guest.vsock:
            a += ["--vsock", f"cid=3,socket={guest.vsock}"]
        if guest.reports_free:
            a += ["--balloon", "size=0,free_page_reporting=on"]
        return a


class Qemu(Monitor):
    name = "qemu microvm"
    program = "qemu-system-x86_64"
    params = "reboot=t pci=off"
    # Not the MSR that software KVMs have no idea of.
    cpu = "host,-arch-capabilities"
    engines = ("io_uring", "io_uring, iothread")
    networks = ("tap", "vhost", "vhost-vsock")

    def argv(self, guest, directory):
        a = [self.path, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-M", "microvm,accel=kvm,pit=off,pic=off,rtc=off,isa-serial=off,ioapic2=off",
             "-global", "virtio-mmio.force-legacy=false", "-cpu", self.cpu, "-m", f"{guest.memory}M",
             "-kernel", guest.kernel, "-append", self.cmdline(guest)]
        if os.path.exists("/usr/share/qemu/qboot.rom"):
            a += ["-bios", "qboot.rom"]
        if guest.initrd:
            a += ["-initrd", guest.initrd]
        for i, disk in enumerate(guest.disks):
            direct = "on" if guest.direct else "off"
            device = f"virtio-blk-device,drive=d{i}"
            if guest.engine.endswith("iothread"):
                a += ["-object", f"iothread,id=t{i}"]
                device += f",iothread=t{i}"
            a += ["-drive", f"id=d{i},file={disk},format=raw,if=none,aio=io_uring,"
                  f"cache.direct={direct},discard=unmap", "-device", device]
        if guest.tap:
            vhost = "on" if guest.vhost else "off"
            a += ["-netdev", f"tap,id=n,ifname={guest.tap},script=no,downscript=no,vhost={vhost}",
                  "-device", "virtio-net-device,netdev=n"]
        if guest.vsock:
            a += ["-device", "vhost-vsock-device,guest-cid=3"]
        if guest.reports_free:
            a += ["-device", "virtio-balloon-device,free-page-reporting=on"]
        if guest.console:
            a += ["-device", "virtio-serial-device", "-chardev", f"file,id=c,path={guest.console}",
                  "-device", "virtconsole,chardev=c"]
        return a


class Kvmtool(Monitor):
    name = program = "lkvm"
    end = "reboot"
    tty = "ttyS0"
    console_on_stdout = True
    no_payload = "boots no ELF"
    kernels = ("bzImage",)
    engines = ("threads",)
    networks = ("tap",)
    reports_free = False

    def version(self):
        return first_line([self.path, "version"])

    def environment(self):
        return {"HOME": "/tmp"}

    def argv(self, guest, directory):
        a = [self.path, "run", "-k", guest.kernel, "-c", "1", "-m", f"{guest.memory}M",
             "-n", f"mode=tap,tapif={guest.tap}" if guest.tap else "mode=none", "--name", f"bench{os.getpid()}", "-p", self.cmdline(guest)]
        if guest.initrd:
            a += ["-i", guest.initrd]
        for disk in guest.disks:
            a += ["-d", disk + (",direct" if guest.direct else "")]
        return a


PEERS = (Qemu, Firecracker, CloudHypervisor, Kvmtool)
