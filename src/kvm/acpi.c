// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation. The tables are appended one after the other to the guest's ACPI area,
 * leaves first, so that each address is known when it is written down; the RSDP has its place at
 * the start of the area. Table layouts are those of the ACPI specification 6.5, section 5.2; AML
 * opcodes those of section 20; resource descriptors those of section 6.4.
 *
 * What is not there, and why: no FACS (optional in hardware-reduced ACPI, 5.2.10). No processor
 * devices (ACPI0007): the MADT alone enumerates the CPUs, and a guest would only spend time on
 * binding a driver that finds neither idle nor performance states. No _CCA: on x86 a device without
 * it is cache-coherent (6.2.17).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "kvm/acpi.h"
#include "kvm/layout.h"

/* Appends to a fixed area. What does not fit is dropped whole, so that all that is before `len` can
 * be patched without looking. */
struct writer {
	uint8_t *base;
	size_t len, size;
	bool full;
};

static void put(struct writer *w, const void *data, size_t len)
{
	if (len > w->size - w->len) {
		w->full = true;
		return;
	}
	memcpy(w->base + w->len, data, len);
	w->len += len;
}

/* All fields are little-endian, as the host is. */
static void put_int(struct writer *w, uint64_t v, size_t size)
{
	put(w, &v, size);
}
#define put8(w, v)  put_int(w, v, 1)
#define put16(w, v) put_int(w, v, 2)
#define put32(w, v) put_int(w, v, 4)
#define put64(w, v) put_int(w, v, 8)

/* AML: each byte is a constant of section 20.2. */
enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_EXT = 0x5b,
	AML_AND = 0x7b,
	AML_NOTIFY = 0x86,
	AML_IF = 0xa0,
};
enum {
	AML_EXT_REGION = 0x80,
	AML_EXT_FIELD = 0x81,
	AML_EXT_DEVICE = 0x82,
};

static void aml_name(struct writer *w, const char *seg)
{
	put(w, seg, 4);
}

static void aml_int(struct writer *w, uint32_t v)
{
	if (v <= 1) {
		put8(w, v ? AML_ONE : AML_ZERO);
	} else if (v <= UINT8_MAX) {
		put8(w, AML_BYTE);
		put8(w, v);
	} else if (v <= UINT16_MAX) {
		put8(w, AML_WORD);
		put16(w, v);
	} else {
		put8(w, AML_DWORD);
		put32(w, v);
	}
}

/* Opens a package (20.2.4: an opcode followed by PkgLength) and leaves one byte for its length. */
static size_t aml_open(struct writer *w)
{
	put8(w, 0);
	return w->len - 1;
}

/* Writes the length, in as many bytes as it takes; the content moves up to make room for them. */
static void aml_close(struct writer *w, size_t at)
{
	size_t content = w->len - at - 1;
	size_t extra = content + 1 <= 0x3f ? 0 : content + 2 <= 0xfff ? 1 : 2;
	size_t len = content + 1 + extra;

	put(w, "\0", extra);
	if (w->full)
		return;
	memmove(w->base + at + 1 + extra, w->base + at + 1, content);
	if (!extra) {
		w->base[at] = (uint8_t)len;
		return;
	}
	w->base[at] = (uint8_t)(extra << 6 | (len & 0xf));
	for (size_t i = 0; i < extra; i++)
		w->base[at + 1 + i] = (uint8_t)(len >> (4 + 8 * i));
}

static size_t aml_device(struct writer *w, const char *seg)
{
	size_t at;

	put8(w, AML_EXT);
	put8(w, AML_EXT_DEVICE);
	at = aml_open(w);
	aml_name(w, seg);
	return at;
}

static void aml_name_int(struct writer *w, const char *seg, uint32_t v)
{
	put8(w, AML_NAME);
	aml_name(w, seg);
	aml_int(w, v);
}

static void aml_name_string(struct writer *w, const char *seg, const char *s)
{
	put8(w, AML_NAME);
	aml_name(w, seg);
	put8(w, AML_STRING);
	put(w, s, strlen(s) + 1);
}

