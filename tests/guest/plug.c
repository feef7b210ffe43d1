// SPDX-License-Identifier: BSD-2-Clause
/* The memory device: blocks come and go, and what is unplugged is nobody's, least of all a device's. */
#include <linux/virtio_mem.h>

#include "support.h"

#define ALL_ONES (~(uint64_t)0)

static struct vio *mem;
static uint64_t base, block, region, requested;

static uint64_t config(size_t offset)
{
	return vio_config(mem, (uint32_t)offset, 8);
}
#define CONFIG(member) config(offsetof(struct virtio_mem_config, member))

/* The answer to a request; -1: none came. */
static int ask(uint16_t type, uint64_t addr, uint16_t num)
{
	struct virtio_mem_req req = {.type = type, .u.plug = {.addr = addr, .nb_blocks = num}};
	struct virtio_mem_resp resp = {.type = 0xffff};

	if (vq_do(&mem->vq[0], (struct sg[]){{&req, sizeof(req)}, {&resp, sizeof(resp)}}, 1, 1) !=
	    sizeof(resp))
		return -1;
	return type == VIRTIO_MEM_REQ_STATE && resp.type == VIRTIO_MEM_RESP_ACK
		       ? 0x100 + resp.u.state.state
		       : resp.type;
}

static int plug(uint64_t i)
{
	return ask(VIRTIO_MEM_REQ_PLUG, base + i * block, 1);
}

static int unplug(uint64_t i)
{
	return ask(VIRTIO_MEM_REQ_UNPLUG, base + i * block, 1);
}

static volatile uint64_t *at(uint64_t i)
{
	return (volatile uint64_t *)(base + i * block);
}

/* As the host was told to make it by the test's script. */
static void set_up(void)
{
	mem = need(VIRTIO_ID_MEM, 0);
	CHECK(vio_start(mem, ALL_ONES, 1, 16), "start");
	base = CONFIG(addr);
	block = CONFIG(block_size);
	region = CONFIG(region_size);
	map_high(base, region);
	CHECK(base >= 4ull << 30 && base >= ram_top, "the region is above all RAM");
	CHECK(region / block >= 8, "it has some blocks");
	CHECK(!is_ram(base), "and is no RAM of the memory map");
	/* So Linux takes it into use. */
	CHECK(cmdline_get("memhp_default_state") &&
		      !strcmp(cmdline_get("memhp_default_state"), "online_movable"),
	      "the command line tells Linux what to do with it");
	print("ready\n");
	CHECK(WAIT_UNTIL(CONFIG(requested_size) == 4 * block), "the host asks for four blocks");
	requested = CONFIG(requested_size);
}

/* Whether a device can write there. */
static bool reaches(uint64_t addr)
{
	struct vio *rng = need(VIRTIO_ID_RNG, 0);

	return vio_start(rng, 0, 1, 16) &&
	       vq_do(&rng->vq[0], (struct sg[]){{(void *)addr, 64}}, 0, 1) == 64;
}

static bool needs_reset(const struct vio *d)
{
	return vio_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static bool is_refused(uint64_t addr, uint32_t len)
{
	struct vio *rng = need(VIRTIO_ID_RNG, 0);

	vio_start(rng, 0, 1, 16);
	vq_set_desc(&rng->vq[0], 0, addr, len, VRING_DESC_F_WRITE, 0);
	vq_offer(&rng->vq[0], 0);
	vq_notify(&rng->vq[0]);
	return WAIT_UNTIL(needs_reset(rng));
}

static void check_answers(void)
{
	uint64_t blocks = region / block;

	CHECK_EQ(plug(0), VIRTIO_MEM_RESP_ACK, "plug");
	CHECK_EQ(plug(0), VIRTIO_MEM_RESP_ERROR, "plug what is plugged");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base, 2), VIRTIO_MEM_RESP_ERROR, "in part");
	CHECK_EQ(unplug(1), VIRTIO_MEM_RESP_ERROR, "unplug what is not");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base + block, 4), VIRTIO_MEM_RESP_NACK, "too much");
	CHECK_EQ(plug(blocks), VIRTIO_MEM_RESP_ERROR, "outside");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base + block + 4096, 1), VIRTIO_MEM_RESP_ERROR, "amid");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base - block, 2), VIRTIO_MEM_RESP_ERROR, "below");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base + block, 0), VIRTIO_MEM_RESP_ERROR, "none");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base + block, 0xffff), VIRTIO_MEM_RESP_ERROR, "many");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ERROR, "RAM");
	CHECK_EQ(ask(17, base, 1), VIRTIO_MEM_RESP_ERROR, "an unknown request");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_STATE, base, 1), 0x100 + VIRTIO_MEM_STATE_PLUGGED, "state");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_STATE, base, 2), 0x100 + VIRTIO_MEM_STATE_MIXED, "mixed");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_STATE, base + block, 1), 0x100 + VIRTIO_MEM_STATE_UNPLUGGED,
		 "unplugged");
	CHECK_EQ(CONFIG(plugged_size), block, "plugged");
}

