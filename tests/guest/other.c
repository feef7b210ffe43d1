// SPDX-License-Identifier: BSD-2-Clause
/* The console and the entropy device (virtio 1.3, sections 5.3, 5.4). */
#include <linux/virtio_console.h>

#include "support.h"

#define RX 0u
#define TX 1u

/* Takes the console away from print(); console_back() gives it back. */
static struct vio *take_console(uint64_t features, uint16_t size)
{
	struct vio *c = need(VIRTIO_ID_CONSOLE, 0);

	console_lost();
	if (!vio_start(c, features, 2, size))
		panic("the console does not start");
	return c;
}

static void console_back(void)
{
	console_init();
}

/* lines=N numbers in buffers of all sizes: the runner compares them with its own. */
static void send_numbers(struct vio *c, unsigned lines)
{
	const size_t size = lines * 9ul;
	char *text = alloc(size, 16);
	uint64_t rnd = 7;
	size_t at = 0;

	for (unsigned i = 0; i < lines; i++) {
		unsigned v = i;

		for (unsigned digit = 8; digit--; v /= 10)
			text[i * 9 + digit] = (char)('0' + v % 10);
		text[i * 9 + 8] = '\n';
	}
	while (at < size) {
		struct sg sg[8];
		unsigned n = 1 + (unsigned)(random64(&rnd) % 8);

		for (unsigned i = 0; i < n; i++) {
			size_t len = random64(&rnd) % (i % 2 ? 20000 : 100);

			if (len > size - at)
				len = size - at;
			sg[i] = (struct sg){text + at, (uint32_t)len};
			at += len;
		}
		if (vq_do(&c->vq[TX], sg, n, 0) < 0)
			panic("output is not taken");
	}
}

void test_console_output(void)
{
	struct vio *c = take_console(0, 16);

	send_numbers(c, (unsigned)cmdline_u64("lines", 100000));
	console_back();
	CHECK(true, "sent");
}

/* Sends back what comes until a line that starts with "q". */
void test_console_echo(void)
{
	struct vio *c = take_console(0, 16);
	uint8_t buf[64];
	bool at_start = true, quit = false;

	vq_do(&c->vq[TX], &(struct sg){"ready\n", 6}, 1, 0);
	while (!quit) {
		int64_t n = vq_do(&c->vq[RX], &(struct sg){buf, sizeof(buf)}, 0, 1);

		if (n <= 0)
			panic("no input");
		for (int64_t i = 0; i < n; i++) {
			quit = quit || (at_start && buf[i] == 'q');
			at_start = buf[i] == '\n';
		}
		vq_do(&c->vq[TX], &(struct sg){buf, (uint32_t)n}, 1, 0);
	}
	console_back();
	CHECK(true, "echoed");
}

/*
 * bytes=N of input come while there is no buffer for them, then buffers of odd sizes: nothing may
 * be lost (CVE-2020-16843: a receive queue that freezes when full). The sum of the bytes is what
 * the runner expects.
 */
void test_console_input(void)
{
	struct vio *c = take_console(0, 8);
	uint64_t want = cmdline_u64("bytes", 0), got = 0, sum = 0;
	uint8_t *buf = alloc(8 * 1024, 16);
	uint32_t lens[8];

	vq_do(&c->vq[TX], &(struct sg){"ready\n", 6}, 1, 0);
	delay_us(500000);
	for (unsigned i = 0; i < 8; i++) {
		lens[i] = 1 + i * i * 20;
		vq_add(&c->vq[RX], &(struct sg){buf + i * 1024, lens[i]}, 0, 1);
	}
	vq_publish(&c->vq[RX]);
	vq_notify(&c->vq[RX]);
	while (got < want) {
		uint32_t len;
		int head = vq_wait(&c->vq[RX], &len);
		const uint8_t *at;

		if (head < 0)
			break;
		at = (const uint8_t *)c->vq[RX].desc[head].addr;
		for (uint32_t i = 0; i < len; i++)
			sum += at[i];
		got += len;
		vq_add(&c->vq[RX], &(struct sg){at, 1 + (uint32_t)(got % 1000)}, 0, 1);
		vq_publish(&c->vq[RX]);
		vq_notify(&c->vq[RX]);
	}
	console_back();
	CHECK_EQ(got, want, "all input came");
	print("sum=%lu\n", sum);
}

