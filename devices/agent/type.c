// SPDX-License-Identifier: BSD-2-Clause
/* The port to the guest's agent as a device of a VM; what is at its other end is a relay. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "base/log.h"
#include "base/util.h"
#include "config/config.h"
#include "console/tty.h"
#include "relay.h"
#include "virtio/type.h"
#include "vport/vport.h"

/* What a VM has from open() to close(). */
struct place {
	struct tty tty; /* in raw mode, if the command has the terminal */
	bool has_tty;
	int pair[2]; /* the port's end and the relay's; -1: not ours */
	struct relay *relay;
	uint64_t memory; /* that the guest has */
};

static bool is_there(const struct vm_config *config)
{
	return config->command;
}

const struct device_options agent_options = {
	.name = "command",
	.what = "the command",
	.max = 1,
	.defaults = "", /* a struct of no fields */
	.is_there = is_there,
};

static int open_place(struct vm_device *d, const struct device_host *host, struct error *e)
{
	static const struct console_config standard = {.mode = CONSOLE_STDIO};
	struct place *place = calloc(1, sizeof(*place));

	if (!place)
		return error_set(e, -ENOMEM, "out of memory");
	place->pair[0] = place->pair[1] = -1;
	place->memory = host->config->memory.start;
	d->own = place;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, place->pair) < 0)
		return error_set(e, -errno, "cannot make a pair of sockets: %m");
	if (!host->config->terminal || !isatty(STDIN_FILENO))
		return 0;
	place->has_tty = true;
	return tty_open(&place->tty, &standard, host, e);
}

static uint32_t size_of(void *tty)
{
	uint16_t columns, rows;

	tty_size(tty, &columns, &rows);
	return (uint32_t)columns << 16 | rows;
}

static int build(struct vm_device *d, const struct device_host *host, struct error *e)
{
	struct place *place = d->own;
	struct vport_end end = {.fd = place->pair[0],
				.listener = -1,
				.other = -1,
				.reads = true,
				.writes = true,
				.patient = true,
				.where = "skep itself"};
	struct relay_config relay = {
		.port = place->pair[1],
		.in = STDIN_FILENO,
		.out = STDOUT_FILENO,
		.err = STDERR_FILENO,
		.artifacts = host->config->artifacts ? host->config->setup.artifacts : -1,
		.setup = host->config->setup.bytes,
		.setup_len = host->config->setup.len,
		.size = place->has_tty ? size_of : NULL,
		.ctx = &place->tty};
	struct loop *loop;
	int r = loop_new(&loop, "agent", LOOP_EPOLL, 0, e);

	if (r < 0)
		return r;
	device_add_loop(d, loop, "agent");
	place->pair[1] = -1;
	r = relay_new(&place->relay, &relay, loop, e);
	if (r == 0)
		r = loop_new(&loop, "agent-port", LOOP_EPOLL, 0, e);
	if (r < 0)
		return r;
	device_add_loop(d, loop, "port");
	place->pair[0] = -1;
	return vport_device_new(&d->dev, host->mem, AGENT_PORT, &end, loop, e);
}

static void stop(struct vm_device *d)
{
	const struct place *place = d->own;
	int r;

	if (!place || !place->relay)
		return;
	relay_finish(place->relay);
	r = relay_result(place->relay, NULL);
	if (r >= 0 && (unsigned)r & AGENT_OUT_OF_MEMORY)
		log_warn("the guest ran out of memory, and its kernel killed a process: give it "
			 "more "
			 "than %s with --memory",
			 BYTES_TEXT(place->memory));
}

static void close_place(struct vm_device *d)
{
	struct place *place = d->own;

	if (!place)
		return;
	relay_free(place->relay);
	for (size_t i = 0; i < ARRAY_SIZE(place->pair); i++)
		if (place->pair[i] >= 0)
			close(place->pair[i]);
	if (place->has_tty)
		tty_close(&place->tty);
	free(place);
	d->own = NULL;
}

/* Signals */

static const int signals[] = {SIGTSTP, SIGCONT, SIGWINCH, 0};

static void on_signal(struct vm_device *d, int sig)
{
	struct place *place = d->own;

	if (sig == SIGTSTP)
		tty_suspend(place->has_tty ? &place->tty : NULL);
	if (sig != SIGWINCH && place->has_tty)
		tty_attend(&place->tty);
	relay_resize(place->relay);
}

static void interrupt(struct vm_device *d, int sig)
{
	const struct place *place = d->own;

	relay_signal(place->relay, sig);
}

/* What a client of the VM hands over: a socket, the setup, three streams. */
enum { TALK, SETUP, STREAMS, NUM_FILES = STREAMS + 3 };

