// SPDX-License-Identifier: BSD-2-Clause
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/util.h"
#include "kvm/acpi.h"
#include "kvm/layout.h"
#include "table_fixture.h"

struct table {
	const uint8_t *data;
	uint32_t len;
};

/* The table at `addr`: inside the ACPI area, with the signature and a right checksum. */
static struct table find_table(const struct gmem *mem, uint64_t addr, const char *signature)
{
	struct table t;
	void *p;

	assert_in_range(addr, LAYOUT_ACPI, LAYOUT_ACPI_END - 36);
	assert_int_equal(gmem_slice(mem, GPA(addr), 36, &p), 0);
	t.data = p;
	t.len = (uint32_t)load(t.data + 4, 4);
	assert_memory_equal(t.data, signature, 4);
	assert_in_range(t.len, 36, LAYOUT_ACPI_END - addr);
	assert_int_equal(sum(t.data, t.len), 0);
	return t;
}

struct tables {
	struct gmem mem;
	struct table xsdt, fadt, madt, dsdt;
};

/* Builds the tables of a machine and follows the links from the RSDP. */
static void build(struct tables *t, unsigned cpus, unsigned devices)
{
	struct acpi_machine machine = {.cpus = cpus, .devices = devices};
	struct error e = {""};
	gpa_t rsdp_addr;
	const uint8_t *rsdp;
	void *p;

	assert_int_equal(gmem_create(&t->mem, 2 * MIB, NULL), 0);
	assert_int_equal(acpi_build(&t->mem, &machine, &rsdp_addr, &e), 0);
	assert_string_equal(e.msg, "");
	/* Where the scan for it looks (5.2.5.1): on a 16-byte boundary from 0xe0000 on. */
	assert_in_range(rsdp_addr.v, 0xe0000, 0xfffff);
	assert_true(IS_ALIGNED(rsdp_addr.v, 16u));
	assert_int_equal(gmem_slice(&t->mem, rsdp_addr, 36, &p), 0);
	rsdp = p;
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);

	t->xsdt = find_table(&t->mem, load(rsdp + 24, 8), "XSDT");
	assert_int_equal(t->xsdt.len, 36 + 2 * 8);
	t->fadt = find_table(&t->mem, load(t->xsdt.data + 36, 8), "FACP");
	t->madt = find_table(&t->mem, load(t->xsdt.data + 44, 8), "APIC");
	t->dsdt = find_table(&t->mem, load(t->fadt.data + 140, 8), "DSDT");
}

static void test_fadt_is_hardware_reduced(void **state)
{
	struct tables t;
	const uint8_t *f;
	uint64_t flags;

	(void)state;
	build(&t, 1, 1);
	f = t.fadt.data;
	assert_int_equal(t.fadt.len, 276);
	assert_int_equal(f[8], 6);			     /* revision */
	assert_int_equal(load(f + 40, 4), load(f + 140, 8)); /* DSDT, X_DSDT */
	assert_int_equal(load(f + 109, 2) & 3, 0);	     /* no legacy devices, no 8042 */
	flags = load(f + 112, 4);
	assert_true(flags & 1u << 20); /* HW_REDUCED_ACPI */
	assert_true(flags & 1u << 10); /* RESET_REG_SUP */
	assert_true(flags & 1u << 4);  /* the power button is no fixed feature */
	/* Sleep control, sleep status and reset: SystemIO, 8 bits. */
	assert_int_equal(f[244], 1);
	assert_int_equal(load(f + 248, 8), LAYOUT_ACPI_PORT + ACPI_PORT_SLEEP_CONTROL);
	assert_int_equal(load(f + 260, 8), LAYOUT_ACPI_PORT + ACPI_PORT_SLEEP_STATUS);
	assert_int_equal(f[116], 1);
	assert_int_equal(load(f + 120, 8), LAYOUT_ACPI_PORT + ACPI_PORT_RESET);
	assert_int_equal(f[128], ACPI_RESET_VALUE);
	gmem_destroy(&t.mem);
}

