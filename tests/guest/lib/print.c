// SPDX-License-Identifier: BSD-2-Clause
/* Formatted text, a line at a time to the console. */
#include "guest.h"

static char line[512];
static size_t len;

static void put(char c)
{
	line[len++] = c;
	if (c == '\n' || len == sizeof(line)) {
		size_t n = len;

		len = 0;
		console_write(line, n);
	}
}

static void put_number(uint64_t v, unsigned base, unsigned width)
{
	char digits[24];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v || n < width);
	while (n)
		put(digits[--n]);
}

static void put_argument(char conversion, bool is_long, unsigned width, va_list *ap)
{
	switch (conversion) {
	case 's':
		for (const char *s = va_arg(*ap, const char *); *s; s++)
			put(*s);
		break;
	case 'c':
		put((char)va_arg(*ap, int));
		break;
	case 'd': {
		int64_t v = is_long ? va_arg(*ap, int64_t) : va_arg(*ap, int);

		if (v < 0)
			put('-');
		put_number(v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width);
		break;
	}
	case 'u':
	case 'x':
		put_number(is_long ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned),
			   conversion == 'x' ? 16 : 10, width);
		break;
	default:
		put(conversion);
	}
}

void vprint(const char *fmt, va_list ap)
{
	va_list args;

	va_copy(args, ap);
	for (; *fmt; fmt++) {
		unsigned width = 0;
		bool is_long = false;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			is_long = true;
		put_argument(*fmt, is_long, width, &args);
	}
	va_end(args);
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}
