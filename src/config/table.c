// SPDX-License-Identifier: BSD-2-Clause
/* The settings of a VM, in the order of the help text. The options of devices come after GUEST. */
#include <assert.h>

#include "config/config.h"

/* What the texts say. */
static_assert(CONFIG_MAX_CPUS == 64, "1 to 64");

#define GUEST	"Guest"
#define COMMAND "A command (after --)"
#define ENDS	"How it ends"
#define SKEP	"skep itself"
#define DEBUG	"Debugging"

const struct setting vm_settings[] = {
	{"kernel", 'k', .arg = "FILE", .group = GUEST, STRING_FIELD(vm_config, kernel),
	 .help = "kernel to boot: a bzImage, an ELF vmlinux or a PVH image (default: that of the "
		 "default guest)"},
	{"guest", .group = GUEST, BOOL_FIELD(vm_config, guest),
	 .help = "without --kernel: stay in the default guest, instead of going on with what the "
		 "boot loader of a disk would start"},
	{"initrd", 'i', .arg = "FILE", .group = GUEST, LIST_FIELD(vm_config, initrds),
	 .max = CONFIG_MAX_INITRDS,
	 .help = "initial RAM disk (repeatable; the kernel gets them one after another)"},
	{"append", 'a', .arg = "TEXT", .group = GUEST, APPEND_FIELD(vm_config, append),
	 .help = "add to the kernel's command line (repeatable)"},
	{"cloud-init", .arg = "DIR", .group = GUEST, STRING_FIELD(vm_config, cloud_init),
	 .help = "hand user-data, meta-data and, where they are, network-config and vendor-data of "
		 "DIR to cloud-init in the guest"},
	{"cpus", 'c', .arg = "N", .group = GUEST, COUNT_FIELD(vm_config, cpus), .min = 1,
	 .max = CONFIG_MAX_CPUS,
	 .help = "virtual CPUs, 1 to 64 (default: 1; for a "
		 "command as many as the host has, but 8 at most)"},
	{"memory", 'm', .arg = "SIZE", .group = GUEST, MEMORY_FIELD(vm_config, memory),
	 .help = "guest RAM, like 512M or 4G; a bare number is MiB (default: 256M; for a "
		 "command half of the host's, but 4G at most); with "
		 "start=SIZE,max=SIZE 'skep control PATH memory' changes it while the guest runs"},
	{"kaslr", .inverted = true, .group = GUEST, BOOL_FIELD(vm_config, kaslr),
	 .help = "do not load the kernel at a random address"},
	{"mmio-cmdline", .group = GUEST, BOOL_FIELD(vm_config, mmio_cmdline),
	 .help = "also announce devices on the kernel's command line (virtio_mmio.device=), for "
		 "kernels that do not read ACPI"},

	{"command", .group = COMMAND, LIST_FIELD(vm_config, command)},
	{"env", 'e', .arg = "NAME[=VALUE]", .group = COMMAND, LIST_FIELD(vm_config, env),
	 .max = CONFIG_MAX_ENV,
	 .help = "a variable of the command's environment; without a value, as it is outside "
		 "(repeatable; PATH, HOME, LANG, TERM and the like are there anyway)"},
	{"env-file", .arg = "FILE", .group = COMMAND, LIST_FIELD(vm_config, env_files),
	 .max = CONFIG_MAX_ENV, .help = "the same, one on each line of FILE (repeatable)"},
	{"user", .arg = "USER", .group = COMMAND, STRING_FIELD(vm_config, user),
	 .help = "who it runs as: a name or number that the guest knows, or UID:GID (default: who "
		 "runs skep)"},
	{"terminal", 't', .group = COMMAND, BOOL_FIELD(vm_config, terminal),
	 .help = "give it a terminal, even if standard input or output is none"},
	{"no-terminal", 'T', .group = COMMAND, BOOL_FIELD(vm_config, no_terminal),
	 .help = "give it none, even if both are"},
	{"root", .arg = "PATH", .group = COMMAND, STRING_FIELD(vm_config, root),
	 .help = "its root file system, a directory or an image; what it writes there is thrown "
		 "away "
		 "(default: the host's, without what is secret; with --guest the default guest's)"},
	{"cwd", .group = COMMAND, CHOICE_FIELD(vm_config, cwd, CWDS),
	 .help = "the working directory: shared, for it to read and write; to read; with what it "
		 "writes thrown away; not shared (default: rw)"},
	{"expose", .arg = "PATH", .group = COMMAND, LIST_FIELD(vm_config, expose),
	 .max = CONFIG_MAX_ENV,
	 .help = "do not hide this secret of the host from it, like ~/.ssh (repeatable)"},
	{"disk-limit", .arg = "SIZE", .group = COMMAND, BYTES_FIELD(vm_config, overlay_limit),
	 .help = "what it may write to a directory that is thrown away, the root for one, in "
		 "memory "
		 "(default: half of the guest's memory)"},
	{"cache", .arg = "NAME:PATH", .group = COMMAND, LIST_FIELD(vm_config, caches),
	 .key = "caches", .max = CONFIG_MAX_CACHES,
	 .help = "mount a directory there that skep keeps for later commands; no other VM has the "
		 "same one at the same time (repeatable)"},
	{"artifact", .arg = "GUEST:HOST", .group = COMMAND, LIST_FIELD(vm_config, artifacts),
	 .key = "artifacts", .max = CONFIG_MAX_ENV,
	 .help = "when it has ended, in whatever way, copy this file or directory of the guest to "
		 "HOST (repeatable)"},

	{"timeout", .arg = "TIME", .group = ENDS, DURATION_FIELD(vm_config, timeout_ns),
	 .help = "end the VM after this time, like 90s or 5m; a bare number is seconds, 0 means "
		 "never (default: 0)"},
	{"stop-timeout", .arg = "TIME", .group = ENDS, DURATION_FIELD(vm_config, stop_timeout_ns),
	 .help = "SIGTERM and SIGINT press the guest's power button, or go to the command; if the "
		 "VM has not ended after this time, end it by force (default: 30s)"},
	{"kill-after", .arg = "TIME", .group = ENDS, DURATION_FIELD(vm_config, kill_after_ns),
	 .help = "the same for a command; when --timeout runs out it gets SIGTERM then, and this "
		 "time (default: that of --stop-timeout, and none)"},
	{"result", .arg = "FILE", .group = ENDS, STRING_FIELD(vm_config, result_path),
	 .help = "write how the VM ended, with counters, as JSON; - is standard output, fd=N a "
		 "descriptor that skep inherits"},

	{"name", .arg = "NAME", .group = SKEP, TEXT_FIELD(vm_config, name),
	 .help = "call the VM so, for 'skep ps', 'skep stop' and the like; off: it has no name "
		 "(default: a made-up one)"},
	{"control", .arg = "PATH", .group = SKEP, STRING_FIELD(vm_config, control_path),
	 .help = "create a socket here, too, through which the running VM can be controlled"},
	{"config", .arg = "FILE", .group = SKEP, .type = SETTING_CONFIG,
	 .help = "read a JSON configuration; later options override it or add to it; - is standard "
		 "input"},
	{"dry-run", .group = SKEP, .type = SETTING_DRY_RUN,
	 .help = "print the JSON configuration and exit"},
	{"cache", .inverted = true, .group = SKEP, BOOL_FIELD(vm_config, cache),
	 .help = "do not keep the decompressed kernel for later starts"},
	{"sandbox", .arg = "on|off", .group = SKEP, BOOL_FIELD(vm_config, sandbox),
	 .help = "confine skep once everything is open (default: on)"},
	{"verbose", 'v', .group = SKEP, BOOL_FIELD(vm_config, verbose), .help = "log what is done"},
	{"quiet", 'q', .group = SKEP, BOOL_FIELD(vm_config, quiet), .help = "log only errors"},
	{"help", 'h', .group = SKEP, .type = SETTING_HELP, .help = "show this help"},

	{"trap-registers", .group = DEBUG, BOOL_FIELD(vm_config, trap_registers),
	 .help = "make each read of a device register exit to skep"},
	{.name = NULL},
};
