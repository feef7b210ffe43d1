// SPDX-License-Identifier: BSD-2-Clause
/* The real passt, in a network namespace of its own. */
#include "net_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define NETWORK                                                                                    \
	"ip link set lo up && ip link add skep0 type veth peer name far && "                       \
	"echo 0 >/proc/sys/net/ipv6/conf/skep0/disable_ipv6 && "                                   \
	"ip addr add 192.0.2.2/24 dev skep0 && ip addr add fd00::2/64 dev skep0 nodad && "         \
	"ip link set skep0 up && ip link set far up && "                                           \
	"ip route add default via 192.0.2.1 && ip route add default via fd00::1 dev skep0 && "     \
	"ip addr add 198.51.100.1/32 dev lo && ip addr add fd01::1/128 dev lo"

static char forward[] = "127.0.0.1/4242:80", *forwards[] = {forward, NULL};

static void expect(const struct net_config *config, const char *says)
{
	struct net_port *port = NULL;
	struct error e = {""};

	assert_true(net_passt_open(&port, config, &e) < 0);
	if (!strstr(e.msg, says))
		fail_msg("'%s' lacks '%s'", e.msg, says);
}

/* The passt that has our forward: its process, 0 when there is none. */
static pid_t find_passt(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while ((entry = readdir(dir))) {
		char path[300], line[300] = "";
		FILE *in;

		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		in = fopen(path, "r");
		if (!in)
			continue;
		if (fread(line, 1, sizeof(line) - 1, in) > 5 && strcmp(line, "passt") == 0 &&
		    memmem(line, sizeof(line), forward, strlen(forward)))
			found = atoi(entry->d_name);
		fclose(in);
	}
	closedir(dir);
	return found;
}

static struct net_port *open_passt(const struct net_config *config)
{
	struct net_port *port = NULL;
	struct error e = {""};

	if (net_passt_open(&port, config, &e) < 0)
		fail_msg("%s", e.msg);
	return port;
}

/* A DHCP DISCOVER; passt answers anybody who asks it for an address. */
static void ask_for_address(struct fixture *f)
{
	static const struct virtio_net_hdr_v1 plain;
	uint8_t frame[14 + 20 + 8 + 300] = {0}, *ip = frame + 14, *udp = ip + 20, *dhcp = udp + 8;
	uint32_t sum = 0;

	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	frame[12] = 8;
	memcpy(ip, (uint8_t[]){0x45, 0, 1, 0x48, 0, 0, 0, 0, 64, 17}, 10);
	memset(ip + 16, 0xff, 4);
	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = ~(sum + (sum >> 16));
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	memcpy(udp, (uint8_t[]){0, 68, 0, 67, 1, 0x34}, 6);
	memcpy(dhcp, (uint8_t[]){1, 1, 6, 0, 1, 2, 3, 4}, 8);
	memcpy(dhcp + 28, mac, 6);
	memcpy(dhcp + 236, (uint8_t[]){99, 130, 83, 99, 53, 1, 1, 255}, 8);
	guest_sends(f, &plain, frame, sizeof(frame));
}

/* What comes first that is UDP from port 67: the address that it offers. */
static uint32_t offered_address(struct fixture *f, gpa_t at, uint32_t size)
{
	for (unsigned i = 0;; i++) {
		const uint8_t *frame = drv_ptr(&f->d, GPA(at.v + i * size), size);
		uint32_t id, used, address;

		drv_wait_used(&f->d.queue[0], &id, &used);
		frame += HEADER;
		if (frame[12] != 8 || frame[23] != 17 || frame[35] != 67)
			continue;
		memcpy(&address, frame + 14 + 20 + 8 + 16, 4);
		return ntohl(address);
	}
}

static void test_an_address_by_dhcp(void **state)
{
	struct net_config config = {.passt = true, .queues = 1};
	struct net_port *port = open_passt(&config);
	struct fixture *f;
	gpa_t at;

	(void)state;
	assert_int_equal(port->mtu, 65520);
	f = start_on(port, ALL);
	at = offer(f, 128, 4096);
	ask_for_address(f);
	assert_int_equal(offered_address(f, at, 4096), 0xc0000202); /* the host's own */
	end(f);
}

static void test_passt_ends_with_us(void **state)
{
	struct net_config config = {.passt = true, .forward = forwards, .queues = 1};
	struct net_port *port = open_passt(&config);

	(void)state;
	assert_true(find_passt() > 0);
	net_port_close(port);
	while (find_passt())
		usleep(1000);
}

static void test_passt_is_killed(void **state)
{
	struct net_config config = {.passt = true, .forward = forwards, .queues = 1};
	struct fixture *f = start_on(open_passt(&config), ALL);

	(void)state;
	offer(f, 64, 4096);
	assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(kill(find_passt(), SIGKILL), 0);
	while (status(f))
		drv_wait_irq(&f->d);
	assert_false(is_broken(f));
	end(f);
}

/* The host's loopback: by the gateway's address, and by those that no honest guest sends to. */
static const char *const loopback[] = {
	"192.0.2.1", "127.0.0.1", "127.9.9.9",	      "0.0.0.0",	  "fd00::1",
	"::1",	     "::",	  "::ffff:127.0.0.1", "::ffff:127.9.9.9", "::ffff:0.0.0.0",
};
#define WEB 8000

static int listen_everywhere(int type)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(WEB)};
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_true(type == SOCK_DGRAM || listen(fd, 64) == 0);
	return fd;
}

