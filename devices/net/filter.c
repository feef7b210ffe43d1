// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which packets the driver wants (section 5.1.6.5, receive filtering). Loops of all pairs look at
 * this while the control queue's changes it, so each number is atomic; a packet that comes in
 * between is judged by a part of the change.
 */
#include <endian.h>
#include <string.h>

#include "device.h"

#define TAGGED 0x8100u /* 802.1Q */

static uint64_t mac_number(const uint8_t mac[NET_MAC_LEN])
{
	uint64_t n = 0;

	memcpy(&n, mac, NET_MAC_LEN);
	return n;
}

void net_filter_reset(struct net_filter *f)
{
	atomic_store(&f->mode, NET_PROMISC);
	atomic_store(&f->num, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(f->vlans); i++)
		atomic_store(&f->vlans[i], 0);
}

void net_filter_own(struct net_filter *f, const uint8_t mac[NET_MAC_LEN])
{
	atomic_store(&f->own, mac_number(mac));
}

void net_filter_mode(struct net_filter *f, uint32_t bit, bool on)
{
	if (on)
		atomic_fetch_or(&f->mode, bit);
	else
		atomic_fetch_and(&f->mode, ~bit);
}

void net_filter_table(struct net_filter *f, const uint8_t (*macs)[NET_MAC_LEN], unsigned num,
		      uint32_t overflow)
{
	atomic_store(&f->num, 0);
	for (unsigned i = 0; i < num; i++)
		atomic_store(&f->mac[i], mac_number(macs[i]));
	atomic_store(&f->num, num);
	atomic_fetch_and(&f->mode, ~(NET_MORE_UNI | NET_MORE_MULTI));
	atomic_fetch_or(&f->mode, overflow);
}

void net_filter_vlan(struct net_filter *f, unsigned id, bool add)
{
	uint64_t bit = 1ull << id % 64;

	if (add)
		atomic_fetch_or(&f->vlans[id / 64], bit);
	else
		atomic_fetch_and(&f->vlans[id / 64], ~bit);
}

static bool wants_address(const struct net_filter *f, uint32_t mode, const uint8_t *to)
{
	bool multi = to[0] & 1;
	uint64_t mac = mac_number(to);

	if (mac == 0xffffffffffffull)
		return !(mode & NET_NOBCAST);
	if (mode & (multi ? NET_NOMULTI : NET_NOUNI))
		return false;
	if (mode & (multi ? NET_ALLMULTI | NET_MORE_MULTI : NET_ALLUNI | NET_MORE_UNI))
		return true;
	if (mac == atomic_load(&f->own))
		return true;
	for (unsigned i = 0, num = atomic_load(&f->num); i < num; i++)
		if (mac == atomic_load(&f->mac[i]))
			return true;
	return false;
}

bool net_filter_wants(const struct net_device *net, const struct iovec *iov, unsigned num)
{
	const struct net_filter *f = &net->filter;
	uint32_t mode = atomic_load(&f->mode);
	uint8_t start[16];
	unsigned vlan;

	if (mode & NET_PROMISC || iov_read(iov, num, NET_HEADER, start, sizeof(start)) < 14)
		return true;
	vlan = ((unsigned)start[14] << 8 | start[15]) & 0xfff;
	if (virtio_has(&net->dev, VIRTIO_NET_F_CTRL_VLAN) &&
	    ((unsigned)start[12] << 8 | start[13]) == TAGGED &&
	    !(atomic_load(&f->vlans[vlan / 64]) & 1ull << vlan % 64))
		return false;
	return wants_address(f, mode, start);
}

void net_filter_save(const struct net_filter *f, struct net_filter_state *ret)
{
	ret->mode = atomic_load(&f->mode);
	ret->num = atomic_load(&f->num);
	for (unsigned i = 0; i < NET_FILTER_MACS; i++)
		ret->mac[i] = atomic_load(&f->mac[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(ret->vlans); i++)
		ret->vlans[i] = atomic_load(&f->vlans[i]);
}

bool net_filter_restore(struct net_filter *f, const struct net_filter_state *s)
{
	if (s->num > NET_FILTER_MACS || s->mode > NET_MODES)
		return false;
	atomic_store(&f->mode, s->mode);
	for (unsigned i = 0; i < NET_FILTER_MACS; i++)
		atomic_store(&f->mac[i], s->mac[i]);
	atomic_store(&f->num, s->num);
	for (unsigned i = 0; i < ARRAY_SIZE(s->vlans); i++)
		atomic_store(&f->vlans[i], s->vlans[i]);
	return true;
}
