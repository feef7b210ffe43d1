// SPDX-License-Identifier: BSD-2-Clause
/* The option --net. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "config.h"

#define MIN_MTU 68u /* RFC 791 */

static const struct setting settings[] = {
	{"tap", .arg = "NAME", STRING_FIELD(net_config, tap),
	 .help = "the host's tap device; it is made where there is none and the user may"},
	{"mac", .arg = "ADDRESS", TEXT_FIELD(net_config, mac),
	 .help = "the guest's Ethernet address, like 02:00:00:00:00:01 (default: one that this tap "
		 "always has on this host)"},
	{"queues", .arg = "N", COUNT_FIELD(net_config, queues), .min = 1, .max = NET_MAX_PAIRS,
	 .help = "pairs of queues, each with a thread, 1 to 16; more than 1 needs a tap made with "
		 "multi_queue (default: 1)"},
	{"mtu", .arg = "BYTES", COUNT_FIELD(net_config, mtu), .max = 65535,
	 .help = "the largest packet that the guest sends (default: 0, the tap's MTU)"},
	{.name = NULL},
};

static int parse_mac(const char *text, uint8_t ret[NET_MAC_LEN])
{
	int end = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &ret[0], &ret[1], &ret[2],
		   &ret[3], &ret[4], &ret[5], &end) != 6 ||
	    text[end] || strlen(text) != 17)
		return -EINVAL;
	return 0;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3u;
	return h;
}

int net_mac(const struct net_config *config, uint8_t ret[NET_MAC_LEN], struct error *e)
{
	_cleanup_close_ int fd = -1;
	char id[64] = "";
	uint64_t h;

	if (config->mac[0]) {
		if (parse_mac(config->mac, ret) < 0)
			return error_set(e, -EINVAL,
					 "mac: '%s' is no Ethernet address: write it like "
					 "02:00:00:00:00:01",
					 config->mac);
		if (ret[0] & 1)
			return error_set(
				e, -EINVAL,
				"mac: '%s' is a group address: the first byte must be even",
				config->mac);
		return 0;
	}
	fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!read(fd, id, sizeof(id) - 1);
	h = hash(hash(0xcbf29ce484222325u, id), config->tap);
	for (unsigned i = 0; i < NET_MAC_LEN; i++)
		ret[i] = (uint8_t)(h >> 8 * i);
	ret[0] = (uint8_t)((ret[0] & 0xfcu) | 2u);
	return 0;
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct net_config *nets = configs;
	uint8_t mac[NET_MAC_LEN];

	for (size_t i = 0; i < num; i++) {
		if (!nets[i].tap)
			return error_set(e, -EINVAL,
					 "network device %zu has no tap: --net tap=NAME", i + 1);
		if (nets[i].mtu && nets[i].mtu < MIN_MTU)
			return error_set(e, -EINVAL,
					 "network device %zu (%s): an mtu is at least %u bytes",
					 i + 1, nets[i].tap, MIN_MTU);
		if (nets[i].mac[0] && net_mac(&nets[i], mac, e) < 0)
			return error_prefix(e, -EINVAL, "network device %zu (%s)", i + 1,
					    nets[i].tap);
		for (size_t j = 0; j < i; j++)
			if (strcmp(nets[i].tap, nets[j].tap) == 0)
				return error_set(e, -EINVAL,
						 "network devices %zu and %zu are both on tap %s: "
						 "give each its own",
						 j + 1, i + 1, nets[i].tap);
	}
	return 0;
}

const struct device_options net_options = {
	.name = "net",
	.plural = "nets",
	.what = "a network device",
	.max = NET_MAX,
	.option = {.letter = 'n',
		   .arg = "tap=NAME[,OPTION...]",
		   .help = "add a network device (repeatable); see below"},
	.size = sizeof(struct net_config),
	.defaults = &(const struct net_config){.queues = 1},
	.settings = settings,
	.named = true,
	.check = check,
};