/* A console driver that breaks rules: output must work again after a reset. */
void test_console_hostile(void)
{
	static uint8_t buf[4096];
	struct vio *c;

	/* Nothing that a test finds can be printed before console_back(): it is kept. */
	for (unsigned crime = 0; crime < 8; crime++) {
		size_t mark = heap_mark();
		bool must_fail = true;

		c = take_console(0, 16);
		switch (crime) {
		case 0: /* receive buffers beyond RAM, before and after input comes */
			vq_add(&c->vq[RX], &(struct sg){(void *)ram_top, 4096}, 0, 1);
			must_fail = false;
			break;
		case 1: /* a receive buffer that is readable */
			vq_add(&c->vq[RX], &(struct sg){buf, 4096}, 1, 0);
			must_fail = false;
			break;
		case 2: /* output beyond RAM */
			vq_add(&c->vq[TX], &(struct sg){(void *)ram_top, 4096}, 1, 0);
			break;
		case 3: /* output of 4 GiB */
			vq_add(&c->vq[TX], &(struct sg){buf, 0xffffffff}, 1, 0);
			break;
		case 4: /* output into a writable buffer */
			vq_add(&c->vq[TX], &(struct sg){buf, 64}, 0, 1);
			must_fail = false;
			break;
		case 5:
			vq_offer(&c->vq[TX], 999);
			break;
		case 6:
			c->vq[TX].avail_idx = 5000;
			break;
		default: /* a loop */
			vq_add(&c->vq[TX], (struct sg[]){{buf, 1}, {buf, 1}}, 2, 0);
			c->vq[TX].desc[1].flags = VRING_DESC_F_NEXT;
			c->vq[TX].desc[1].next = 0;
		}
		for (unsigned q = RX; q <= TX; q++) {
			vq_publish(&c->vq[q]);
			vq_notify(&c->vq[q]);
		}
		if (must_fail)
			CHECK(WAIT_UNTIL(vio_status(c) & VIRTIO_CONFIG_S_NEEDS_RESET),
			      "NEEDS_RESET after crime %u", crime);
		else
			delay_us(5000);
		heap_release(mark);
	}
	console_back();
	CHECK(console_is_virtio(), "the console works again");
	CHECK(bystander_works(NULL), "other devices work");
}

void test_rng(void)
{
	struct vio *d = need(VIRTIO_ID_RNG, 0);
	uint8_t *a = alloc(65536, 16), *b = alloc(65536, 16);
	struct sg pieces[4] = {{a, 1}, {a + 1, 7}, {a + 8, 0x1000}, {a + 0x1008, 100}};
	unsigned ones = 0;
	int64_t n;

	CHECK(vio_start(d, 0, 1, 16), "start");
	n = vq_do(&d->vq[0], &(struct sg){a, 4096}, 0, 1);
	CHECK_EQ(n, 4096, "4096 bytes");
	n = vq_do(&d->vq[0], &(struct sg){b, 4096}, 0, 1);
	CHECK_EQ(n, 4096, "and 4096 more");
	CHECK(memcmp(a, b, 4096) != 0, "differ");
	for (unsigned i = 0; i < 4096; i++)
		for (unsigned bit = 0; bit < 8; bit++)
			ones += a[i] >> bit & 1u;
	CHECK(ones > 15500 && ones < 17300, "%u of 32768 bits are set", ones);
	memset(a, 0, 65536);
	n = vq_do(&d->vq[0], pieces, 0, 4);
	CHECK(n > 0 && n <= 0x1000 + 108, "%ld bytes into four pieces", n);
	for (int64_t i = n; i < 65536; i++)
		if (a[i]) {
			CHECK(false, "byte %ld written, beyond the used length", i);
			break;
		}
	n = vq_do(&d->vq[0], &(struct sg){b, 65536}, 0, 1);
	CHECK(n > 0 && n <= 65536, "%ld of 64 KiB", n);
	n = vq_do(&d->vq[0], &(struct sg){b, 1}, 0, 1);
	CHECK_EQ(n, 1, "one byte");

	/* A buffer that is not writable, and a huge one: bounded work, no harm. */
	vq_add(&d->vq[0], &(struct sg){b, 64}, 1, 0);
	vq_publish(&d->vq[0]);
	vq_notify(&d->vq[0]);
	CHECK(WAIT_UNTIL(vq_poll(&d->vq[0], NULL) >= 0 ||
			 vio_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET),
	      "an answer to a readable buffer");
	CHECK(vio_start(d, 0, 1, 16), "start again");
	CHECK(vq_do(&d->vq[0], &(struct sg){b, 8}, 0, 1) == 8, "works again");
}

/* skep-echo's device: it copies what it is given, and shows what `skep control` told it. */
void test_echo(void)
{
	struct vio *d = need(42, 0);
	uint8_t *text = alloc(128, 16), *copy = text + 64;

	CHECK(vio_start(d, 0, 2, 16), "start");
	for (unsigned n = 0; n < 10; n++) {
		memset(text, (int)n + 1, 64);
		CHECK_EQ(vq_do(&d->vq[n % 2], (struct sg[]){{text, 64}, {copy, 64}}, 1, 1), 64,
			 "bytes");
		CHECK(memcmp(text, copy, 64) == 0, "are copied");
	}
	print("ready\n");
	CHECK(WAIT_UNTIL(vio_config(d, 0, 8) == 0x4f4c4c4548), "HELLO in the configuration");
}
