// SPDX-License-Identifier: BSD-2-Clause
/* The tables of include/config/settings.h. Order is that of the help text. */
#include "config/settings.h"

#define FIELD(type, member) .offset = offsetof(struct type, member)

static const char *const engine_choices[] = {
	[ENGINE_AUTO] = "auto",
	[ENGINE_URING] = "uring",
	[ENGINE_SYNC] = "sync",
	NULL,
};

static const char *const block_size_choices[] = {
	[BLOCK_SIZE_AUTO] = "auto",
	[BLOCK_SIZE_512] = "512",
	[BLOCK_SIZE_4096] = "4096",
	NULL,
};

static const char *const discard_choices[] = {
	[DISCARD_UNMAP] = "unmap",
	[DISCARD_IGNORE] = "ignore",
	NULL,
};

static const char *const detect_zeroes_choices[] = {
	[DETECT_ZEROES_OFF] = "off",
	[DETECT_ZEROES_UNMAP] = "unmap",
	NULL,
};

static const char *const werror_choices[] = {
	[WERROR_REPORT] = "report",
	[WERROR_ENOSPC_PAUSE] = "enospc-pause",
	NULL,
};

static const char *const cache_choices[] = {
	[CACHE_WRITEBACK] = "writeback",
	[CACHE_WRITETHROUGH] = "writethrough",
	[CACHE_NONE] = "none",
	[CACHE_UNSAFE] = "unsafe",
	NULL,
};

#define GUEST	"Guest"
#define DEVICES "Devices"
#define ENDS	"How it ends"
#define SKEP	"skep itself"
#define DEBUG	"Debugging"

const struct setting vm_settings[] = {
	{"kernel", 'k', .arg = "FILE", .group = GUEST, .type = SETTING_STRING,
	 FIELD(vm_config, kernel),
	 .help = "kernel to boot: a bzImage, or an ELF vmlinux or PVH image (default: the default "
		 "guest's)"},
	{"initrd", 'i', .arg = "FILE", .group = GUEST, .type = SETTING_LIST,
	 FIELD(vm_config, initrds),
	 .help = "initial RAM disk (repeatable: the kernel gets them one after the other)"},
	{"append", 'a', .arg = "TEXT", .group = GUEST, .type = SETTING_APPEND,
	 FIELD(vm_config, append), .help = "add to the kernel's command line (repeatable)"},
	{"cpus", 'c', .arg = "N", .group = GUEST, .type = SETTING_COUNT, FIELD(vm_config, cpus),
	 .min = 1, .max = CONFIG_MAX_CPUS, .help = "virtual CPUs, 1 to 64 (default: 1)"},
	{"memory", 'm', .arg = "SIZE", .group = GUEST, .type = SETTING_SIZE,
	 FIELD(vm_config, memory),
	 .help = "guest RAM, like 512M or 4G; a bare number is MiB (default: 256M)"},
	{"kaslr", .inverted = true, .group = GUEST, .type = SETTING_BOOL, FIELD(vm_config, kaslr),
	 .help = "do not load the kernel at a random address"},
	{"mmio-cmdline", .group = GUEST, .type = SETTING_BOOL, FIELD(vm_config, mmio_cmdline),
	 .help = "announce devices on the kernel's command line (virtio_mmio.device=) too, for "
		 "kernels that do not read ACPI"},

	{"disk", 'd', .arg = "PATH[,OPTION...]", .group = DEVICES, .type = SETTING_DISK,
	 .help = "add a disk, a raw image or a block device (repeatable); see below"},
	{"console", .arg = "stdio|file=PATH|fresh-file=PATH|off", .group = DEVICES,
	 .type = SETTING_CONSOLE,
	 .help = "where the guest's console is: file= adds to a file, fresh-file= empties it first "
		 "(default: stdio; on a terminal Ctrl-A x ends the VM)"},

	{"timeout", .arg = "TIME", .group = ENDS, .type = SETTING_DURATION,
	 FIELD(vm_config, timeout_ns),
	 .help = "end the VM after this time, like 90s or 5m; a bare number is seconds, 0 is never "
		 "(default: 0)"},
	{"stop-timeout", .arg = "TIME", .group = ENDS, .type = SETTING_DURATION,
	 FIELD(vm_config, stop_timeout_ns),
	 .help = "after SIGTERM or SIGINT pressed the power button, end the VM by force when it is "
		 "not off after this time (default: 30s)"},
	{"result", .arg = "FILE", .group = ENDS, .type = SETTING_STRING,
	 FIELD(vm_config, result_path), .help = "write how the VM ended, and counters, as JSON"},

	{"control", .arg = "PATH", .group = SKEP, .type = SETTING_STRING,
	 FIELD(vm_config, control_path),
	 .help = "make a socket here, over which 'skep control' asks the VM while it runs"},
	{"config", .arg = "FILE", .group = SKEP, .type = SETTING_CONFIG,
	 .help = "read a JSON configuration here; options after it override or add to it; - is "
		 "standard input"},
	{"dry-run", .group = SKEP, .type = SETTING_DRY_RUN,
	 .help = "print the JSON configuration and exit"},
	{"cache", .inverted = true, .group = SKEP, .type = SETTING_BOOL, FIELD(vm_config, cache),
	 .help = "do not keep the decompressed kernel for later starts"},
	{"sandbox", .arg = "on|off", .group = SKEP, .type = SETTING_BOOL, FIELD(vm_config, sandbox),
	 .help = "confine skep once everything is open (default: on)"},
	{"verbose", 'v', .group = SKEP, .type = SETTING_BOOL, FIELD(vm_config, verbose),
	 .help = "log what is done"},
	{"quiet", 'q', .group = SKEP, .type = SETTING_BOOL, FIELD(vm_config, quiet),
	 .help = "log errors only"},
	{"help", 'h', .group = SKEP, .type = SETTING_HELP, .help = "show this text"},

	{"trap-registers", .group = DEBUG, .type = SETTING_BOOL, FIELD(vm_config, trap_registers),
	 .help = "let each read of a device register exit to skep"},
	{.name = NULL},
};