/* Resources: an optional register page, and one interrupt. */
static void aml_crs(struct writer *w, uint32_t page, uint32_t gsi)
{
	size_t at, size_at;

	put8(w, AML_NAME);
	aml_name(w, "_CRS");
	put8(w, AML_BUFFER);
	at = aml_open(w);
	put8(w, AML_BYTE);
	put8(w, 0); /* the buffer's size */
	size_at = w->len;
	if (page) {
		put8(w, 0x86); /* 32-bit fixed memory range */
		put16(w, 9);
		put8(w, 1); /* read and write */
		put32(w, page);
		put32(w, LAYOUT_VIRTIO_MMIO_STRIDE);
	}
	put8(w, 0x89); /* extended interrupt */
	put16(w, 6);
	put8(w, 0x03); /* consumer, edge; active high, exclusive */
	put8(w, 1);    /* one number */
	put32(w, gsi);
	put8(w, 0x79); /* end */
	put8(w, 0);    /* no checksum */
	w->base[size_at - 1] = (uint8_t)(w->len - size_at);
	aml_close(w, at);
}

static void add_virtio(struct writer *w, unsigned n)
{
	static const char hex[] = "0123456789ABCDEF";
	const char seg[4] = {'V', '0', hex[n >> 4 & 0xf], hex[n & 0xf]};
	size_t at = aml_device(w, seg);

	aml_name_string(w, "_HID", "LNRO0005");
	aml_name_int(w, "_UID", n);
	aml_crs(w, LAYOUT_VIRTIO_MMIO + n * LAYOUT_VIRTIO_MMIO_STRIDE, LAYOUT_GSI_DEVICE + n);
	aml_close(w, at);
}
static_assert(LAYOUT_MAX_DEVICES <= 0x100, "device names have two hexadecimal digits");
static_assert(LAYOUT_ACPI_END <= LAYOUT_MPTABLE, "MP tables are behind those of ACPI");

/* Device (PWRB): a control method power button (4.8.3.1.2). */
static void add_power_button(struct writer *w)
{
	static const uint8_t pnp0c0c[] = {0x41, 0xd0, 0x0c, 0x0c}; /* EISAID("PNP0C0C") */
	size_t at = aml_device(w, "PWRB");

	put8(w, AML_NAME);
	aml_name(w, "_HID");
	put8(w, AML_DWORD);
	put(w, pnp0c0c, sizeof(pnp0c0c));
	aml_close(w, at);
}

/*
 * The generic event device (5.6.9). Its _EVT reads the event port, which clears it, and passes the
 * power button on:
 *
 *   OperationRegion (EVTR, SystemIO, port, 1)
 *   Field (EVTR, ByteAcc, NoLock, Preserve) { EVTV, 8 }
 *   Method (_EVT, 1) { If (EVTV & 1) { Notify (PWRB, 0x80) } }
 */
static void add_ged(struct writer *w)
{
	size_t device = aml_device(w, "GED_"), at, body;

	aml_name_string(w, "_HID", "ACPI0013");
	aml_name_int(w, "_UID", 0);
	aml_crs(w, 0, LAYOUT_GSI_GED);

	put8(w, AML_EXT);
	put8(w, AML_EXT_REGION);
	aml_name(w, "EVTR");
	put8(w, 1); /* SystemIO */
	aml_int(w, LAYOUT_ACPI_PORT + ACPI_PORT_EVENT);
	aml_int(w, 1);

	put8(w, AML_EXT);
	put8(w, AML_EXT_FIELD);
	at = aml_open(w);
	aml_name(w, "EVTR");
	put8(w, 1); /* ByteAcc, NoLock, Preserve */
	aml_name(w, "EVTV");
	put8(w, 8); /* bits */
	aml_close(w, at);

	put8(w, AML_METHOD);
	at = aml_open(w);
	aml_name(w, "_EVT");
	put8(w, 0x09); /* one argument, serialized: reading the port clears it */
	put8(w, AML_IF);
	body = aml_open(w);
	put8(w, AML_AND);
	aml_name(w, "EVTV");
	aml_int(w, ACPI_EVENT_POWER_BUTTON);
	put8(w, AML_ZERO); /* the result goes nowhere else */
	put8(w, AML_NOTIFY);
	aml_name(w, "PWRB");
	aml_int(w, 0x80);
	aml_close(w, body);
	aml_close(w, at);
	aml_close(w, device);
}

/* One element: the value for the sleep control register (7.4.2). With two some guests take it for
 * one for the PM1 registers, which hardware-reduced ACPI does not have. */
static void add_sleep_state(struct writer *w)
{
	size_t at;

	put8(w, AML_NAME);
	aml_name(w, "_S5_");
	put8(w, AML_PACKAGE);
	at = aml_open(w);
	put8(w, 1); /* elements */
	aml_int(w, ACPI_SLP_TYP_S5);
	aml_close(w, at);
}

uint8_t acpi_checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

#define TABLE_LENGTH   4
#define TABLE_CHECKSUM 9

