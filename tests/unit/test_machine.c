// SPDX-License-Identifier: BSD-2-Clause
/* What of the machine needs no KVM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "kvm/machine.h"

#define ENTRIES	 16u
#define REGISTER 0x1000u

struct ring {
	struct machine m;
	unsigned applied, more; /* entries that vCPUs still add, one for each that is applied */
};

static void add_entry(struct kvm_coalesced_mmio_ring *ring, uint8_t value)
{
	ring->coalesced_mmio[ring->last] =
		(struct kvm_coalesced_mmio){.phys_addr = REGISTER, .len = 4, .data = {value}};
	ring->last = (ring->last + 1) % ENTRIES;
}

static void applied(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct ring *r = ctx;

	(void)offset;
	assert_int_equal(len, 4);
	assert_int_equal(*(const uint8_t *)data, (uint8_t)r->applied);
	r->applied++;
	if (r->more) {
		r->more--;
		add_entry(r->m.coalesced, (uint8_t)(r->applied + 2));
	}
}

static void nothing_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	(void)ctx, (void)offset, (void)data, (void)len;
}

static const struct bus_ops ops = {nothing_read, applied};

/* While vCPUs go on acknowledging, who drains takes what was there, and returns. */
static void test_drain_does_not_wait_for_what_comes_meanwhile(void **state)
{
	struct ring r = {.more = 1000, .m.coalesced_max = ENTRIES};

	(void)state;
	r.m.coalesced =
		calloc(1, sizeof(*r.m.coalesced) + ENTRIES * sizeof(struct kvm_coalesced_mmio));
	assert_non_null(r.m.coalesced);
	pthread_mutex_init(&r.m.drain_lock, NULL);
	assert_int_equal(bus_add(&r.m.mmio, REGISTER, 4, &ops, &r), 0);
	for (uint8_t i = 0; i < 3; i++)
		add_entry(r.m.coalesced, i);
	machine_drain(&r.m);
	assert_int_equal(r.applied, 3);
	assert_int_equal(r.m.drained, 3);
	r.more = 0;
	machine_drain(&r.m);
	assert_int_equal(r.applied, 6);
	machine_drain(&r.m);
	assert_int_equal(r.applied, 6);
	pthread_mutex_destroy(&r.m.drain_lock);
	free(r.m.coalesced);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drain_does_not_wait_for_what_comes_meanwhile),
	};

	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
