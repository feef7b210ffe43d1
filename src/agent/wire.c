// SPDX-License-Identifier: BSD-2-Clause
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "wire.h"

int wire_receive(struct wire *w,
		 int (*take)(void *ctx, const struct agent_message *m, const uint8_t *data),
		 void *ctx)
{
	ssize_t n = read(w->fd, w->from + w->got, sizeof(w->from) - w->got);
	size_t at = 0;
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -EPIPE;
	w->got += (size_t)n;
	while (r >= 0 && w->got - at >= WIRE_HEADER) {
		struct agent_message m;

		memcpy(&m, w->from + at, WIRE_HEADER);
		m.len = le16toh(m.len);
		m.value = le32toh(m.value);
		if (m.len > AGENT_MAX_DATA || (m.len && m.type != AGENT_DATA))
			return -EBADMSG;
		if (w->got - at < WIRE_HEADER + m.len)
			break;
		r = take(ctx, &m, w->from + at + WIRE_HEADER);
		at += WIRE_HEADER + m.len;
	}
	w->got -= at;
	memmove(w->from, w->from + at, w->got);
	return r < 0 ? r : 1;
}

bool wire_say(struct wire *w, enum agent_kind type, unsigned stream, size_t len, uint32_t value)
{
	struct agent_message m = {(uint8_t)type, (uint8_t)stream, htole16((uint16_t)len),
				  htole32(value)};

	memcpy(w->to, &m, WIRE_HEADER);
	w->left = WIRE_HEADER + len;
	w->sent = 0;
	return true;
}

int wire_send(struct wire *w)
{
	ssize_t n = write(w->fd, w->to + w->sent, w->left);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -EPIPE;
	if (n <= 0)
		return 0;
	w->sent += (size_t)n;
	w->left -= (size_t)n;
	return 1;
}

void ring_put(struct ring *ring, const uint8_t *data, size_t len)
{
	size_t at = (ring->start + ring->len) % AGENT_WINDOW, room = AGENT_WINDOW - at;
	size_t first = len < room ? len : room;

	memcpy(ring->bytes + at, data, first);
	memcpy(ring->bytes, data + first, len - first);
	ring->len += len;
}

size_t ring_next(const struct ring *ring, const uint8_t **ret)
{
	size_t whole = AGENT_WINDOW - ring->start;

	*ret = ring->bytes + ring->start;
	return ring->len < whole ? ring->len : whole;
}

void ring_took(struct ring *ring, size_t len)
{
	ring->start = (ring->start + len) % AGENT_WINDOW;
	ring->len -= len;
}