/* The header that all tables begin with (5.2.6); returns where the table starts. */
static size_t table_open(struct writer *w, const char *signature, uint8_t revision)
{
	size_t start;

	while (w->len % 8 && !w->full)
		put8(w, 0);
	start = w->len;
	put(w, signature, 4);
	put32(w, 0); /* length */
	put8(w, revision);
	put8(w, 0); /* checksum */
	put(w, "SKEP  ", 6);
	put(w, "MICROVM ", 8);
	put32(w, 1); /* OEM revision */
	put(w, "SKEP", 4);
	put32(w, 1); /* creator revision */
	return start;
}

static void table_close(struct writer *w, size_t start)
{
	uint32_t len = (uint32_t)(w->len - start);

	if (w->full)
		return;
	memcpy(w->base + start + TABLE_LENGTH, &len, sizeof(len));
	w->base[start + TABLE_CHECKSUM] = acpi_checksum(w->base + start, len);
}

static size_t add_dsdt(struct writer *w, const struct acpi_machine *machine)
{
	size_t start = table_open(w, "DSDT", 2), scope;

	add_sleep_state(w);
	put8(w, AML_SCOPE);
	scope = aml_open(w);
	aml_name(w, "_SB_");
	for (unsigned n = 0; n < machine->devices; n++)
		add_virtio(w, n);
	add_ged(w);
	add_power_button(w);
	aml_close(w, scope);
	table_close(w, start);
	return start;
}

/* The local APICs and the I/O APIC (5.2.12). No PCAT_COMPAT: there is no 8259. */
static size_t add_madt(struct writer *w, const struct acpi_machine *machine)
{
	size_t start = table_open(w, "APIC", 5);

	put32(w, LAYOUT_LAPIC);
	put32(w, 0); /* flags */
	for (unsigned i = 0; i < machine->cpus; i++) {
		put8(w, 0); /* processor local APIC */
		put8(w, 8);
		put8(w, i);  /* processor UID */
		put8(w, i);  /* APIC ID */
		put32(w, 1); /* enabled */
	}
	put8(w, 1); /* I/O APIC */
	put8(w, 12);
	put8(w, 0); /* ID */
	put8(w, 0);
	put32(w, LAYOUT_IOAPIC);
	put32(w, 0); /* first GSI */
	table_close(w, start);
	return start;
}

/* Generic address structure (5.2.3.2) of a byte-wide port. */
static void put_port(struct writer *w, uint16_t port)
{
	put8(w, 1); /* SystemIO */
	put8(w, 8); /* bits */
	put8(w, 0);
	put8(w, 1); /* byte access */
	put64(w, port);
}

/* Boot architecture: no 8042 and no legacy devices by their bits' absence. */
#define FADT_BOOT_NO_VGA      (1u << 2)
#define FADT_BOOT_NO_CMOS_RTC (1u << 5)

#define FADT_WBINVD	  (1u << 0)
#define FADT_C1		  (1u << 2) /* all processors have HLT */
#define FADT_POWER_BUTTON (1u << 4) /* no fixed button: a device, or none */
#define FADT_SLEEP_BUTTON (1u << 5)
#define FADT_FIX_RTC	  (1u << 6) /* no RTC wake status in fixed registers */
#define FADT_RESET_REG	  (1u << 10)
#define FADT_HEADLESS	  (1u << 12)
#define FADT_HW_REDUCED	  (1u << 20)

/* Pads the table that starts at `start` with zeros up to the field at `offset`. */
static void skip_to(struct writer *w, size_t start, size_t offset)
{
	while (w->len < start + offset && !w->full)
		put8(w, 0);
}

/* The fixed description table (5.2.9), at the offsets of table 5.9; zeros are registers that
 * hardware-reduced ACPI does not have. */
static size_t add_fadt(struct writer *w, uint32_t dsdt)
{
	size_t start = table_open(w, "FACP", 6);

	skip_to(w, start, 40);
	put32(w, dsdt);
	skip_to(w, start, 109);
	put16(w, FADT_BOOT_NO_VGA | FADT_BOOT_NO_CMOS_RTC);
	skip_to(w, start, 112);
	put32(w, FADT_WBINVD | FADT_C1 | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_FIX_RTC |
			 FADT_RESET_REG | FADT_HEADLESS | FADT_HW_REDUCED);
	put_port(w, LAYOUT_ACPI_PORT + ACPI_PORT_RESET);
	put8(w, ACPI_RESET_VALUE);
	skip_to(w, start, 131);
	put8(w, 3); /* minor revision */
	skip_to(w, start, 140);
	put64(w, dsdt);
	skip_to(w, start, 244);
	put_port(w, LAYOUT_ACPI_PORT + ACPI_PORT_SLEEP_CONTROL);
	put_port(w, LAYOUT_ACPI_PORT + ACPI_PORT_SLEEP_STATUS);
	put(w, "SKEP\0\0\0", 8); /* hypervisor vendor */
	table_close(w, start);
	return start;
}

