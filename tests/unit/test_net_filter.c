// SPDX-License-Identifier: BSD-2-Clause
/* Which packets the driver wants, and news that it is to tell the network. */
#include "net_fixture.h"

static const uint8_t everybody[NET_MAC_LEN] = {255, 255, 255, 255, 255, 255},
		     some[NET_MAC_LEN] = {2, 0, 0, 0, 0, 9},
		     group[NET_MAC_LEN] = {1, 0, 0x5e, 1, 2, 3};

struct guest {
	struct fixture *f;
	gpa_t at; /* of the next receive buffer */
};

static struct guest start_guest(uint64_t features)
{
	struct guest g = {.f = start(features)};

	g.at = offer(g.f, 200, 1536);
	return g;
}

static void mode(struct guest *g, uint8_t cmd, uint8_t on)
{
	assert_int_equal(control(g->f, 2, VIRTIO_NET_CTRL_RX, cmd, &on, 1), VIRTIO_NET_OK);
}

/* A frame to that address, on that VLAN; 0: without a tag. */
static void send_to(struct guest *g, const uint8_t *to, uint16_t vlan, uint8_t seed)
{
	uint8_t frame[100];

	make_frame(frame, sizeof(frame), seed);
	memcpy(frame, to, NET_MAC_LEN);
	if (vlan)
		memcpy(frame + 12, (uint8_t[]){0x81, 0, (uint8_t)(vlan >> 8), (uint8_t)vlan}, 4);
	assert_int_equal(send(g->f->host, frame, sizeof(frame), 0), sizeof(frame));
}

/* Whether one gets to the guest: else the next one, which is its own, is the first to arrive. */
static bool gets(struct guest *g, const uint8_t *to, uint16_t vlan)
{
	const uint8_t *got = drv_ptr(&g->f->d, GPA(g->at.v + HEADER), 100);
	uint32_t id, used;
	bool came;

	send_to(g, to, vlan, 1);
	send_to(g, mac, 0, 2);
	drv_wait_used(&g->f->d.queue[0], &id, &used);
	assert_int_equal(used, HEADER + 100);
	came = got[99] == (uint8_t)(1 + 99 * 7);
	g->at.v += 1536;
	if (came) {
		assert_memory_equal(got, to, NET_MAC_LEN);
		drv_wait_used(&g->f->d.queue[0], &id, &used);
		g->at.v += 1536;
	}
	return came;
}

static void test_all_until_the_driver_says_otherwise(void **state)
{
	struct guest g = start_guest(ALL);

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		assert_true(gets(&g, some, 0) && gets(&g, group, 0) && gets(&g, everybody, 0));
		assert_true(gets(&g, some, 7));
		mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
		assert_false(gets(&g, some, 0));
		assert_false(gets(&g, group, 0));
		assert_true(gets(&g, everybody, 0));
		drv_start(&g.f->d, ALL, 0);
		g.at = offer(g.f, 200, 1536);
	}
	end(g.f);
}

static void test_modes(void **state)
{
	struct guest g = start_guest(ALL);

	(void)state;
	mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	mode(&g, VIRTIO_NET_CTRL_RX_ALLMULTI, 1);
	assert_true(gets(&g, group, 0) && !gets(&g, some, 0));
	mode(&g, VIRTIO_NET_CTRL_RX_ALLMULTI, 0);
	mode(&g, VIRTIO_NET_CTRL_RX_ALLUNI, 1);
	assert_true(gets(&g, some, 0) && !gets(&g, group, 0));
	mode(&g, VIRTIO_NET_CTRL_RX_NOBCAST, 1);
	assert_false(gets(&g, everybody, 0));
	mode(&g, VIRTIO_NET_CTRL_RX_ALLMULTI, 1);
	mode(&g, VIRTIO_NET_CTRL_RX_NOMULTI, 1);
	assert_false(gets(&g, group, 0));
	end(g.f);
}

/* So many unicast addresses, of which `some` is the last, and multicast ones, which end with `group`. */
static uint8_t set_table(struct guest *g, uint32_t uni, uint32_t multi, uint32_t len)
{
	uint8_t data[1024] = {0}, *at = data;

	memcpy(at, &uni, 4);
	at += 4 + uni * NET_MAC_LEN;
	if (uni)
		memcpy(at - NET_MAC_LEN, some, NET_MAC_LEN);
	memcpy(at, &multi, 4);
	at += 4 + multi * NET_MAC_LEN;
	if (multi)
		memcpy(at - NET_MAC_LEN, group, NET_MAC_LEN);
	return control(g->f, 2, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data,
		       MIN(len, (uint32_t)(at - data)));
}

