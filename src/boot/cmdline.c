// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "boot/cmdline.h"
#include "kvm/layout.h"

bool cmdline_has_word(const char *cmdline, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = cmdline; (p = strstr(p, word)); p += len)
		if ((p == cmdline || p[-1] <= ' ') && (!p[len] || p[len] <= ' '))
			return true;
	return false;
}

/* The value of the last word that begins with `key`, up to the next blank, or NULL. Words after
 * "--" are init's. */
static const char *last_value(const char *text, const char *key, size_t *ret_len)
{
	const char *value = NULL;

	for (size_t len; text += strspn(text, " \t\n"), (len = strcspn(text, " \t\n"));
	     text += len) {
		if (len == 2 && !memcmp(text, "--", 2))
			break;
		if (len < strlen(key) || memcmp(text, key, strlen(key)) != 0)
			continue;
		value = text + strlen(key);
		*ret_len = len - strlen(key);
	}
	return value;
}

/* About parameters that are often copied from elsewhere, and do not work here. */
static void warn(const char *append)
{
	const char *value;
	size_t len;

	value = last_value(append, "console=", &len);
	if (value && strncmp(value, "hvc", 3) != 0)
		log_warn("--append: console=%.*s: there is no %s, so what the guest's programs "
			 "print would be lost: leave it out, or add console=hvc0 after it",
			 (int)(len < 40 ? len : 40), value,
			 strncmp(value, "tty", 3) == 0 && strspn(value + 3, "0123456789") == len - 3
				 ? "screen"
				 : "serial port");
	value = last_value(append, "panic=", &len);
	if (value && len == 1 && *value == '0')
		log_warn("--append: panic=0: after a panic Linux spins forever, and the VM "
			 "does not end: leave it out");
}

/*
 * Kernel parameters for this machine. A panic ends the VM at once instead of halting; there is no
 * PCI, i8042 or serial port to look for; the kernel does not test its built-in ciphers (in FIPS
 * mode it does anyway). Reboots use ACPI, since with hardware-reduced ACPI Linux would try EFI and
 * then jump to a BIOS. hvc0 needs a module, so there is tty0 until it is loaded: without standard
 * streams process 1 would get sockets in their place, which breaks Debian's initrd.img. The user's
 * parameters follow, and override these.
 */
static const char base_cmdline[] =
	"console=tty0 console=hvc0 panic=-1 pci=off 8250.nr_uarts=0 tsc=reliable no_timer_check "
	"cryptomgr.notests reboot=acpi";

int cmdline_build(const struct vm_config *config, unsigned devices, char **ret, struct error *e)
{
	const char *append = config->append;
	FILE *f;
	size_t size;

	f = open_memstream(ret, &size);
	if (!f)
		return error_set(e, -ENOMEM, "out of memory for the command line");
	fputs(base_cmdline, f);
	/* Parameters go before what follows "--", which is init's. */
	for (unsigned i = 0; config->mmio_cmdline && i < devices; i++)
		fprintf(f, " virtio_mmio.device=4K@0x%x:%u",
			LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_MMIO_STRIDE, LAYOUT_GSI_DEVICE + i);
	/* All that is added can be taken away: the kernel keeps nothing there that cannot be moved. */
	if (config->memory.max > config->memory.start)
		fputs(" memhp_default_state=online_movable", f);
	if (config->command)
		fputs(" quiet skep.init=agent", f);
	if (append && *append) {
		warn(append);
		fprintf(f, " %s", append);
	}
	if (fclose(f) || !*ret)
		return error_set(e, -ENOMEM, "out of memory for the command line");
	if (size >= LAYOUT_CMDLINE_MAX)
		return error_set(e, -E2BIG,
				 "the kernel command line is %zu bytes long, but only %u fit: "
				 "shorten --append",
				 size, LAYOUT_CMDLINE_MAX - 1);
	return 0;
}
