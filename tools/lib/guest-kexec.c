// SPDX-License-Identifier: BSD-2-Clause
/*
 * guest-kexec KERNEL COMMAND-LINE [INITRD]: makes it the kernel to go on with.
 * guest-kexec --go: goes on with it; file systems are not unmounted, nor devices reset.
 * guest-kexec --give-up: ends the VM by a sleep type of its own (on_give_up() in skep).
 *
 * In the default guest, whose busybox cannot do it (tools/lib/guest-boot).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ACPI 6.5, table 4.22: the sleep control register; SLP_EN, and 6 for the type. */
#define SLEEP_CONTROL 0x600
#define GIVE_UP	      (1u << 5 | 6u << 2)

static int load(const char *kernel, const char *cmdline, const char *initrd)
{
	int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	int initrd_fd = initrd ? open(initrd, O_RDONLY | O_CLOEXEC) : -1;
	unsigned long flags = initrd ? 0 : KEXEC_FILE_NO_INITRAMFS;

	if (kernel_fd < 0 || (initrd && initrd_fd < 0)) {
		fprintf(stderr, "%s: %s\n", kernel_fd < 0 ? kernel : initrd, strerror(errno));
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(cmdline) + 1, cmdline,
		    flags) == 0)
		return 0;
	fprintf(stderr, "%s: %s%s\n", kernel,
		errno == ENOEXEC ? "is no kernel for this machine" : strerror(errno),
		errno == ENOMEM || errno == EADDRNOTAVAIL
			? ": give the VM more memory (skep run --memory)"
		: errno == EINVAL && strlen(cmdline) > 2047 ? ": the command line is too long"
							    : "");
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--go") == 0) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
		fprintf(stderr, "kexec: %s\n", strerror(errno));
		return 1;
	}
	if (argc == 2 && strcmp(argv[1], "--give-up") == 0) {
		/* Debian's cloud kernel has no /dev/port. */
		if (ioperm(SLEEP_CONTROL, 1, 1) < 0) {
			fprintf(stderr, "port %#x: %s\n", SLEEP_CONTROL, strerror(errno));
			return 1;
		}
		outb(GIVE_UP, SLEEP_CONTROL);
	}
	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: guest-kexec KERNEL COMMAND-LINE [INITRD]\n");
		return 2;
	}
	return load(argv[1], argv[2], argv[3]);
}
