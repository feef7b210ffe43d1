// SPDX-License-Identifier: BSD-2-Clause
/*
 * passt(1), the host's sockets as a network.
 *
 * DOC: Theory of operation. passt gets one end of a socket pair (--fd), so there is no path that
 * another user could take, and it may become another user first, as it does when root starts it. It
 * goes into the background once all is set up, which ends the process that was started: its status
 * says whether passt runs, and there is no child to wait for when the sandbox is entered. It ends
 * when its end of the socket does, so with skep, however that ends; and skep sees its end likewise.
 *
 * The host's loopback is not the guest's. Left alone, passt connects it there for the gateway's
 * address, and versions before 2024 for 127.0.0.1 and its like, too, which no honest guest sends to:
 * so such frames are dropped here. A name server on the host's loopback can be asked at an address
 * of its own. Old versions do not tell guests of that one; so where there is no other, they are told
 * of those that systemd-resolved asks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/child.h"
#include "device.h"

#define SPEC_LEN     80u
#define MAX_SERVERS  3u			/* MAXNS of resolv.conf(5) */
#define MAX_FIXED    16u		/* arguments, without those of forwards */
#define PORT_WAIT_NS (2 * NSEC_PER_SEC) /* for the passt of a VM that has just ended */
#define PORT_POLL_US 5000u