static void test_madt_has_each_cpu_and_one_ioapic(void **state)
{
	struct tables t;

	(void)state;
	for (unsigned cpus = 1; cpus <= 64; cpus += 21) {
		unsigned found = 0, ioapics = 0;
		uint32_t at = 44;

		build(&t, cpus, 3);
		assert_int_equal(load(t.madt.data + 36, 4), LAYOUT_LAPIC);
		assert_int_equal(load(t.madt.data + 40, 4), 0); /* no PCAT_COMPAT */
		for (; at < t.madt.len; at += t.madt.data[at + 1]) {
			const uint8_t *s = t.madt.data + at;

			if (s[0] == 0) {
				assert_int_equal(s[1], 8);
				assert_int_equal(s[2], found);
				assert_int_equal(s[3], found);
				assert_int_equal(load(s + 4, 4), 1);
				found++;
			} else {
				assert_int_equal(s[0], 1);
				assert_int_equal(s[1], 12);
				assert_int_equal(load(s + 4, 4), LAYOUT_IOAPIC);
				assert_int_equal(load(s + 8, 4), 0);
				ioapics++;
			}
		}
		assert_int_equal(at, t.madt.len);
		assert_int_equal(found, cpus);
		assert_int_equal(ioapics, 1);
		gmem_destroy(&t.mem);
	}
}

static void test_too_many_are_refused(void **state)
{
	struct error e = {""};
	struct gmem mem;
	gpa_t rsdp;

	(void)state;
	assert_int_equal(gmem_create(&mem, 2 * MIB, NULL), 0);
	assert_int_equal(acpi_build(&mem, &(struct acpi_machine){256, 1}, &rsdp, &e), -ENOSPC);
	assert_int_equal(acpi_build(&mem, &(struct acpi_machine){1, 129}, &rsdp, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "129 devices"));
	assert_int_equal(
		acpi_build(&mem, &(struct acpi_machine){255, LAYOUT_MAX_DEVICES}, &rsdp, &e), 0);
	gmem_destroy(&mem);
}

/* Runs a shell command; its output goes to `out`. */
static int run(char *out, size_t size, const char *fmt, ...)
{
	char command[512];
	size_t len = 0, n;
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	f = popen(command, "r");
	assert_non_null(f);
	while ((n = fread(out + len, 1, size - 1 - len, f)) > 0)
		len += n;
	out[len] = 0;
	return pclose(f);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static char text[1 << 20];

/* Disassembles a table into `text`, compiles that again without a complaint, and gets the same
 * table back but for what names its compiler. */
static void check_with_iasl(const char *dir, const char *name, const struct table *t)
{
	static const char no_complaints[] = "0 Errors, 0 Warnings, 0 Remarks";
	uint8_t *again = malloc(t->len + 1);
	char path[256];
	int fd;

	assert_non_null(again);
	snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, t->data, t->len), t->len);
	close(fd);
	assert_int_equal(run(text, sizeof(text), "cd %s && iasl -d %s.aml 2>&1", dir, name), 0);
	assert_null(strstr(text, "Warning"));
	assert_null(strstr(text, "Error"));
	assert_int_equal(
		run(text, sizeof(text), "cd %s && iasl -p new_%s %s.dsl 2>&1", dir, name, name), 0);
	if (!strstr(text, no_complaints))
		fail_msg("iasl complains: %s", text);

	snprintf(path, sizeof(path), "%s/new_%s.aml", dir, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read_full(fd, again, t->len + 1), t->len);
	close(fd);
	again[9] = t->data[9];		     /* checksum */
	memcpy(again + 28, t->data + 28, 8); /* compiler and its version */
	assert_memory_equal(again, t->data, t->len);
	free(again);
	run(text, sizeof(text), "cat %s/%s.dsl", dir, name);
}