static void test_addresses(void **state)
{
	static const uint8_t other[NET_MAC_LEN] = {2, 7}, other_group[NET_MAC_LEN] = {3, 7};
	struct guest g = start_guest(ALL);

	(void)state;
	mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	assert_int_equal(set_table(&g, 3, 2, UINT32_MAX), VIRTIO_NET_OK);
	assert_true(gets(&g, some, 0) && gets(&g, group, 0));
	assert_true(!gets(&g, other, 0) && !gets(&g, other_group, 0));
	/* Where there is no room for all, all of that kind come. */
	assert_int_equal(set_table(&g, 60, 2, UINT32_MAX), VIRTIO_NET_OK);
	assert_true(gets(&g, some, 0) && gets(&g, other, 0));
	assert_int_equal(set_table(&g, 1, 60, UINT32_MAX), VIRTIO_NET_OK);
	assert_true(gets(&g, group, 0) && gets(&g, other_group, 0) && !gets(&g, other, 0));
	/* What is cut off changes nothing. */
	for (uint32_t len = 0; len < 4 + 6 + 4 + 6; len++)
		assert_int_equal(set_table(&g, 1, 1, len), VIRTIO_NET_ERR);
	assert_true(gets(&g, other_group, 0));
	assert_int_equal(set_table(&g, 0, 0, UINT32_MAX), VIRTIO_NET_OK);
	assert_true(!gets(&g, some, 0) && !gets(&g, group, 0));
	end(g.f);
}

static uint8_t set_vlan(struct guest *g, uint8_t cmd, uint16_t id)
{
	return control(g->f, 2, VIRTIO_NET_CTRL_VLAN, cmd, &id, 2);
}

static void test_vlans(void **state)
{
	struct guest g = start_guest(ALL);

	(void)state;
	mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	assert_false(gets(&g, mac, 7));
	assert_int_equal(set_vlan(&g, VIRTIO_NET_CTRL_VLAN_ADD, 7), VIRTIO_NET_OK);
	assert_int_equal(set_vlan(&g, VIRTIO_NET_CTRL_VLAN_ADD, 4095), VIRTIO_NET_OK);
	assert_true(gets(&g, mac, 7) && gets(&g, mac, 4095) && !gets(&g, mac, 8));
	assert_int_equal(set_vlan(&g, VIRTIO_NET_CTRL_VLAN_DEL, 7), VIRTIO_NET_OK);
	assert_false(gets(&g, mac, 7));
	assert_int_equal(set_vlan(&g, VIRTIO_NET_CTRL_VLAN_ADD, 4096), VIRTIO_NET_ERR);
	end(g.f);
	g = start_guest(ALL & ~BIT(VIRTIO_NET_F_CTRL_VLAN));
	mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	assert_true(gets(&g, mac, 7));
	assert_int_equal(set_vlan(&g, VIRTIO_NET_CTRL_VLAN_ADD, 7), VIRTIO_NET_ERR);
	end(g.f);
}

static void test_what_was_not_negotiated(void **state)
{
	struct guest g =
		start_guest(ALL & ~(BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |
				    BIT(VIRTIO_NET_F_GUEST_ANNOUNCE)));
	uint8_t byte = 0;

	(void)state;
	for (uint8_t cmd = 0; cmd < 8; cmd++)
		assert_int_equal(control(g.f, 2, VIRTIO_NET_CTRL_RX, cmd, &byte, 1),
				 VIRTIO_NET_ERR);
	assert_int_equal(set_table(&g, 1, 1, UINT32_MAX), VIRTIO_NET_ERR);
	assert_int_equal(
		control(g.f, 2, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, &byte, 0),
		VIRTIO_NET_ERR);
	net_set_link(g.f->dev, true);
	assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP);
	assert_true(gets(&g, some, 0));
	end(g.f);
}

/* A link that comes up may be at another place of the network: so the guest tells it of itself. */
static void test_the_guest_announces_itself(void **state)
{
	struct guest g = start_guest(ALL);

	(void)state;
	assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP);
	for (unsigned round = 0; round < 2; round++) {
		net_set_link(g.f->dev, false);
		assert_int_equal(whole_status(g.f), 0);
		drv_irqs(&g.f->d);
		net_set_link(g.f->dev, true);
		assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
		assert_int_equal(drv_irqs(&g.f->d), 1);
		assert_int_equal(control(g.f, 2, VIRTIO_NET_CTRL_ANNOUNCE,
					 VIRTIO_NET_CTRL_ANNOUNCE_ACK, "", 0),
				 VIRTIO_NET_OK);
		assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP);
	}
	net_set_link(g.f->dev, true);
	drv_start(&g.f->d, ALL, 0); /* the next driver has nothing to announce */
	assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP);
	end(g.f);
}

static void test_another_device_goes_on(void **state)
{
	static struct virtio_state saved;
	struct guest g = start_guest(ALL);
	struct error e = {""};

	(void)state;
	mode(&g, VIRTIO_NET_CTRL_RX_PROMISC, 0);
	set_table(&g, 3, 0, UINT32_MAX);
	set_vlan(&g, VIRTIO_NET_CTRL_VLAN_ADD, 4095);
	virtio_dev_pause(g.f->dev);
	if (virtio_dev_save(g.f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	down(g.f);
	memset(g.f->d.page, 0, VIRTIO_MMIO_PAGE);
	up(g.f);
	if (virtio_dev_restore(g.f->dev, &saved, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(whole_status(g.f), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_true(gets(&g, some, 0) && gets(&g, mac, 4095) && !gets(&g, mac, 7) &&
		    !gets(&g, group, 0));
	end(g.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_until_the_driver_says_otherwise),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_vlans),
		cmocka_unit_test(test_what_was_not_negotiated),
		cmocka_unit_test(test_the_guest_announces_itself),
		cmocka_unit_test(test_another_device_goes_on),
	};

	return NET_TESTS(tests);
}
