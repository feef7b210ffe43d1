// SPDX-License-Identifier: BSD-2-Clause
/* What a network device can be connected to, and what is said where it cannot. */
#include "net_fixture.h"

#include <linux/if_tun.h>
#include <sys/un.h>

#include "base/inherited.h"
#include "base/unixsocket.h"

static void expect(const struct net_config *config, int want, const char *says)
{
	struct net_port *port = NULL;
	struct error e = {""};

	assert_int_equal(net_port_open(&port, config, &e), want);
	if (!strstr(e.msg, says))
		fail_msg("'%s' lacks '%s'", e.msg, says);
}

static void test_descriptors(void **state)
{
	int both[2], files[2], dgram = socket(AF_INET, SOCK_DGRAM, 0),
			       alone = socket(AF_UNIX, SOCK_STREAM, 0), own;
	struct net_config config = {.queues = 1};
	struct net_port *port;
	struct error e = {""};

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, both), 0);
	assert_int_equal(pipe(files), 0);
	inherited_note();
	own = dup(both[0]);
	config.fd = (unsigned)own;
	expect(&config, -EBADF, "did not get it");
	config.fd = 9999;
	expect(&config, -EBADF, "did not get it");
	config.fd = (unsigned)files[0];
	expect(&config, -EINVAL, "neither a tap nor");
	config.fd = (unsigned)dgram;
	expect(&config, -EINVAL, "neither a tap nor");
	config.fd = (unsigned)alone;
	expect(&config, -EINVAL, "neither a tap nor");
	config.fd = (unsigned)both[0];
	config.vhost = true;
	expect(&config, -EINVAL, "vhost is for taps");
	config.vhost = false;
	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(port->fd[0] != both[0] && port->ops->flush);
	assert_int_equal(port->mtu, 1500);
	net_port_close(port);
	inherited_close();
	close(own);
	close(both[1]);
	close(files[1]);
}

/* A tap as a supervisor would open it. */
static int open_tap(int flags)
{
	struct ifreq request = {.ifr_flags = (short)flags};
	int fd = open("/dev/net/tun", O_RDWR);

	strcpy(request.ifr_name, "skep1");
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		fail_msg("TUNSETIFF: %s", strerror(errno));
	return fd;
}

static void test_descriptors_of_taps(void **state)
{
	static const int wrong[] = {IFF_TAP | IFF_NO_PI, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	struct net_config config = {.queues = 1, .mtu = 1300};
	struct net_port *port;
	struct error e = {""};
	struct fixture *f;
	gpa_t at;
	int fd;

	(void)state;
	if (!has_taps()) {
		skip();
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		fd = open_tap(wrong[i]);
		inherited_note();
		config.fd = (unsigned)fd;
		expect(&config, -EINVAL, "IFF_VNET_HDR");
		inherited_close();
	}
	fd = open_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	inherited_note();
	config.fd = (unsigned)fd;
	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	inherited_close();
	assert_string_equal(port->name, "tap skep1");
	assert_int_equal(port->mtu, 1300);
	f = start_on(port, ALL);
	set_up_interface(f, "skep1");
	at = offer(f, 64, 1600);
	host_sends(f, 100, 1);
	guest_gets(f, at, 1600, 100, 1);
	end(f);
}

static void test_sockets_that_cannot_be_had(void **state)
{
	char dir[] = "/tmp/skep-net.XXXXXX", path[64], longest[200];
	struct net_config config = {.socket = path, .queues = 1}, listening;
	struct net_port *port;
	struct error e = {""};
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	expect(&config, -ENOENT, "listen");
	listening = config;
	listening.listen = true;
	if (net_port_open(&port, &listening, &e) < 0)
		fail_msg("%s", e.msg);
	expect(&listening, -EADDRINUSE, "in use");
	net_port_close(port);
	expect(&config, -ECONNREFUSED, "listen");
	if (net_port_open(&port, &listening, &e) < 0) /* what is left is replaced */
		fail_msg("%s", e.msg);
	net_port_close(port);
	fd = unix_listen(path, 0, &e); /* one waits, and further ones would */
	config.socket = path;
	if (net_port_open(&port, &config, &e) < 0)
		fail_msg("%s", e.msg);
	expect(&config, -EAGAIN, "accepts nobody");
	net_port_close(port);
	close(fd);
	config.socket = "/dev/null";
	expect(&config, -ECONNREFUSED, "is not a socket");
	memset(longest, 'x', sizeof(longest));
	longest[199] = '\0';
	config.socket = longest;
	expect(&config, -ENAMETOOLONG, "longer than");
	unlink(path);
	rmdir(dir);
}

static void test_forwards(void **state)
{
	static const struct {
		const char *text;
		const char *address;
		uint16_t host, guest;
		bool udp;
	} good[] = {{"8080:80", "", 8080, 80, false},
		    {"1:65535", "", 1, 65535, false},
		    {"5353:53/udp", "", 5353, 53, true},
		    {"127.0.0.1/8080:80", "127.0.0.1", 8080, 80, false},
		    {"::1/53:53/udp", "::1", 53, 53, true}};
	static const char *const bad[] = {
		"",	    "80",	"80:",	     ":80",	   "0:80",	"80:0",
		"65536:80", "80:65536", "80:80/tcp", "80:80/udp/", "x/80:80",	"80:80,81:81",
		"-1:80",    "80:80 ",	"80: 80",    "+80:80",	   "1.2.3/1:1", "127.0.0.1/80"};
	struct net_forward f;
	struct error e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		if (net_forward(good[i].text, &f, &e) < 0)
			fail_msg("%s", e.msg);
		assert_string_equal(f.text, good[i].address);
		assert_true(f.host == good[i].host && f.guest == good[i].guest);
		assert_int_equal(f.udp, good[i].udp);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		if (net_forward(bad[i], &f, &e) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
}

/* Stable where one guest is on it, else never the same twice. */
static void test_addresses(void **state)
{
	struct net_config tap = {.tap = "a"}, other = {.tap = "b"}, passt = {.passt = true},
			  both = {.socket = "a"};
	uint8_t one[NET_MAC_LEN], two[NET_MAC_LEN];

	(void)state;
	net_mac(&tap, 0, one, NULL);
	net_mac(&tap, 1, two, NULL);
	assert_memory_equal(one, two, NET_MAC_LEN);
	net_mac(&other, 0, two, NULL);
	assert_memory_not_equal(one, two, NET_MAC_LEN);
	net_mac(&passt, 0, one, NULL);
	net_mac(&passt, 0, two, NULL);
	assert_memory_equal(one, two, NET_MAC_LEN);
	net_mac(&passt, 1, two, NULL);
	assert_memory_not_equal(one, two, NET_MAC_LEN);
	net_mac(&both, 0, one, NULL);
	net_mac(&both, 0, two, NULL);
	assert_memory_not_equal(one, two, NET_MAC_LEN);
	assert_int_equal(one[0] & 3, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_descriptors_of_taps),
		cmocka_unit_test(test_sockets_that_cannot_be_had),
		cmocka_unit_test(test_forwards),
		cmocka_unit_test(test_addresses),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