/* Somebody else may have the port: passt says nothing if it gets a part of what it wants. */
static int try_port(const struct net_forward *f, int family, struct error *e)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(f->host)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(f->host)};
	_cleanup_close_ int fd =
		socket(family, (f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	int on = 1, r;

	if (fd < 0)
		return 0; /* the host has no IPv6 */
	if (f->family) {
		memcpy(&six.sin6_addr, f->address, sizeof(six.sin6_addr));
		memcpy(&four.sin_addr, f->address, sizeof(four.sin_addr));
	}
	if (!f->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (family == AF_INET)
		r = bind(fd, (struct sockaddr *)&four, sizeof(four));
	else
		r = bind(fd, (struct sockaddr *)&six, sizeof(six));
	if (r < 0 || (!f->udp && listen(fd, 1) < 0))
		return error_set(e, -errno, "forward: port %u of the host: %s%s", f->host,
				 strerror(errno),
				 errno == EADDRINUSE ? ": stop who has it, or choose another"
				 : errno == EACCES   ? ": choose one above 1023"
						     : "");
	return 0;
}

static int try_ports(const struct net_config *config, struct error *e)
{
	struct net_forward f;
	int r = 0;

	for (char *const *text = config->forward; text && *text && r == 0; text++) {
		r = net_forward(*text, &f, e);
		if (r == 0 && f.family != AF_INET6)
			r = try_port(&f, AF_INET, e);
		if (r == 0 && f.family != AF_INET)
			r = try_port(&f, AF_INET6, e);
	}
	return r;
}

static bool has_hung_up(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

static int run(char *const argv[], int ours, int theirs, struct error *e)
{
	int r = child_run(argv, -1, theirs, e);

	close(theirs);
	if (r == -ENOENT)
		return error_set(e, r, "is not installed: apt-get install passt");
	if (r == 0 && has_hung_up(ours))
		r = error_set(e, -EIO, "it ended at once");
	return r == -EIO ? error_prefix(e, r, "did not start") : r;
}

/* What the host's kernel takes for loopback, as it does "any address". */
static bool is_loopback4(const uint8_t *address)
{
	static const uint8_t any[4];

	return address[0] == 127 || memcmp(address, any, sizeof(any)) == 0;
}

static bool is_loopback6(const uint8_t *address)
{
	static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
	struct in6_addr a;

	memcpy(&a, address, sizeof(a));
	return IN6_IS_ADDR_LOOPBACK(&a) || IN6_IS_ADDR_UNSPECIFIED(&a) ||
	       (memcmp(address, mapped, sizeof(mapped)) == 0 && is_loopback4(address + 12));
}

static bool is_for_loopback(const uint8_t *start, size_t len)
{
	unsigned type = (unsigned)start[12] << 8 | start[13];

	if (type == ETHERTYPE_IP && len >= 14 + 20)
		return is_loopback4(start + 14 + 16);
	return type == ETHERTYPE_IPV6 && len >= 14 + 40 && is_loopback6(start + 14 + 24);
}

/* The name servers in a file as resolv.conf(5) has it, without those on loopback: how many. */
static unsigned name_servers(const char *path, char ret[MAX_SERVERS][SPEC_LEN])
{
	FILE *in = fopen(path, "re");
	char line[256], text[64];
	uint8_t address[16];
	unsigned n = 0;

	while (in && n < MAX_SERVERS && fgets(line, sizeof(line), in))
		if (sscanf(line, "nameserver %63s", text) == 1 &&
		    ((inet_pton(AF_INET, text, address) == 1 && !is_loopback4(address)) ||
		     (inet_pton(AF_INET6, text, address) == 1 && !is_loopback6(address))))
			snprintf(ret[n++], SPEC_LEN, "%s", text);
	if (in)
		fclose(in);
	return n;
}

/* passt's arguments; those that are not constant. */
struct arguments {
	char *argv[MAX_FIXED + 2 * NET_MAX_FORWARDS + 1];
	unsigned num;
	char mtu[16];
	char servers[MAX_SERVERS][SPEC_LEN];
	char specs[NET_MAX_FORWARDS][SPEC_LEN];
};

static void add(struct arguments *a, const char *option, char *value)
{
	a->argv[a->num++] = (char *)(uintptr_t)option;
	if (value)
		a->argv[a->num++] = value;
}

static void add_loopback(struct arguments *a)
{
	static char address[] = NET_PASST_DNS;

	add(a, "--no-map-gw", NULL);
	add(a, "--dns-forward", address);
	if (name_servers("/etc/resolv.conf", a->servers))
		return; /* passt reads it, too */
	for (unsigned i = 0, n = name_servers("/run/systemd/resolve/resolv.conf", a->servers);
	     i < n; i++)
		add(a, "--dns", a->servers[i]);
}

static void make_arguments(struct arguments *a, const struct net_config *config)
{
	static char socket[] = "3";
	struct net_forward f;

	a->num = 0;
	add(a, "passt", NULL);
	add(a, "-q", NULL);
	add(a, "--fd", socket);
	snprintf(a->mtu, sizeof(a->mtu), "%u", config->mtu ? config->mtu : NET_PASST_MTU);
	add(a, "--mtu", a->mtu);
	if (!config->host_loopback)
		add_loopback(a);
	for (unsigned i = 0; config->forward && config->forward[i]; i++) {
		net_forward(config->forward[i], &f, NULL);
		snprintf(a->specs[i], SPEC_LEN, "%s%s%u:%u", f.text, f.text[0] ? "/" : "", f.host,
			 f.guest);
		add(a, f.udp ? "--udp-ports" : "--tcp-ports", a->specs[i]);
	}
	a->argv[a->num] = NULL;
}

int net_passt_open(struct net_port **ret, const struct net_config *config, struct error *e)
{
	struct arguments a;
	uint64_t until = now_ns() + PORT_WAIT_NS;
	int end[2], r;

	while ((r = try_ports(config, e)) == -EADDRINUSE && now_ns() < until)
		usleep(PORT_POLL_US);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end) < 0)
		return error_set(e, -errno, "cannot make a pair of sockets: %s", strerror(errno));
	make_arguments(&a, config);
	r = run(a.argv, end[0], end[1], e);
	if (r < 0) {
		close(end[0]);
		return r;
	}
	fcntl(end[0], F_SETFL, O_NONBLOCK);
	r = net_stream_new(ret, end[0], -1, "passt", config->mtu ? config->mtu : NET_PASST_MTU, e);
	if (r == 0 && !config->host_loopback)
		(*ret)->refuses = is_for_loopback;
	return r;
}
