// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest says to the relay. Input: messages, each a number of zero bytes of data and a header that
 * is mostly as it should be. What must hold: what comes out was sent, and what the relay says has a
 * meaning and keeps to the window.
 */
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "agent/relay.h"
#include "base/log.h"
#include "base/util.h"
#include "input.h"

#define MAX_SENT (128 * KIB) /* what the pair of sockets takes */
#define INPUT	 (AGENT_WINDOW + 100000u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct input in;
static uint64_t sent_data, credit;

/* A message, and its data; the bytes of both. */
static size_t put(uint8_t *to, size_t room)
{
	uint8_t how = take8(&in), stream = take8(&in);
	struct agent_message m = {.type = how & 7, .stream = stream % 5};
	size_t len = m.type == AGENT_DATA ? take16(&in) % (AGENT_MAX_DATA + 1) : 0;
	uint16_t said = (uint16_t)len;

	m.value = how & 8 ? take32(&in) : m.type == AGENT_HELLO ? AGENT_VERSION : take16(&in);
	if (how & 16 && stream & 128)
		said = take16(&in);
	if (sizeof(m) + len > room)
		return 0;
	if (m.type == AGENT_CREDIT)
		credit += m.value;
	m.value = htole32(m.value);
	m.len = htole16(said);
	memcpy(to, &m, sizeof(m));
	memset(to + sizeof(m), 0, len);
	sent_data += len;
	return sizeof(m) + len;
}

/* Reads what the relay says, until it hangs up. */
static void listen_to(int fd)
{
	static uint8_t text[AGENT_MAX_DATA];
	struct agent_message m;
	uint64_t input = 0;

	while (read_full(fd, &m, sizeof(m)) == sizeof(m)) {
		size_t len = le16toh(m.len);

		check(m.type == AGENT_DATA || m.type == AGENT_END || m.type == AGENT_CREDIT);
		check((m.type == AGENT_DATA) == (len > 0) && len <= AGENT_MAX_DATA);
		if (read_full(fd, text, len) != (ssize_t)len)
			break;
		check(m.type != AGENT_DATA || m.stream == AGENT_STDIN || m.stream == AGENT_SETUP);
		input += m.stream == AGENT_STDIN ? len : 0;
		check(input <= AGENT_WINDOW + credit);
		check(m.type != AGENT_CREDIT || le32toh(m.value) <= AGENT_WINDOW);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[MAX_SENT];
	int out = memfd_create("out", 0), from = memfd_create("in", 0),
	    other = memfd_create("artifacts", 0), pair[2];
	struct relay_config config = {.in = from,
				      .out = out,
				      .err = out,
				      .artifacts = other,
				      .setup = "ax",
				      .setup_len = 3};
	struct relay_counters counters;
	struct relay *relay;
	struct loop *loop;
	struct stat st;
	size_t n = 0, len = 0;

	in = (struct input){data, size};
	sent_data = credit = 0;
	log_set_level(LOG_ERROR);
	check(ftruncate(from, INPUT) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	config.port = pair[0];
	while (input_left(&in) && (n = put(bytes + len, MAX_SENT - len)))
		len += n;
	check(loop_new(&loop, "fuzz", LOOP_EPOLL, 0, NULL) == 0);
	check(relay_new(&relay, &config, loop, NULL) == 0);
	check(loop_start(loop, NULL, NULL, NULL) == 0);
	check(send(pair[1], bytes, len, MSG_NOSIGNAL) >= 0 || len);
	shutdown(pair[1], SHUT_WR);
	listen_to(pair[1]);
	loop_stop(loop);
	relay_finish(relay);
	relay_counters(relay, &counters);
	check(fstat(out, &st) == 0 && (uint64_t)st.st_size <= sent_data);
	check(counters.stdout_bytes + counters.stderr_bytes == st.st_size);
	relay_result(relay, NULL);
	relay_free(relay);
	loop_free(loop);
	close(pair[1]);
	close(out);
	close(other);
	close(from);
	return 0;
}