static int take_client(const struct device_request *request, struct relay_client *ret,
		       struct error *e)
{
	uint64_t sockets = 0, blocks = 0, size = 0;
	struct stat st;
	int r = request_number(request->json, "sockets", 0, &sockets, e);

	if (r == 0)
		r = request_number(request->json, "blocks", 0, &blocks, e);
	if (r == 0)
		r = request_number(request->json, "size", 0, &size, e);
	if (r < 0)
		return r;
	if (request->num_files != NUM_FILES)
		return error_set(e, -EINVAL, "%u descriptors came with it, not %u",
				 request->num_files, NUM_FILES);
	if (fstat(request->files[SETUP], &st) < 0 || !S_ISREG(st.st_mode))
		return error_set(e, -EINVAL, "the second descriptor is no file");
	*ret = (struct relay_client){.talk = request->files[TALK],
				     .setup = request->files[SETUP],
				     .terminal = json_object_get(request->json, "size"),
				     .size = (uint32_t)size};
	for (unsigned i = 0; i < 3; i++)
		ret->stream[i] = (struct std_stream){.fd = request->files[STREAMS + i],
						     .owned = true,
						     .socket = sockets >> i & 1,
						     .blocks = blocks >> i & 1};
	return 0;
}

static json_t *add_command(const struct device_request *request, struct error *e)
{
	const struct place *place = request->num ? request->devices->own : NULL;
	struct relay_client client;

	if (!place || !place->relay)
		error_set(e, -EINVAL,
			  "no agent is in this VM: it was not started as 'skep run -- COMMAND'");
	else if (take_client(request, &client, e) == 0 &&
		 relay_add(place->relay, &client, e) == 0) {
		for (unsigned i = 0; i < request->num_files; i++)
			request->files[i] = -1;
		return json_object();
	}
	return NULL;
}

static const struct device_command commands[] = {
	{
		.name = "exec",
		.members = (const char *const[]){"sockets", "blocks", "size", NULL},
		.run = add_command,
	},
	{.name = NULL},
};

/* The end */

static const struct device_counter counters[] = {
	DEVICE_COUNTER(relay_counters, stdin_bytes),
	DEVICE_COUNTER(relay_counters, stdout_bytes),
	DEVICE_COUNTER(relay_counters, stderr_bytes),
	{.name = NULL},
};

static void count(const struct vm_device *d, bool wait, void *ret)
{
	const struct place *place = d->own;

	(void)wait;
	if (place && place->relay)
		relay_counters(place->relay, ret);
}

static int result(const struct vm_device *d, struct error *e)
{
	const struct place *place = d->own;

	return relay_result(place->relay, e);
}

static int exit_status(const struct vm_device *d, struct error *e)
{
	int r = result(d, e);
	unsigned how = (unsigned)r, sig = AGENT_SIGNALLED(how);

	return r < 0 ? r : (int)(sig ? 128 + sig : AGENT_STATUS(how));
}

static void describe(const struct vm_device *d, json_t *ret)
{
	const struct place *place = d->own;
	int r = place && place->relay ? result(d, NULL) : -ECHILD;
	unsigned how = (unsigned)r, sig = r < 0 ? 0 : AGENT_SIGNALLED(how);

	json_object_set_new(ret, "status",
			    r < 0 || sig ? json_null() : json_integer(AGENT_STATUS(how)));
	json_object_set_new(ret, "signal", sig ? json_integer(sig) : json_null());
	json_object_set_new(ret, "out_of_memory",
			    json_boolean(r >= 0 && how & AGENT_OUT_OF_MEMORY));
}

static void print_status(size_t i, const json_t *status, FILE *out)
{
	char in[DEVICE_BYTES_LEN], sent[DEVICE_BYTES_LEN], errors[DEVICE_BYTES_LEN];

	(void)i;
	if (!json_object_size(status)) /* there is none */
		return;
	fprintf(out, "command: %s of input, %s of output, %s of errors\n",
		answer_bytes(status, "stdin_bytes", in), answer_bytes(status, "stdout_bytes", sent),
		answer_bytes(status, "stderr_bytes", errors));
}

const struct device_type agent_type = {
	.name = "agent",
	.options = &agent_options,
	.open = open_place,
	.build = build,
	.stop = stop,
	.close = close_place,
	.signals = signals,
	.signal = on_signal,
	.interrupt = interrupt,
	.exit_status = exit_status,
	.counters = counters,
	.count = count,
	.describe = describe,
	.print_status = print_status,
	.commands = commands,
};