#define RSDP_SIZE     36u
#define RSDP_V1_SIZE  20u
#define RSDP_CHECKSUM 8u
#define RSDP_EXTENDED 32u

/* The root pointer (5.2.5.3), at the start of the area. */
static void add_rsdp(struct writer *area, uint64_t xsdt)
{
	struct writer rsdp = {.base = area->base, .size = area->size};

	put(&rsdp, "RSD PTR ", 8);
	put8(&rsdp, 0);
	put(&rsdp, "SKEP  ", 6);
	put8(&rsdp, 2); /* revision */
	put32(&rsdp, 0);
	put32(&rsdp, RSDP_SIZE);
	put64(&rsdp, xsdt);
	put32(&rsdp, 0); /* extended checksum */
	rsdp.base[RSDP_CHECKSUM] = acpi_checksum(rsdp.base, RSDP_V1_SIZE);
	rsdp.base[RSDP_EXTENDED] = acpi_checksum(rsdp.base, RSDP_SIZE);
}

int acpi_build(const struct gmem *mem, const struct acpi_machine *machine, gpa_t *ret_rsdp,
	       struct error *e)
{
	struct writer w = {.len = RSDP_SIZE, .size = LAYOUT_ACPI_END - LAYOUT_ACPI};
	size_t dsdt, fadt, madt, xsdt;
	void *area;
	int r;

	if (machine->devices > LAYOUT_MAX_DEVICES || machine->cpus > UINT8_MAX)
		return error_set(e, -ENOSPC,
				 "ACPI cannot describe %u CPUs and %u devices: at most %u and %u",
				 machine->cpus, machine->devices, UINT8_MAX, LAYOUT_MAX_DEVICES);
	r = gmem_slice(mem, GPA(LAYOUT_ACPI), w.size, &area);
	if (r)
		return error_set(e, r, "guest memory is too small for the ACPI tables");
	w.base = area;

	dsdt = add_dsdt(&w, machine);
	fadt = add_fadt(&w, (uint32_t)(LAYOUT_ACPI + dsdt));
	madt = add_madt(&w, machine);
	xsdt = table_open(&w, "XSDT", 1);
	put64(&w, LAYOUT_ACPI + fadt);
	put64(&w, LAYOUT_ACPI + madt);
	table_close(&w, xsdt);
	add_rsdp(&w, LAYOUT_ACPI + xsdt);
	if (w.full)
		return error_set(e, -ENOSPC, "the ACPI tables of %u CPUs and %u devices do not fit",
				 machine->cpus, machine->devices);
	*ret_rsdp = GPA(LAYOUT_ACPI);
	return 0;
}

/* The ports, each one byte wide; other widths read as ones and write nothing. */

#define SLEEP_CONTROL_EN       (1u << 5)
#define SLEEP_CONTROL_TYP(reg) ((reg) >> 2 & 7)

static void pm_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct acpi_pm *pm = ctx;
	uint8_t value = 0;

	memset(data, 0xff, len);
	if (len != 1)
		return;
	if (offset == ACPI_PORT_EVENT)
		value = atomic_exchange(&pm->events, 0);
	memcpy(data, &value, sizeof(value));
}

static void pm_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct acpi_pm *pm = ctx;
	uint8_t value;

	if (len != 1)
		return;
	memcpy(&value, data, sizeof(value));
	if (offset == ACPI_PORT_SLEEP_CONTROL && (value & SLEEP_CONTROL_EN) &&
	    SLEEP_CONTROL_TYP(value) == ACPI_SLP_TYP_S5)
		pm->power_off(pm->ctx);
	else if (offset == ACPI_PORT_SLEEP_CONTROL && (value & SLEEP_CONTROL_EN) &&
		 SLEEP_CONTROL_TYP(value) == ACPI_SLP_TYP_GAVE_UP)
		pm->give_up(pm->ctx);
	else if (offset == ACPI_PORT_RESET && value == ACPI_RESET_VALUE)
		pm->reset(pm->ctx);
}

const struct bus_ops acpi_pm_bus_ops = {.read = pm_read, .write = pm_write};

void acpi_pm_power_button(struct acpi_pm *pm)
{
	atomic_fetch_or(&pm->events, ACPI_EVENT_POWER_BUTTON);
	eventfd_write(pm->irq_fd, 1); /* EAGAIN: an interrupt is pending already */
}
