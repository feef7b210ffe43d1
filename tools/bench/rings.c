// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the format of a virtqueue costs: a driver and a device on two CPUs, over skep's split
 * virtqueues, and over packed ones (virtio 1.3, section 2.8) as fast as they can be: their device
 * trusts the driver and takes nothing but indirect tables. There is no guest and no I/O, and both
 * sides poll. A request is a header, 4 KiB and a status in an indirect table, as Linux makes them.
 *
 * usage: rings split|packed DEPTH MS
 *
 * Prints requests, ns, and device_ns, without the time in which the device had nothing to do.
 */
#include <immintrin.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "virtio/virtq.h"

#define SIZE  VIRTQ_MAX_SIZE
#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)
#define RAM   (4 * MIB)

static bool packed;
static struct virtq vq; /* of a packed one the areas are the ring, and what each side wants */
static uint8_t *ram;
static atomic_bool stop;

/* How far each side is. Indexes run freely in both formats: where the packed ring has wrapped an
 * odd number of times, bit SIZE is set. */
static struct {
	uint16_t avail, used;
} driver, device;

static struct vring_packed_desc *packed_at(uint16_t index)
{
	return (struct vring_packed_desc *)vq.desc + index % SIZE;
}

static uint16_t available(uint16_t index)
{
	return index & SIZE ? USED : AVAIL;
}

static uint16_t used(uint16_t index)
{
	return index & SIZE ? 0 : AVAIL | USED;
}

static void die(const char *what)
{
	fprintf(stderr, "rings: %s\n", what);
	exit(1);
}

/* On the nth of the CPUs that are allowed. */
static void run_on(unsigned nth)
{
	cpu_set_t all, set;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(all), &all))
		die("cannot tell the CPUs");
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && nth-- == 0)
			CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("takes two CPUs");
}

/* --- the device */

static bool packed_pop(struct virtq_chain *chain)
{
	const struct vring_packed_desc *d = packed_at(device.avail), *table;
	/* Length, ID and flags in one load. */
	uint64_t high = __atomic_load_n((const uint64_t *)(const void *)&d->len, __ATOMIC_ACQUIRE);

	if ((high >> 48 & (AVAIL | USED)) != available(device.avail))
		return false;
	table = (const void *)(ram + d->addr);
	chain->head = (uint16_t)(high >> 32);
	for (unsigned i = 0; i < (uint32_t)high / sizeof(*table); i++)
		chain->iov[i] = (struct iovec){ram + table[i].addr, table[i].len};
	device.avail++;
	return true;
}

/* All but the flags of the first, which publish the whole batch. */
static void packed_push(uint16_t id, uint32_t written, bool is_first)
{
	struct vring_packed_desc *d = packed_at(device.used);

	d->id = id;
	d->len = written;
	if (!is_first)
		d->flags = used(device.used) | VRING_DESC_F_WRITE;
	device.used++;
}

static void packed_publish(uint16_t n)
{
	uint16_t first = (uint16_t)(device.used - n);

	__atomic_store_n(&packed_at(first)->flags, used(first) | VRING_DESC_F_WRITE,
			 __ATOMIC_SEQ_CST);
	(void)__atomic_load_n((uint32_t *)vq.avail, __ATOMIC_SEQ_CST); /* an interrupt? */
}

/* Pops what there is, completes it, and returns how much it was. */
static uint16_t work(void)
{
	static struct iovec iov[SIZE + 1][3];
	static uint16_t heads[SIZE + 1];
	struct virtq_chain chain = {.iov = iov[0], .max_iov = 3};
	const char *why = "";
	uint16_t n = 0;
	int r;

	while ((r = packed ? packed_pop(&chain) : virtq_pop(&vq, &chain, &why)) > 0) {
		heads[n++] = chain.head;
		chain.iov = iov[n];
	}
	if (r < 0)
		die(why);
	for (uint16_t i = 0; i < n; i++) {
		*(volatile uint8_t *)iov[i][2].iov_base = *(volatile uint8_t *)iov[i][0].iov_base;
		if (packed)
			packed_push(heads[i], 4097, i == 0);
		else
			virtq_push(&vq, heads[i], 4097);
	}
	if (n && packed)
		packed_publish(n);
	else if (n)
		virtq_publish(&vq);
	return n;
}

static void *run_device(void *ret)
{
	uint64_t ns = 0;

	run_on(1);
	while (!stop) {
		uint64_t start = now_ns();

		if (work())
			ns += now_ns() - start;
		else
			_mm_pause();
	}
	*(uint64_t *)ret = ns;
	return NULL;
}

