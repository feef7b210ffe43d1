// SPDX-License-Identifier: BSD-2-Clause
/* A payload's life: start, the test that the command line names, the report, power-off. */
#include "vio.h"

#define XEN_HVM_START_MAGIC 0x336ec578u

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr;
	uint64_t memmap_paddr; /* from version 1 on */
	uint32_t memmap_entries, reserved;
};

#define ACPI_SLEEP_CONTROL 0x600u
#define ACPI_POWER_OFF	   (1u << 5 | 5u << 2)
#define I8042_COMMAND	   0x64u
#define I8042_RESET	   0xfeu

static char cmdline[4096]; /* blanks are NULs; ends with two */
static unsigned passed, failed;

const char *cmdline_next(const char *key, const char *after)
{
	const char *w = after ? after + strlen(after) + 1 : cmdline;
	size_t n = strlen(key);

	for (; w < cmdline + sizeof(cmdline) - 1; w += strlen(w) + 1)
		if (!memcmp(w, key, n) && (w[n] == '=' || w[n] == '\0') && *w)
			return w[n] ? w + n + 1 : w + n;
	return NULL;
}

const char *cmdline_get(const char *key)
{
	const char *found = NULL;

	for (const char *w = NULL; (w = cmdline_next(key, w));)
		found = w;
	return found;
}

uint64_t cmdline_u64(const char *key, uint64_t otherwise)
{
	const char *s = cmdline_get(key);
	uint64_t v = 0;

	if (!s)
		return otherwise;
	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	if (*s)
		panic("%s: not a number", key);
	return v;
}

static void read_cmdline(const char *from)
{
	for (size_t i = 0; from && i < sizeof(cmdline) - 2 && from[i]; i++)
		cmdline[i] = from[i] == ' ' ? '\0' : from[i];
}

void power_off(void)
{
	/* skep and Cloud Hypervisor; Firecracker; QEMU with -no-reboot. */
	outb(ACPI_SLEEP_CONTROL, ACPI_POWER_OFF);
	outb(I8042_COMMAND, I8042_RESET);
	triple_fault();
}

void panic(const char *fmt, ...)
{
	static bool again;
	va_list ap;

	if (!again) {
		again = true;
		failed++;
		console_init();
		print("not ok - panic: ");
		va_start(ap, fmt);
		vprint(fmt, ap);
		va_end(ap);
		print("\nend: %u passed, %u failed\n", passed, failed);
	}
	power_off();
}

void check_report(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		passed++;
	else
		failed++;
	print(ok ? "ok - " : "not ok - ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	if (!ok)
		print(" (%s:%d)", file, line);
	print("\n");
}

bool check_equal(uint64_t got, uint64_t want, const char *file, int line, const char *what)
{
	if (got == want)
		check_report(true, file, line, "%s", what);
	else
		check_report(false, file, line, "%s: 0x%lx, not 0x%lx", what, got, want);
	return got == want;
}

void check_skip(const char *fmt, ...)
{
	va_list ap;

	print("skip - ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\n");
}

__attribute__((noreturn)) void guest_main(const struct hvm_start_info *info);

void guest_main(const struct hvm_start_info *info)
{
	const struct guest_test *t;
	const char *name;

	irq_init();
	if (info->magic != XEN_HVM_START_MAGIC)
		triple_fault();
	read_cmdline((const char *)info->cmdline_paddr);
	memory_init(info->memmap_paddr, info->version >= 1 ? info->memmap_entries : 0);
	clock_init();
	vio_probe();
	console_init();

	name = cmdline_get("test");
	for (t = guest_tests; t->name; t++)
		if (name && !strcmp(t->name, name))
			break;
	if (!t->name)
		panic("no test named %s", name ? name : "(none)");
	t->run();
	print("end: %u passed, %u failed\n", passed, failed);
	power_off();
}