/* A packet to the port WEB of that address: a SYN, or one of UDP that says where to. */
static void guest_calls(struct fixture *f, const char *address, int type, uint16_t from)
{
	static const struct virtio_net_hdr_v1 plain;
	uint8_t frame[14 + 40 + 20 + 64] = {2, 2, 2, 2, 2, 2}, *l4;
	uint16_t len = type == SOCK_STREAM ? 20 : (uint16_t)(8 + strlen(address));
	uint8_t protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;

	memcpy(frame + 6, mac, 6);
	if (strchr(address, ':')) {
		memcpy(frame + 12,
		       (uint8_t[]){0x86, 0xdd, 0x60, 0, 0, 0, 0, (uint8_t)len, protocol, 64}, 10);
		inet_pton(AF_INET6, "fd00::2", frame + 14 + 8);
		inet_pton(AF_INET6, address, frame + 14 + 24);
		l4 = frame + 14 + 40;
	} else {
		memcpy(frame + 12,
		       (uint8_t[]){8, 0, 0x45, 0, 0, (uint8_t)(20 + len), 0, 0, 0, 0, 64, protocol},
		       12);
		inet_pton(AF_INET, "192.0.2.2", frame + 14 + 12);
		inet_pton(AF_INET, address, frame + 14 + 16);
		l4 = frame + 14 + 20;
	}
	memcpy(l4, (uint16_t[]){htons(from), htons(WEB)}, 4);
	if (type == SOCK_STREAM) {
		memcpy(l4 + 12, (uint8_t[]){0x50, 2, 0xff, 0xff}, 4);
	} else {
		memcpy(l4 + 4, (uint16_t[]){htons(len)}, 2);
		memcpy(l4 + 8, address, strlen(address));
	}
	guest_sends(f, &plain, frame, (uint32_t)(l4 + len - frame));
}

/* Where the first one that came was sent to. */
static void first_call(int fd, int type, char ret[INET6_ADDRSTRLEN])
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct sockaddr_in6 addr;
	socklen_t len = sizeof(addr);

	memset(ret, 0, INET6_ADDRSTRLEN);
	assert_int_equal(poll(&p, 1, -1), 1);
	if (type == SOCK_DGRAM) {
		assert_true(recv(fd, ret, INET6_ADDRSTRLEN - 1, 0) > 0);
		return;
	}
	p.fd = accept(fd, NULL, NULL);
	assert_int_equal(getsockname(p.fd, (struct sockaddr *)&addr, &len), 0);
	close(p.fd);
	inet_ntop(AF_INET6, &addr.sin6_addr, ret, INET6_ADDRSTRLEN);
	if (strncmp(ret, "::ffff:", 7) == 0)
		memmove(ret, ret + 7, strlen(ret + 7) + 1);
}

/* passt takes packets in their order: what is allowed comes last, and is the first to arrive. */
static void test_the_hosts_loopback_is_out_of_reach(void **state)
{
	static const char *const outside[] = {"198.51.100.1", "fd01::1"};
	struct net_config config = {.passt = true, .queues = 1};
	struct fixture *f = start_on(open_passt(&config), ALL);
	uint16_t from = 2000;
	char got[INET6_ADDRSTRLEN];

	(void)state;
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
			int fd = listen_everywhere(type);

			for (unsigned n = 0; n < ARRAY_SIZE(loopback); n++)
				guest_calls(f, loopback[n], type, from++);
			guest_calls(f, outside[i], type, from++);
			first_call(fd, type, got);
			assert_string_equal(got, outside[i]);
			close(fd);
		}
	}
	end(f);
}

static void test_the_hosts_loopback_for_who_wants_it(void **state)
{
	struct net_config config = {.passt = true, .host_loopback = true, .queues = 1};
	struct fixture *f = start_on(open_passt(&config), ALL);
	int fd = listen_everywhere(SOCK_STREAM);
	char got[INET6_ADDRSTRLEN];

	(void)state;
	guest_calls(f, "192.0.2.1", SOCK_STREAM, 3000);
	first_call(fd, SOCK_STREAM, got);
	assert_string_equal(got, "127.0.0.1");
	close(fd);
	end(f);
}

static void test_a_port_that_is_taken(void **state)
{
	struct net_config config = {.passt = true, .forward = forwards, .queues = 1};
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons(4242),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	while (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) /* the passt that was killed */
		usleep(1000);
	assert_int_equal(listen(fd, 1), 0);
	expect(&config, "port 4242 of the host: Address already in use");
	close(fd);
	net_port_close(open_passt(&config));
	while (find_passt())
		usleep(1000);
}

static void test_passt_cannot_be_had(void **state)
{
	struct net_config config = {.passt = true, .queues = 1};
	char *path = strdup(getenv("PATH"));

	(void)state;
	setenv("PATH", "/nonexistent", 1);
	expect(&config, "apt-get install passt");
	setenv("PATH", path, 1);
	free(path);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	expect(&config, "did not start: ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_address_by_dhcp),
		cmocka_unit_test(test_passt_ends_with_us),
		cmocka_unit_test(test_passt_is_killed),
		cmocka_unit_test(test_the_hosts_loopback_is_out_of_reach),
		cmocka_unit_test(test_the_hosts_loopback_for_who_wants_it),
		cmocka_unit_test(test_a_port_that_is_taken),
		cmocka_unit_test(test_passt_cannot_be_had), /* the last: the network is gone */
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	if (system("command -v passt >/dev/null") != 0 || !has_taps() || system(NETWORK) != 0) {
		printf("1..0 # SKIP needs passt, ip and a network namespace (root)\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