/* --- the driver */

static struct request {
	struct vring_desc table[3] __attribute__((aligned(64)));
	struct {
		uint8_t header[16], status;
	} frame __attribute__((aligned(64)));
	uint8_t data[4096] __attribute__((aligned(64)));
} * requests;

static uint64_t gpa(const void *p)
{
	return (uint64_t)((const uint8_t *)p - ram);
}

static void packed_add(uint16_t n, struct request *r)
{
	struct vring_packed_desc *d = packed_at(driver.avail), *table = (void *)r->table;

	table[0] = (struct vring_packed_desc){gpa(r->frame.header), 16, 0, 0};
	table[1] = (struct vring_packed_desc){gpa(r->data), 4096, 0, VRING_DESC_F_WRITE};
	table[2] = (struct vring_packed_desc){gpa(&r->frame.status), 1, 0, VRING_DESC_F_WRITE};
	d->addr = gpa(table);
	d->len = sizeof(r->table);
	d->id = n;
	__atomic_store_n(&d->flags, available(driver.avail) | VRING_DESC_F_INDIRECT,
			 __ATOMIC_RELEASE);
	driver.avail++;
}

static void split_add(uint16_t n, struct request *r)
{
	const uint16_t next = VRING_DESC_F_NEXT, write = VRING_DESC_F_WRITE;
	struct vring_desc *desc = vq.desc;
	struct vring_avail *avail = vq.avail;

	r->table[0] = (struct vring_desc){gpa(r->frame.header), 16, next, 1};
	r->table[1] = (struct vring_desc){gpa(r->data), 4096, next | write, 2};
	r->table[2] = (struct vring_desc){gpa(&r->frame.status), 1, write, 0};
	desc[n] = (struct vring_desc){gpa(r->table), sizeof(r->table), VRING_DESC_F_INDIRECT, 0};
	avail->ring[driver.avail++ % SIZE] = n;
	__atomic_store_n(&avail->idx, driver.avail, __ATOMIC_RELEASE);
}

static void add(uint16_t n)
{
	requests[n].frame.header[0]++;
	if (packed)
		packed_add(n, &requests[n]);
	else
		split_add(n, &requests[n]);
}

/* The next request that is done, or -1. */
static int next_done(void)
{
	const struct vring_packed_desc *d = packed_at(driver.used);
	const struct vring_used *ring = vq.used;

	if (packed) {
		uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);

		return (flags & (AVAIL | USED)) == used(driver.used) ? driver.used++, d->id : -1;
	}
	if (__atomic_load_n(&ring->idx, __ATOMIC_ACQUIRE) == driver.used)
		return -1;
	return (int)ring->ring[driver.used++ % SIZE].id;
}

/* Keeps `depth` requests in flight until `end`; how many were done. */
static uint64_t run_driver(uint16_t depth, uint64_t end)
{
	uint64_t done = 0;
	bool over = false;

	for (uint16_t i = 0; i < depth; i++)
		add(i);
	for (unsigned left = depth; left; over = now_ns() >= end) {
		int n;

		while ((n = next_done()) >= 0) {
			if (requests[n].frame.status != requests[n].frame.header[0])
				die("not what was asked for");
			done++;
			if (over)
				left--;
			else
				add((uint16_t)n);
		}
		_mm_pause();
	}
	return done;
}

int main(int argc, char **argv)
{
	unsigned depth = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	uint64_t start, ns, done, device_ns;
	struct gmem mem;
	struct error e;
	pthread_t thread;
	const char *why;

	if (!depth || depth > SIZE)
		die("usage: rings split|packed DEPTH MS");
	packed = !strcmp(argv[1], "packed");
	if (gmem_create(&mem, RAM, &e))
		die("no memory");
	ram = memset(mem.region[0].host, 0, RAM);
	requests = (struct request *)(void *)(ram + MIB);
	vq = (struct virtq){
		.max_size = SIZE, .size = SIZE, .avail_gpa = {8192}, .used_gpa = {16384}};
	if (virtq_activate(&vq, &mem, ~0ull, &why))
		die(why);
	if (pthread_create(&thread, NULL, run_device, &device_ns))
		die("no thread");
	run_on(0); /* the device's thread has not inherited this */
	start = now_ns();
	done = run_driver((uint16_t)depth, start + strtoull(argv[3], NULL, 10) * 1000000);
	ns = now_ns() - start;
	stop = true;
	if (pthread_join(thread, NULL))
		die("the device did not end");
	printf("requests=%lu ns=%lu device_ns=%lu\n", done, ns, device_ns);
	return 0;
}
