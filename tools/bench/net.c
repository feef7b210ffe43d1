// SPDX-License-Identifier: BSD-2-Clause
/*
 * Both ends of the connections that tools/bench measures:
 *
 *   net server tcp PORT | unix PATH | vsock PORT
 *                    on the host, until it is killed; says "ready" first
 *   net client tcp PORT | vsock PORT MILLISECONDS TEST...
 *                    in the guest; TCP goes to 192.0.2.1, from the first interface, which gets the
 *                    address 192.0.2.2
 *
 * A connection begins with a byte that says what the server does: READ all until its end, WRITE
 * without end, ECHO. Tests of the client: `out` and `in` (bytes in one direction), `rrN` (round trips
 * of 64 bytes, one at a time on each of N connections). A line for each: "bench-net: TEST N NS", where N
 * are bytes or round trips.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { READ = 'r', WRITE = 'w', ECHO = 'e' };

#define HOST	  "192.0.2.1"
#define GUEST	  "192.0.2.2"
#define BLOCK	  (128u << 10) /* bytes a system call */
#define ROUND	  64u	       /* bytes a round trip */
#define MAX_CONNS 256u

static char block[BLOCK];

static void die(const char *what)
{
	printf("net: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
	struct sockaddr_vm vm;
};

/* A socket of that family, and the address of the server. */
static int make_socket(const char *family, const char *where, union address *ret,
		       socklen_t *ret_len)
{
	unsigned port = (unsigned)atoi(where);
	int fd, on = 1;

	*ret = (union address){0};
	if (!strcmp(family, "tcp")) {
		ret->in = (struct sockaddr_in){.sin_family = AF_INET,
					       .sin_port = htons((uint16_t)port)};
		inet_pton(AF_INET, HOST, &ret->in.sin_addr);
		*ret_len = sizeof(ret->in);
	} else if (!strcmp(family, "vsock")) {
		ret->vm = (struct sockaddr_vm){
			.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
		*ret_len = sizeof(ret->vm);
	} else {
		ret->un.sun_family = AF_UNIX;
		snprintf(ret->un.sun_path, sizeof(ret->un.sun_path), "%s", where);
		*ret_len = sizeof(ret->un);
	}
	fd = socket(ret->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (ret->any.sa_family == AF_INET) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	}
	return fd;
}

/* --- the server */

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char *buf = malloc(BLOCK), what;
	ssize_t n = buf ? read(fd, &what, 1) : 0;

	while (n > 0) {
		if (what != WRITE)
			n = read(fd, buf, BLOCK);
		if (what != READ && n > 0)
			n = write(fd, buf, what == WRITE ? BLOCK : (size_t)n);
	}
	free(buf);
	close(fd);
	return NULL;
}

static void server(const char *family, const char *where)
{
	union address at;
	socklen_t len;
	int fd = make_socket(family, where, &at, &len);

	if (at.any.sa_family == AF_VSOCK)
		at.vm.svm_cid = VMADDR_CID_ANY;
	if (at.any.sa_family == AF_UNIX)
		unlink(where);
	if (bind(fd, &at.any, len) < 0 || listen(fd, MAX_CONNS) < 0)
		die("bind");
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int on = 1, client = accept(fd, NULL, NULL);
		pthread_t thread;

		if (client < 0)
			die("accept");
		if (at.any.sa_family == AF_INET)
			setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)client))
			die("a thread");
		pthread_detach(thread);
	}
}

/* --- the client */

/* The first interface that is not the loopback gets its address. */
static void set_up_interface(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in *in;
	struct ifreq r;

	for (int i = 1;; i++) {
		if (i == 100)
			die("no network interface");
		r = (struct ifreq){.ifr_ifindex = i};
		if (!ioctl(fd, SIOCGIFNAME, &r) && !ioctl(fd, SIOCGIFFLAGS, &r) &&
		    !(r.ifr_flags & IFF_LOOPBACK) && strncmp(r.ifr_name, "sit", 3))
			break;
	}
	in = (struct sockaddr_in *)(void *)&r.ifr_addr;
	*in = (struct sockaddr_in){.sin_family = AF_INET};
	inet_pton(AF_INET, GUEST, &in->sin_addr);
	if (ioctl(fd, SIOCSIFADDR, &r) < 0)
		die("set the address");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	if (ioctl(fd, SIOCSIFNETMASK, &r) < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		die("set the netmask");
	r.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		die("set the interface up");
	close(fd);
}

static int connect_for(const char *family, const char *where, char what)
{
	uint64_t end = now_ns() + 10000000000u;

	for (;;) {
		union address at;
		socklen_t len;
		int fd = make_socket(family, where, &at, &len);

		if (!connect(fd, &at.any, len)) {
			if (write(fd, &what, 1) != 1)
				die("the first byte");
			return fd;
		}
		/* The link may need a moment. */
		if (now_ns() > end)
			die("connect");
		close(fd);
		usleep(20000);
	}
}

/* Bytes out or in until `end`. What went out has arrived when the server closes. */
static uint64_t stream(int fd, bool out, uint64_t end)
{
	uint64_t bytes = 0;

	while (now_ns() < end) {
		ssize_t n = out ? write(fd, block, BLOCK) : read(fd, block, BLOCK);

		if (n <= 0)
			die(out ? "write" : "read");
		bytes += (uint64_t)n;
	}
	if (out) {
		shutdown(fd, SHUT_WR);
		while (read(fd, block, BLOCK) > 0)
			;
	}
	return bytes;
}

static uint64_t round_trips(const int *fd, unsigned n, uint64_t end)
{
	struct pollfd p[MAX_CONNS];
	size_t got[MAX_CONNS] = {0};
	uint64_t trips = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
		if (write(fd[i], block, ROUND) != ROUND)
			die("write");
	}
	while (now_ns() < end) {
		/* One connection just blocks, as programs do that have one. */
		if (n > 1 && poll(p, n, 1000) < 0)
			die("poll");
		for (unsigned i = 0; i < n; i++) {
			ssize_t len = 0;

			if (n > 1 && !p[i].revents)
				continue;
			len = read(fd[i], block, ROUND - got[i]);
			if (len <= 0)
				die("read");
			got[i] += (size_t)len;
			if (got[i] < ROUND)
				continue;
			got[i] = 0;
			trips++;
			if (write(fd[i], block, ROUND) != ROUND)
				die("write");
		}
	}
	return trips;
}

static void test(const char *family, const char *where, uint64_t ns, const char *name)
{
	bool rr = !strncmp(name, "rr", 2), out = !strcmp(name, "out");
	unsigned n = rr ? (unsigned)atoi(name + 2) : 1;
	uint64_t begin, count;
	int fd[MAX_CONNS];

	if (n < 1 || n > MAX_CONNS)
		die(name);
	for (unsigned i = 0; i < n; i++)
		fd[i] = connect_for(family, where, rr ? ECHO : out ? READ : WRITE);
	begin = now_ns();
	count = rr ? round_trips(fd, n, begin + ns) : stream(fd[0], out, begin + ns);
	printf("bench-net: %s %llu %llu\n", name, (unsigned long long)count,
	       (unsigned long long)(now_ns() - begin));
	fflush(stdout);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp(argv[1], "server"))
		server(argv[2], argv[3]);
	if (argc < 6 || strcmp(argv[1], "client"))
		return 2;
	if (!strcmp(argv[2], "tcp"))
		set_up_interface();
	for (int i = 5; i < argc; i++)
		test(argv[2], argv[3], strtoull(argv[4], NULL, 10) * 1000000u, argv[i]);
	return 0;
}
