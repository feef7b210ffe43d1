// SPDX-License-Identifier: BSD-2-Clause
/*
 * A kernel without ACPI: CPUs and interrupts come from the MP tables (MultiProcessor Specification
 * 1.4, chapter 4), devices from words of the command line.
 */
#include "support.h"

#define SCAN_START 0xf0000u
#define SCAN_END   0x100000u
#define VECTOR	   40u
#define MAX_CPUS   64u
#define MAX_IRQS   256u
#define NO_PIN	   0xffu

struct floating {
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, features[5];
};

struct table {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char names[20];
	uint32_t oem_table;
	uint16_t oem_size, entries;
	uint32_t lapic;
	uint32_t extension;
};

enum { PROCESSOR, BUS, IOAPIC, INTERRUPT };

/* What the tables say. */
static uint8_t cpu[MAX_CPUS], pin_of[MAX_IRQS];
static unsigned cpus, boot_cpu = MAX_CPUS, isa = MAX_IRQS;

static bool sums_to_zero(const void *data, size_t len)
{
	uint8_t sum = 0;

	for (const uint8_t *p = data; len--; p++)
		sum = (uint8_t)(sum + *p);
	return sum == 0;
}

static const struct table *find_table(void)
{
	for (uintptr_t at = SCAN_START; at < SCAN_END; at += 16) {
		const struct floating *f = (const void *)at;

		if (!memcmp(f->signature, "_MP_", 4) && sums_to_zero(f, f->length * 16ul))
			return (const void *)(uintptr_t)f->table;
	}
	return NULL;
}

/* Notes an entry, and returns its size. */
static size_t read_entry(const uint8_t *e)
{
	uint32_t address;

	switch (e[0]) {
	case PROCESSOR:
		if (e[3] & 1 && cpus < MAX_CPUS) {
			if (e[3] & 2)
				boot_cpu = e[1];
			cpu[cpus++] = e[1];
		}
		return 20;
	case BUS:
		if (!memcmp(e + 2, "ISA   ", 6))
			isa = e[1];
		return 8;
	case IOAPIC:
		memcpy(&address, e + 4, sizeof(address));
		CHECK_EQ(address, 0xfec00000, "the I/O APIC's address");
		return 8;
	default:
		if (e[0] != INTERRUPT)
			panic("an entry of type %u", e[0]);
		if (e[1] == 0 && e[4] == isa && (e[2] & 0xf) == 5) /* active high, edge */
			pin_of[e[5]] = e[7];
		return 8;
	}
}

static void read_table(const struct table *t)
{
	const uint8_t *at = (const uint8_t *)(t + 1), *end = (const uint8_t *)t + t->length;

	memset(pin_of, NO_PIN, sizeof(pin_of));
	if (memcmp(t->signature, "PCMP", 4) || !sums_to_zero(t, t->length))
		panic("the MP table is broken");
	for (unsigned i = 0; i < t->entries && at < end; i++)
		at += read_entry(at);
	CHECK(at == end, "the table ends with its last entry");
	CHECK_EQ(t->lapic, 0xfee00000, "the local APICs' address");
}

static volatile unsigned cpus_seen;

static void count_cpu(void *arg)
{
	(void)arg;
	__atomic_fetch_add(&cpus_seen, 1, __ATOMIC_SEQ_CST);
}

static void start_cpus(void)
{
	CHECK_EQ(cpus, cmdline_u64("cpus", 1), "CPUs");
	CHECK_EQ(boot_cpu, lapic_read(0x20) >> 24, "the first CPU");
	for (unsigned i = 0; i < cpus; i++)
		if (cpu[i] != boot_cpu)
			CHECK(smp_start(cpu[i], count_cpu, NULL), "CPU %u starts", cpu[i]);
	CHECK(WAIT_UNTIL(cpus_seen == cpus - 1), "all CPUs ran");
}

static uint64_t number(const char **s)
{
	unsigned base = (*s)[0] == '0' && (*s)[1] == 'x' ? 16 : 10;
	uint64_t v = 0;

	for (*s += base == 16 ? 2 : 0;; ++*s) {
		unsigned c = (unsigned char)**s;
		unsigned digit = c >= 'a' ? c - 'a' + 10 : c > '9' ? base : c - '0';

		if (digit >= base)
			return v;
		v = v * base + digit;
	}
}

/* SIZE@ADDRESS:IRQ (Linux: virtio_mmio.device=). */
static struct vio parse_device(const char *word)
{
	uint64_t size = number(&word), irq;
	struct vio d = {.base = 0};

	if (*word == 'K')
		size <<= 10, word++;
	if (*word++ != '@' || size != 0x1000)
		panic("virtio_mmio.device: no size and address");
	d.base = number(&word);
	if (*word++ != ':')
		panic("virtio_mmio.device: no interrupt");
	irq = number(&word);
	if (*word || irq >= MAX_IRQS || pin_of[irq] == NO_PIN)
		panic("virtio_mmio.device: interrupt %lu is not in the MP tables", irq);
	d.pin = pin_of[irq];
	d.id = mmio_read32(d.base + VIRTIO_MMIO_DEVICE_ID);
	return d;
}

static void use_disk(struct vio *d)
{
	uint8_t *buf = alloc(SECTOR, SECTOR);
	struct blk r;

	if (!vio_start(d, 0, 1, 8))
		panic("the disk does not start");
	irq_route(d->pin, VECTOR, (uint8_t)boot_cpu);
	CHECK(WAIT_UNTIL(irq_count[VECTOR] == 1), "an interrupt after unmasking");
	CHECK_EQ(blk_do(&d->vq[0], &r, VIRTIO_BLK_T_IN, 0, &(struct sg){buf, SECTOR}, 1),
		 VIRTIO_BLK_S_OK, "reading a sector");
	CHECK(WAIT_UNTIL(irq_count[VECTOR] == 2), "its interrupt");
	irq_mask(d->pin);
}

void test_mptable(void)
{
	const struct table *table = find_table();
	unsigned devices = 0, disks = 0;

	if (!table)
		panic("no MP tables");
	read_table(table);
	start_cpus();
	for (const char *word = NULL; (word = cmdline_next("virtio_mmio.device", word));) {
		struct vio d = parse_device(word);

		devices++;
		if (d.id == VIRTIO_ID_BLOCK) {
			disks++;
			use_disk(&d);
		}
	}
	CHECK_EQ(devices, num_vio_devices, "devices on the command line");
	CHECK_EQ(disks, 1, "disks among them");
}
