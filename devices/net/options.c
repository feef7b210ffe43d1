// SPDX-License-Identifier: BSD-2-Clause
/* The option --net. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/util.h"
#include "config.h"

#define MIN_MTU 68u /* RFC 791 */

static const struct setting settings[] = {
	{"tap", .arg = "NAME", STRING_FIELD(net_config, tap),
	 .help = "the host's tap device; it is made where there is none and the user may"},
	{"passt", BOOL_FIELD(net_config, passt),
	 .help = "the host's network without root, by the program passt, which is started: it "
		 "tells "
		 "the guest its address by DHCP"},
	{"vhost", BOOL_FIELD(net_config, vhost),
	 .help = "with a tap, the host's kernel moves the packets (vhost-net), where it can"},
	{"forward", .arg = "[ADDRESS/]HOST:GUEST[/udp]", LIST_FIELD(net_config, forward),
	 .max = NET_MAX_FORWARDS,
	 .help = "with passt, connections to this port of the host come to that port of the guest "
		 "(repeatable)"},
	{"host-loopback", BOOL_FIELD(net_config, host_loopback),
	 .help = "with passt, what the guest connects to at its gateway's address gets to the "
		 "host's loopback, 127.0.0.1"},
	{"socket", .arg = "PATH", STRING_FIELD(net_config, socket),
	 .help = "a Unix socket at the other end of which is another VM, or a switch"},
	{"listen", BOOL_FIELD(net_config, listen),
	 .help = "make the socket, and wait there for the other end"},
	{"fd", .arg = "N", COUNT_FIELD(net_config, fd), .max = INT_MAX,
	 .help = "a descriptor that skep inherits: a tap, or a connected stream socket"},
	{"mac", .arg = "ADDRESS", TEXT_FIELD(net_config, mac),
	 .help = "the guest's Ethernet address, like 02:00:00:00:00:01 (default: one that stays "
		 "the "
		 "same with tap and passt, else a random one)"},
	{"queues", .arg = "N", COUNT_FIELD(net_config, queues), .min = 1, .max = NET_MAX_PAIRS,
	 .help = "with tap, pairs of queues, each with a thread, 1 to 16; more than 1 needs a tap "
		 "made with multi_queue (default: 1)"},
	{"mtu", .arg = "BYTES", COUNT_FIELD(net_config, mtu), .max = 65535,
	 .help = "the largest packet that the guest sends (default: the tap's MTU, 65520 with "
		 "passt, "
		 "1500 on a socket)"},
	{"rx-bps", .arg = "SIZE", BYTES_FIELD(net_config, rx_bps),
	 .help = "bytes per second to the guest, like 100M (default: 0, no limit)"},
	{"tx-bps", .arg = "SIZE", BYTES_FIELD(net_config, tx_bps),
	 .help = "the same from the guest (default: 0, no limit)"},
	{"rx-pps", .arg = "N", COUNT_FIELD(net_config, rx_pps), .max = NET_MAX_PPS,
	 .help = "packets per second to the guest (default: 0, no limit)"},
	{"tx-pps", .arg = "N", COUNT_FIELD(net_config, tx_pps), .max = NET_MAX_PPS,
	 .help = "the same from the guest (default: 0, no limit)"},
	{"burst", .arg = "TIME", DURATION_FIELD(net_config, burst_ns),
	 .help = "for how long unused bytes and packets may be saved up (default: 100ms)"},
	{.name = NULL},
};

static int parse_port(const char **text, uint16_t *ret)
{
	char *end;
	unsigned long n = strtoul(*text, &end, 10);

	if (**text < '0' || **text > '9' || end - *text > 5 || n < 1 || n > UINT16_MAX)
		return -EINVAL;
	*text = end;
	*ret = (uint16_t)n;
	return 0;
}

static int parse_address(const char *text, size_t len, struct net_forward *ret)
{
	if (len >= sizeof(ret->text))
		return -EINVAL;
	memcpy(ret->text, text, len);
	ret->family = AF_INET;
	if (inet_pton(AF_INET, ret->text, ret->address) == 1)
		return 0;
	ret->family = AF_INET6;
	return inet_pton(AF_INET6, ret->text, ret->address) == 1 ? 0 : -EINVAL;
}

int net_forward(const char *text, struct net_forward *ret, struct error *e)
{
	const char *slash = strchr(text, '/'), *at = text;
	int r = 0;

	*ret = (struct net_forward){.family = 0};
	if (slash && slash[1] >= '0' && slash[1] <= '9') {
		r = parse_address(text, (size_t)(slash - text), ret);
		at = slash + 1;
	}
	if (r == 0)
		r = parse_port(&at, &ret->host);
	if (r == 0)
		r = *at++ == ':' ? parse_port(&at, &ret->guest) : -EINVAL;
	ret->udp = r == 0 && strcmp(at, "/udp") == 0;
	if (r < 0 || (*at && !ret->udp))
		return error_set(e, -EINVAL,
				 "forward: '%.60s' is not like 8080:80, 127.0.0.1/8080:80 or "
				 "5353:53/udp",
				 text);
	return 0;
}

const char *net_name(const struct net_config *config, char ret[NET_NAME_LEN])
{
	if (config->fd)
		snprintf(ret, NET_NAME_LEN, "fd %u", config->fd);
	else
		snprintf(ret, NET_NAME_LEN, "%s",
			 config->passt	  ? "passt"
			 : config->socket ? config->socket
					  : config->tap);
	return ret;
}

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