const struct setting disk_settings[] = {
	{"path", .arg = "PATH", .type = SETTING_STRING, FIELD(disk_config, path)},
	{"readonly", .type = SETTING_BOOL, FIELD(disk_config, readonly),
	 .help = "the guest cannot write"},
	{"ephemeral", .type = SETTING_BOOL, FIELD(disk_config, ephemeral),
	 .help = "what the guest writes is thrown away; many VMs can share the image"},
	{"serial", .arg = "S", .type = SETTING_SERIAL, FIELD(disk_config, serial),
	 .help = "serial number, at most 20 characters (default: made from the disk's position)"},
	{"block-size", .arg = "auto|512|4096", .type = SETTING_CHOICE,
	 FIELD(disk_config, block_size), .choices = block_size_choices,
	 .help = "bytes in a logical block that the guest sees (default: auto, which is 512 for a "
		 "file, and what a block device says)"},
	{"discard", .arg = "unmap|ignore", .type = SETTING_CHOICE, FIELD(disk_config, discard),
	 .choices = discard_choices,
	 .help = "whether discards punch holes in the image (default: unmap)"},
	{"detect-zeroes", .arg = "off|unmap", .type = SETTING_CHOICE,
	 FIELD(disk_config, detect_zeroes), .choices = detect_zeroes_choices,
	 .help = "whether a write of nothing but zeros punches a hole (default: off)"},
	{"werror", .arg = "report|enospc-pause", .type = SETTING_CHOICE, FIELD(disk_config, werror),
	 .choices = werror_choices,
	 .help = "whether a write that finds the host's disk full is an error or waits for space "
		 "(default: report)"},
	{"cache", .arg = "writeback|writethrough|none|unsafe", .type = SETTING_CHOICE,
	 FIELD(disk_config, cache), .choices = cache_choices,
	 .help = "when writes reach stable storage: as the guest flushes; at once; as the guest "
		 "flushes, and past the host's page cache; never (default: writeback)"},
	{"engine", .arg = "auto|uring|sync", .type = SETTING_CHOICE, FIELD(disk_config, engine),
	 .choices = engine_choices,
	 .help = "how the host does I/O (default: auto, which is io_uring where the host has it)"},
	{"pin", .type = SETTING_BOOL, FIELD(disk_config, pin),
	 .help = "allocate all of the guest's RAM at the start and lock it there, for faster I/O "
		 "by "
		 "io_uring"},
	{"poll", .arg = "TIME", .type = SETTING_DURATION, FIELD(disk_config, poll_ns),
	 .help = "how long to look for the next request before sleeping, at most: like 50us, up to "
		 "10ms (default: 0, not at all)"},
	{"queues", .arg = "N", .type = SETTING_COUNT, FIELD(disk_config, queues), .min = 1,
	 .max = CONFIG_MAX_QUEUES,
	 .help = "request queues, each with a thread, 1 to 16 (default: 1)"},
	{"bps", .arg = "SIZE", .type = SETTING_BYTES, FIELD(disk_config, bps),
	 .help = "bytes a second, like 100M, that the guest may read and write (default: 0, no "
		 "limit)"},
	{"iops", .arg = "N", .type = SETTING_COUNT, FIELD(disk_config, iops), .max = 1000000000,
	 .help = "requests a second (default: 0, no limit)"},
	{"burst", .arg = "TIME", .type = SETTING_DURATION, FIELD(disk_config, burst_ns),
	 .help = "how long what bps and iops allow may be saved up (default: 100ms)"},
	{.name = NULL},
};
