// SPDX-License-Identifier: BSD-2-Clause
#include <string.h>
#include <sys/ioctl.h>

#include "base/progress.h"
#include "base/util.h"

#define MAX_BAR 40u

void progress_line(char *ret, size_t len, unsigned columns, uint64_t done, uint64_t total,
		   uint64_t elapsed_ns)
{
	double part = total ? (double)done / (double)total : 1;
	char text[80], left[32] = "", bar[MAX_BAR + 1];
	unsigned width, full;

	part = MIN(part, 1.0);
	if (part > 0.01)
		snprintf(left, sizeof(left), ", %.0f s left",
			 (double)elapsed_ns / (double)NSEC_PER_SEC * (1 - part) / part);
	snprintf(text, sizeof(text), "%3u %%  %s of %s%s", (unsigned)(part * 100), BYTES_TEXT(done),
		 BYTES_TEXT(total), left);
	/* "[bar] text", and a column for the cursor */
	width = (unsigned)strlen(text) + 4;
	width = MIN(columns > width ? columns - width : 0, MAX_BAR);
	full = (unsigned)(part * width);
	memset(bar, '.', width);
	memset(bar, '#', full);
	bar[width] = '\0';
	if (width)
		snprintf(ret, len, "[%s] %s", bar, text);
	else
		snprintf(ret, MIN(len, MAX(columns, 1u)), "%s", text);
}

void progress_begin(struct progress *p, FILE *out, uint64_t total, uint64_t now)
{
	*p = (struct progress){
		.out = out && isatty(fileno(out)) ? out : NULL,
		.total = total,
		.start_ns = now,
		.next_ns = now + PROGRESS_DELAY_NS,
	};
}

void progress_show(struct progress *p, uint64_t done, uint64_t now)
{
	struct winsize size = {.ws_col = 0};
	char line[160];

	if (!p->out || now < p->next_ns)
		return;
	p->next_ns = now + PROGRESS_PERIOD_NS;
	ioctl(fileno(p->out), TIOCGWINSZ, &size);
	progress_line(line, sizeof(line), size.ws_col ? size.ws_col : 80, done, p->total,
		      now - p->start_ns);
	fprintf(p->out, "\r%s\033[K", line);
	fflush(p->out);
	p->drawn = true;
}

void progress_end(struct progress *p)
{
	if (p->drawn) {
		fputs("\r\033[K", p->out);
		fflush(p->out);
	}
	p->drawn = false;
}