static int given_mac(const char *text, uint8_t ret[NET_MAC_LEN], struct error *e)
{
	if (parse_mac(text, ret) < 0)
		return error_set(
			e, -EINVAL,
			"mac: '%s' is no Ethernet address: write it like 02:00:00:00:00:01", text);
	if (ret[0] & 1 || memcmp(ret, (const uint8_t[NET_MAC_LEN]){0}, NET_MAC_LEN) == 0)
		return error_set(e, -EINVAL,
				 "mac: '%s' is the address of a group, or of nobody: the first "
				 "byte must be even, like 02",
				 text);
	return 0;
}

int net_mac(const struct net_config *config, unsigned index, uint8_t ret[NET_MAC_LEN],
	    struct error *e)
{
	_cleanup_close_ int fd = -1;
	char id[64] = "", name[32];
	uint64_t h;

	if (config->mac[0])
		return given_mac(config->mac, ret, e);
	snprintf(name, sizeof(name), "passt/%u", index);
	fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!read(fd, id, sizeof(id) - 1);
	h = hash(hash(0xcbf29ce484222325u, id), config->tap ? config->tap : name);
	if (!config->tap && !config->passt && getrandom(&h, sizeof(h), 0) < 0)
		return error_set(e, -errno, "no random numbers: %s", strerror(errno));
	for (unsigned i = 0; i < NET_MAC_LEN; i++)
		ret[i] = (uint8_t)(h >> 8 * i);
	ret[0] = (uint8_t)((ret[0] & 0xfcu) | 2u);
	return 0;
}

static int check_forwards(const struct net_config *net, struct error *e)
{
	struct net_forward f;
	size_t num = 0;

	for (; net->forward && net->forward[num]; num++)
		if (net_forward(net->forward[num], &f, e) < 0)
			return -EINVAL;
	if (num && !net->passt)
		return error_set(e, -EINVAL, "forward= is for passt");
	return 0;
}

/* As Linux has it, which takes % for a place where it puts a number. */
static int check_tap(const char *name, struct error *e)
{
	size_t len = strlen(name);

	if (len < IFNAMSIZ && !name[strcspn(name, "/:% \t\n\v\f\r")] && strcmp(name, ".") != 0 &&
	    strcmp(name, "..") != 0)
		return 0;
	return error_set(e, -EINVAL,
			 "tap: '%.64s' is no network interface's name: it has at most %d "
			 "characters, and none of '/', ':', '%%' and blanks",
			 name, IFNAMSIZ - 1);
}

/* What one device says of itself. */
static int check_one(const struct net_config *net, struct error *e)
{
	int kinds = !!net->tap + net->passt + !!net->socket + !!net->fd;
	uint8_t mac[NET_MAC_LEN];

	if (kinds != 1)
		return error_set(e, -EINVAL, "give one of tap=NAME, passt, socket=PATH and fd=N");
	if (net->fd && net->fd <= STDERR_FILENO)
		return error_set(e, -EINVAL, "fd=%u is a standard stream", net->fd);
	if (net->vhost && !net->tap && !net->fd)
		return error_set(e, -EINVAL, "vhost is for a tap");
	if (net->vhost && (net->rx_bps || net->rx_pps || net->tx_bps || net->tx_pps))
		return error_set(e, -EINVAL,
				 "vhost has no limits: leave it out, or limit the tap (tc(8))");
	if (net->host_loopback && !net->passt)
		return error_set(e, -EINVAL, "host-loopback is for passt");
	if (net->listen && !net->socket)
		return error_set(e, -EINVAL, "listen goes with socket=PATH");
	if (net->queues > 1 && !net->tap)
		return error_set(e, -EINVAL, "only a tap has more queues than 1");
	if (net->mtu && net->mtu < MIN_MTU)
		return error_set(e, -EINVAL, "an mtu is at least %u bytes", MIN_MTU);
	if (net->passt && net->mtu > NET_PASST_MTU)
		return error_set(e, -EINVAL, "passt's mtu is at most %u bytes", NET_PASST_MTU);
	if (net->tap && check_tap(net->tap, e) < 0)
		return -EINVAL;
	if (net->mac[0] && net_mac(net, 0, mac, e) < 0)
		return -EINVAL;
	return check_forwards(net, e);
}

static void file(const void *config, struct config_file *ret)
{
	const struct net_config *net = config;

	ret->path = net->listen ? net->socket : NULL;
	ret->fd = net->fd;
	ret->use = FILE_OUTPUT;
}

static int check(const void *configs, size_t num, struct error *e)
{
	const struct net_config *nets = configs;

	for (size_t i = 0; i < num; i++) {
		if (check_one(&nets[i], e) < 0)
			return error_prefix(e, -EINVAL, "network device %zu", i + 1);
		for (size_t j = 0; j < i; j++)
			if (nets[i].tap && nets[j].tap && strcmp(nets[i].tap, nets[j].tap) == 0)
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
		   .arg = "KIND[,OPTION...]",
		   .help = "add a network device (repeatable); see below"},
	.size = sizeof(struct net_config),
	.defaults = &(const struct net_config){.queues = 1, .burst_ns = NSEC_PER_SEC / 10},
	.settings = settings,
	.named = true,
	.file = file,
	.check = check,
};
