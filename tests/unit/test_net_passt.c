// SPDX-License-Identifier: BSD-2-Clause
/* The real passt, in a network namespace of its own. */
#include "net_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define NETWORK                                                                                    \
	"ip link set lo up && ip tuntap add skep0 mode tap && "                                    \
	"ip addr add 192.0.2.2/24 dev skep0 && ip link set skep0 up && "                           \
	"ip route add default via 192.0.2.1"

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
