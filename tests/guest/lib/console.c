// SPDX-License-Identifier: BSD-2-Clause
/*
 * Text out of a payload guest: the virtio console where there is one, else the serial port that
 * peers have and skep does not. Text printed before, or while a test has the console, is kept.
 */
#include "vio.h"

#define SERIAL_DATA   0x3f8u
#define SERIAL_STATUS 0x3fdu
#define SERIAL_EMPTY  0x20u

#define CONSOLE_QUEUES 2u
#define TX	       1u

static char kept[65536];
static size_t num_kept;
static enum { NONE, SERIAL, VIRTIO } backend;
static struct vio *console;
static char *buffer;
#define BUFFER 4096u

static void write_virtio(const char *text, size_t len)
{
	while (len) {
		size_t n = len < BUFFER ? len : BUFFER;

		memcpy(buffer, text, n);
		if (vq_do(&console->vq[TX], &(struct sg){buffer, (uint32_t)n}, 1, 0) < 0)
			return; /* nobody to tell */
		text += n;
		len -= n;
	}
}

static void write_serial(const char *text, size_t len)
{
	for (; len; len--, text++) {
		for (int i = 0; i < 100000 && !(inb(SERIAL_STATUS) & SERIAL_EMPTY); i++)
			;
		outb(SERIAL_DATA, (uint8_t)*text);
	}
}

void console_write(const char *text, size_t len)
{
	switch (backend) {
	case VIRTIO:
		write_virtio(text, len);
		break;
	case SERIAL:
		write_serial(text, len);
		break;
	default:
		if (len > sizeof(kept) - num_kept)
			len = sizeof(kept) - num_kept;
		memcpy(kept + num_kept, text, len);
		num_kept += len;
	}
}

void console_init(void)
{
	size_t n = num_kept;

	if (backend != NONE)
		return;
	console = vio_find(VIRTIO_ID_CONSOLE, 0);
	if (console && vio_start(console, 0, CONSOLE_QUEUES, 16)) {
		if (!buffer)
			buffer = alloc(BUFFER, 16);
		backend = VIRTIO;
	} else if (inb(SERIAL_STATUS) != 0xff) {
		backend = SERIAL;
	} else {
		return;
	}
	num_kept = 0;
	console_write(kept, n);
}

bool console_is_virtio(void)
{
	return backend == VIRTIO;
}

void console_lost(void)
{
	backend = NONE;
}