static void check_memory(void)
{
	CHECK_EQ(ask(VIRTIO_MEM_REQ_PLUG, base + block, 3), VIRTIO_MEM_RESP_ACK, "three more");
	for (uint64_t i = 0; i < 4; i++)
		*at(i) = i + 1;
	CHECK(*at(0) == 1 && *at(1) == 2 && *at(3) == 4, "it is memory");
	CHECK(reaches(base + block - 32), "for devices too, across blocks");
	CHECK_EQ(unplug(1), VIRTIO_MEM_RESP_ACK, "unplug");
	CHECK(*at(1) == ALL_ONES, "then nothing is there");
	*at(1) = 5;
	CHECK(*at(1) == ALL_ONES, "nor can it be written");
	CHECK(is_refused(base + block, 64), "a device refuses it");
	CHECK(is_refused(base + block - 32, 64), "and a buffer that begins before it");
	CHECK(is_refused(base + 2 * block - 32, 64), "or ends behind it");
	CHECK(is_refused(base + 4 * block, 64), "and what was never plugged");
	CHECK(reaches(base), "but takes what is plugged");
	CHECK_EQ(*at(2), 3, "which has what it had");
	CHECK_EQ(plug(1), VIRTIO_MEM_RESP_ACK, "plug again");
	CHECK_EQ(*at(1), 0, "it has gone to the host in between");
}

static bool reset_keeps(void)
{
	return vio_reset(mem) && vio_start(mem, ALL_ONES, 1, 16);
}

void test_memory(void)
{
	set_up();
	check_answers();
	check_memory();
	CHECK(reset_keeps() && CONFIG(plugged_size) == requested && *at(2) == 3,
	      "a reset leaves the memory");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0), VIRTIO_MEM_RESP_ACK, "unplug all");
	CHECK(CONFIG(plugged_size) == 0 && *at(0) == ALL_ONES && *at(3) == ALL_ONES, "all is gone");
}

/* One CPU plugs and unplugs blocks, also with requests of a device in flight to them; another one
 * touches them all the time. */
static volatile bool over, stopped;

static void touch(void *arg)
{
	uint64_t rnd = 5;

	(void)arg;
	while (!over) {
		volatile uint64_t *p = at(random64(&rnd) % 5) + random64(&rnd) % (block / 8);

		*p = *p + 1;
	}
	stopped = true;
}

void test_memory_race(void)
{
	struct vio *disk = need(VIRTIO_ID_BLOCK, 0);
	struct virtio_blk_outhdr *hdr = alloc(sizeof(*hdr), 16);
	unsigned acks = 0, resets = 0;

	set_up();
	CHECK(smp_start(1, touch, NULL), "the other CPU");
	for (unsigned n = 0; n < cmdline_u64("n", 200); n++) {
		uint64_t i = n % 5;
		size_t mark = heap_mark();

		acks += plug(i) == VIRTIO_MEM_RESP_ACK;
		if (needs_reset(disk) || n % 4 == 0) {
			resets += needs_reset(disk);
			vio_start(disk, 0, 1, 16);
		}
		/* The data, and where the status goes. */
		vq_add(&disk->vq[0],
		       (struct sg[]){
			       {hdr, 16}, {(void *)at(i), 65536}, {(void *)(at(i) + 16384), 1}},
		       1, 2);
		vq_publish(&disk->vq[0]);
		vq_notify(&disk->vq[0]);
		acks += unplug(i) == VIRTIO_MEM_RESP_ACK;
		heap_release(mark);
	}
	over = true;
	CHECK(WAIT_UNTIL(stopped) && vio_reset(disk), "the other CPU stops, and the disk");
	print("# %u blocks came or went, %u resets of the disk\n", acks, resets);
	CHECK(acks >= cmdline_u64("n", 200), "all could be plugged and unplugged");
	CHECK_EQ(ask(VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0), VIRTIO_MEM_RESP_ACK, "unplug all");
	CHECK(vio_start(disk, 0, 1, 16) && bystander_works(mem), "other devices work");
}
