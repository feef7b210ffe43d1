// SPDX-License-Identifier: BSD-2-Clause
/* The console as a device of a VM: terminal or file, the thread that writes output, a terminal's
 * signals. */
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "config/config.h"
#include "config/device_options.h"
#include "console.h"

static int console_open(struct vm_device *d, const struct device_host *host, struct error *e)
{
	const struct console_config *config = d->config;
	struct tty *tty;
	int r;

	if (config->mode == CONSOLE_STDIO && host->config->command)
		return error_set(e, -EINVAL,
				 "the standard streams are the command's, so the console cannot "
				 "have them: try --console file=PATH");
	tty = calloc(1, sizeof(*tty));
	if (!tty)
		return error_set(e, -ENOMEM, "out of memory");
	r = tty_open(tty, d->config, host, e);
	if (r < 0) {
		free(tty);
		return r;
	}
	tty->quit = host->quit;
	tty->quit_ctx = host->ctx;
	d->own = tty;
	return 0;
}

static int console_build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	return console_device_new(&d->dev, host->mem, d->own, host->loop, e);
}

static int console_ready(struct vm_device *d, struct error *e)
{
	const struct console_config *config = d->config;
	const struct tty *tty = d->own;
	int r = config->mode == CONSOLE_FILE && config->fresh ? empty_file(tty->out_fd) : 0;

	return r < 0 ? error_set(e, r, "console file %s: cannot empty it: %s", config->path,
				 strerror(-r))
		     : 0;
}

static int console_start(struct vm_device *d, device_setup setup, struct error *e)
{
	struct tty *tty = d->own;

	if (tty->name[0])
		log_notice("the console is at %s", tty->name);
	tty->confined = setup;
	return tty_start(tty, setup, (void *)(uintptr_t) "writer", e);
}

static void console_stop(struct vm_device *d)
{
	struct writer_count count = {.lost = 0};

	if (d->own)
		count = tty_stop(d->own);
	if (count.lost)
		log_warn("console: %" PRIu64 " bytes of output are lost: %s", count.lost,
			 count.error ? strerror(count.error) : WRITER_LATE);
}

static void console_close(struct vm_device *d)
{
	const struct console_config *config = d->config;
	struct tty *tty = d->own;

	if (!tty)
		return;
	if (tty->listener >= 0 && !tty->confined)
		unlink(config->path);
	tty_close(tty);
	free(d->own);
	d->own = NULL;
}

/* Signals */

static const int signals[] = {SIGTSTP, SIGCONT, SIGWINCH, SIGUSR1, 0};

static void console_signal(struct vm_device *d, int sig)
{
	if (sig == SIGUSR1) {
		if (!tty_rotate(d->own))
			log_warn("SIGUSR1 rotates a console's file that has a max-size; this has "
				 "none");
		return;
	}
	if (sig == SIGTSTP)
		tty_suspend(d->own);
	if (sig != SIGWINCH)
		console_device_attend(d->dev);
	console_device_resize(d->dev); /* it may have changed meanwhile */
}

/* Counters */

static const struct device_counter counters[] = {
	{"bytes", offsetof(struct writer_count, written)},
	{"lost_bytes", offsetof(struct writer_count, lost)},
	{.name = NULL},
};

static void console_count(const struct vm_device *d, bool wait, void *ret)
{
	const struct tty *tty = d->own;

	(void)wait;
	if (tty && tty->writer)
		*(struct writer_count *)ret = writer_count(tty->writer);
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct tty *tty = d->own;

	if (tty && tty->name[0])
		json_object_set_new(ret, "pty", json_string(tty->name));
}

static void print_status(size_t i, const json_t *console, FILE *out)
{
	char printed[DEVICE_BYTES_LEN], lost[DEVICE_BYTES_LEN];
	bool has_name = json_object_get(console, "pty");

	(void)i;
	print_line(out, "console: %s%s%s printed, %s lost",
		   has_name ? answer_text(console, "pty") : "", has_name ? ", " : "",
		   answer_bytes(console, "bytes", printed),
		   answer_bytes(console, "lost_bytes", lost));
}

/* Why a guest ended without a word */

/* Unpacked, Linux's initrds take some four times as much, in addition to the archive. */
static uint64_t memory_for(uint64_t initrd)
{
	return ALIGN_UP(5 * initrd + 128 * MIB, 128 * MIB);
}

void console_explain_silence(const struct guest_facts *facts, struct error *ret)
{
	uint64_t memory = facts->memory, initrd = facts->initrd;
	struct error memory_too = {""};

	if (facts->is_linux && initrd && memory < memory_for(initrd))
		error_set(&memory_too, 0,
			  "%llu MiB of memory are too little to unpack an initrd of %llu MiB (try "
			  "--memory %lluM), or ",
			  (unsigned long long)(memory / MIB),
			  (unsigned long long)(ALIGN_UP(initrd, MIB) / MIB),
			  (unsigned long long)(memory_for(initrd) / MIB));
	error_set(ret, 0, "it printed nothing on its console before that; likely %s%s",
		  memory_too.msg,
		  !facts->is_linux
			  ? "it prints to a serial port, where there is only virtio-console"
		  : initrd ? "its initrd does not load virtio_mmio and virtio_console"
			   : "it has no virtio_mmio and virtio_console built in, and no --initrd "
			     "to load them from");
}

static void explain_end(const struct vm_device *d, const struct guest_facts *facts,
			struct error *ret)
{
	if (!console_device_has_printed(d->dev))
		console_explain_silence(facts, ret);
}

static const char *silence_of(const struct virtio_dev *dev)
{
	uint32_t status = atomic_load(&dev->status);

	if (status & VIRTIO_CONFIG_S_DRIVER_OK)
		return "its driver of the console is ready, but nothing is written to it";
	return status & VIRTIO_CONFIG_S_DRIVER ? "its driver of the console is being set up"
					       : "no driver has found the console (it takes "
						 "virtio_mmio and virtio_console)";
}

static void voice(const struct vm_device *d, struct guest_voice *ret)
{
	const struct console_config *config = d->config;

	ret->spoke = d->dev && console_device_has_printed(d->dev);
	ret->shown = config->mode == CONSOLE_STDIO;
	ret->awaited = ret->shown && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
	ret->silence = d->dev && !ret->spoke ? silence_of(d->dev) : NULL;
}

/* Commands */

static json_t *replace_file(const struct device_request *request, struct error *e)
{
	struct tty none = {.is_file = false, .old = -1};
	int file = request_file(request);

	if (file < 0)
		error_set(e, -EINVAL,
			  "no file came with the request: pass its descriptor (SCM_RIGHTS)");
	else if (tty_replace_file(request->num ? request->devices->own : &none, file, e) == 0)
		return json_object();
	return NULL;
}

static const struct device_command commands[] = {
	{
		.name = "console-file",
		.members = (const char *const[]){NULL},
		.run = replace_file,
		.operands = "FILE",
		.summary = "append further console output to FILE",
		.max_operands = 1,
	},
	{.name = NULL},
};

const struct device_type console_type = {
	.name = "console",
	.options = &console_options,
	.open = console_open,
	.build = console_build,
	.ready = console_ready,
	.start = console_start,
	.stop = console_stop,
	.close = console_close,
	.signals = signals,
	.signal = console_signal,
	.counters = counters,
	.count = console_count,
	.describe = describe,
	.print_status = print_status,
	.commands = commands,
	.voice = voice,
	.explain_end = explain_end,
	.restore_host = tty_restore,
};