static void check_machine_with_iasl(const char *dir, unsigned cpus, unsigned devices)
{
	char line[64];
	struct tables t;

	build(&t, cpus, devices);
	check_with_iasl(dir, "XSDT", &t.xsdt);
	check_with_iasl(dir, "FACP", &t.fadt);
	assert_non_null(strstr(text, "Hardware Reduced (V5) : 1"));
	assert_non_null(strstr(text, "Reset Register Supported (V2) : 1"));
	assert_non_null(strstr(text, "8042 Present on ports 60/64 (V2) : 0"));
	assert_non_null(strstr(text, "CMOS RTC Not Present (V5) : 1"));
	assert_non_null(strstr(text, "VGA Not Present (V4) : 1"));
	assert_non_null(strstr(text, "MSI Not Supported (V4) : 0"));
	check_with_iasl(dir, "APIC", &t.madt);
	assert_int_equal(count(text, "[Processor Local APIC]"), cpus);
	assert_int_equal(count(text, "[I/O APIC]"), 1);
	assert_non_null(strstr(text, "PC-AT Compatibility : 0"));

	check_with_iasl(dir, "DSDT", &t.dsdt);
	assert_int_equal(count(text, "\"LNRO0005\""), devices);
	assert_int_equal(count(text, "Memory32Fixed (ReadWrite,"), devices);
	assert_int_equal(count(text, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"),
			 devices + 1);
	for (unsigned n = 0; n < devices; n++) {
		snprintf(line, sizeof(line), "0x%08X,         // Address Base",
			 LAYOUT_VIRTIO_MMIO + n * LAYOUT_VIRTIO_MMIO_STRIDE);
		assert_int_equal(count(text, line), 1);
		snprintf(line, sizeof(line), " 0x%08X,\n                }", LAYOUT_GSI_DEVICE + n);
		assert_int_equal(count(text, line), 1);
	}
	assert_int_equal(count(text, "\"ACPI0013\""), 1);
	assert_int_equal(count(text, "EisaId (\"PNP0C0C\")"), 1);
	assert_int_equal(count(text, "Name (_S5, Package (0x01)"), 1);
	assert_int_equal(count(text, "Method (_EVT, 1, Serialized)"), 1);
	assert_int_equal(count(text, "OperationRegion (EVTR, SystemIO, 0x0603, One)"), 1);
	assert_int_equal(count(text, "Notify (PWRB, 0x80)"), 1);
	gmem_destroy(&t.mem);
}

static void test_iasl_agrees(void **state)
{
	/* With 0, 1, 15 and 16, and 128 devices the lengths in the DSDT take 1 to 3 bytes. */
	static const struct acpi_machine machine[] = {
		{1, 0}, {1, 1}, {2, 2}, {4, 15}, {5, 65}, {LAYOUT_MAX_CPUS, LAYOUT_MAX_DEVICES},
	};
	char dir[] = "/tmp/skep-acpi-XXXXXX";

	(void)state;
	if (run(text, sizeof(text), "command -v iasl")) {
		print_message("# iasl is not installed (apt-get install acpica-tools)\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_SIZE(machine); i++)
		check_machine_with_iasl(dir, machine[i].cpus, machine[i].devices);
	run(text, sizeof(text), "rm -r %s", dir);
}

struct pm {
	struct acpi_pm pm;
	unsigned power_offs, give_ups, resets;
};

static void power_off(void *ctx)
{
	((struct pm *)ctx)->power_offs++;
}

static void give_up(void *ctx)
{
	((struct pm *)ctx)->give_ups++;
}

static void reset(void *ctx)
{
	((struct pm *)ctx)->resets++;
}

static void start_pm(struct pm *pm)
{
	*pm = (struct pm){.pm = {.irq_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
				 .power_off = power_off,
				 .give_up = give_up,
				 .reset = reset,
				 .ctx = pm}};
	assert_true(pm->pm.irq_fd >= 0);
}

static uint8_t in8(struct pm *pm, uint64_t port)
{
	uint8_t v = 0x5a;

	acpi_pm_bus_ops.read(&pm->pm, port, &v, 1);
	return v;
}

static void test_sleep_and_reset_ports(void **state)
{
	struct pm pm;

	(void)state;
	start_pm(&pm);
	for (unsigned v = 0; v < 0x100; v++) {
		bool off = (v >> 5 & 1) && (v >> 2 & 7) == ACPI_SLP_TYP_S5;
		bool gave_up = (v >> 5 & 1) && (v >> 2 & 7) == ACPI_SLP_TYP_GAVE_UP;
		uint8_t byte = (uint8_t)v;

		pm.power_offs = pm.give_ups = pm.resets = 0;
		acpi_pm_bus_ops.write(&pm.pm, ACPI_PORT_SLEEP_CONTROL, &byte, 1);
		assert_int_equal(pm.power_offs, off);
		assert_int_equal(pm.give_ups, gave_up);
		assert_int_equal(pm.resets, 0);
		acpi_pm_bus_ops.write(&pm.pm, ACPI_PORT_RESET, &byte, 1);
		assert_int_equal(pm.resets, v == ACPI_RESET_VALUE);
		/* The sleep status is cleared before each sleep; it never wakes up. */
		acpi_pm_bus_ops.write(&pm.pm, ACPI_PORT_SLEEP_STATUS, &byte, 1);
		acpi_pm_bus_ops.write(&pm.pm, ACPI_PORT_EVENT, &byte, 1);
		assert_int_equal(pm.power_offs, off);
		for (uint64_t port = 0; port < ACPI_PORTS; port++)
			assert_int_equal(in8(&pm, port), 0);
	}
	close(pm.pm.irq_fd);
}

static void test_power_button_interrupts_and_reads_once(void **state)
{
	uint64_t irqs;
	struct pm pm;

	(void)state;
	start_pm(&pm);
	assert_int_equal(in8(&pm, ACPI_PORT_EVENT), 0);
	acpi_pm_power_button(&pm.pm);
	assert_int_equal(read(pm.pm.irq_fd, &irqs, sizeof(irqs)), sizeof(irqs));
	assert_int_equal(irqs, 1);
	assert_int_equal(in8(&pm, ACPI_PORT_EVENT), ACPI_EVENT_POWER_BUTTON);
	assert_int_equal(in8(&pm, ACPI_PORT_EVENT), 0);
	close(pm.pm.irq_fd);
}

static void test_ports_are_a_byte_wide(void **state)
{
	static const uint32_t widths[] = {2, 4, 8};
	const uint64_t button = 0x0101010101010101ull * 0x34; /* SLP_EN, S5 in each byte */
	struct pm pm;

	(void)state;
	start_pm(&pm);
	acpi_pm_power_button(&pm.pm);
	for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
		for (uint64_t port = 0; port < ACPI_PORTS; port++) {
			uint64_t v = 0;

			acpi_pm_bus_ops.read(&pm.pm, port, &v, widths[i]);
			assert_int_equal(v, UINT64_MAX >> (64 - 8 * widths[i]));
			acpi_pm_bus_ops.write(&pm.pm, port, &button, widths[i]);
			acpi_pm_bus_ops.write(&pm.pm, port, &(uint64_t){ACPI_RESET_VALUE},
					      widths[i]);
		}
	}
	assert_int_equal(pm.power_offs + pm.resets, 0);
	assert_int_equal(in8(&pm, ACPI_PORT_EVENT), ACPI_EVENT_POWER_BUTTON);
	close(pm.pm.irq_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt_is_hardware_reduced),
		cmocka_unit_test(test_madt_has_each_cpu_and_one_ioapic),
		cmocka_unit_test(test_too_many_are_refused),
		cmocka_unit_test(test_iasl_agrees),
		cmocka_unit_test(test_sleep_and_reset_ports),
		cmocka_unit_test(test_power_button_interrupts_and_reads_once),
		cmocka_unit_test(test_ports_are_a_byte_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
