// SPDX-License-Identifier: BSD-2-Clause
/* `skep control`: controls a running VM. One request, one answer. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "base/runtime.h"
#include "base/unixsocket.h"
#include "base/util.h"
#include "config/device_options.h"
#include "config/output.h"
#include "control.h"
#include "control/control.h"
#include "vm/devices.h"

#define MAX_ANSWER     MIB
#define PATIENCE_S     1
#define MAX_SILENCE_NS (60 * NSEC_PER_SEC)

/* The VM's own commands; control/commands.c has the other end */

struct status_options {
	bool json;
};

static const struct setting status_settings[] = {
	{"json", BOOL_FIELD(status_options, json), .help = "print it as JSON"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static void print_devices(const struct device_type *type, const json_t *answer, FILE *out)
{
	const char *plural = type->options->plural;
	const json_t *devices = json_object_get(answer, plural ? plural : type->options->name);
	const json_t *device;
	size_t i;

	if (json_is_object(devices))
		type->print_status(0, devices, out);
	json_array_foreach(devices, i, device) type->print_status(i, device, out);
}

static int print_status(const struct device_words *words, const json_t *answer, FILE *out)
{
	const struct status_options *options = words->options;
	_cleanup_free_ char *text = NULL;

	if (options->json) {
		text = json_to_text(json_incref((json_t *)(uintptr_t)answer));
		if (!text)
			return -ENOMEM;
		fputs(text, out);
		return 0;
	}
	print_line(out, "%s for %.1f s", answer_text(answer, "state"),
		   json_number_value(json_object_get(answer, "seconds")));
	for (const struct device_type *const *type = device_types; *type; type++)
		if ((*type)->print_status)
			print_devices(*type, answer, out);
	return 0;
}

struct dmesg_options {
	bool all, json;
};

static const struct setting dmesg_settings[] = {
	{"all", BOOL_FIELD(dmesg_options, all),
	 .help = "all that the kernel still has, not its newest 64 KiB"},
	{"json", BOOL_FIELD(dmesg_options, json), .help = "print each message as a JSON object"},
	SETTING_HELP_ROW,
	{.name = NULL},
};

static int ask_dmesg(const struct device_words *words, json_t *request, struct error *e)
{
	const struct dmesg_options *options = words->options;

	(void)e;
	if (options->all)
		json_object_set_new(request, "from", json_integer(0));
	return 0;
}

static int print_dmesg(const struct device_words *words, const json_t *answer, FILE *out)
{
	const struct dmesg_options *options = words->options;
	const json_t *messages = json_object_get(answer, "messages"), *message;
	size_t i;

	json_array_foreach(messages, i, message)
	{
		struct klog_record record = {.ns = answer_number(message, "ns"),
					     .text = answer_text(message, "text")};

		if (!options->json) {
			klog_print(&record, out);
			continue;
		}
		json_dumpf(message, out, JSON_COMPACT | JSON_ENSURE_ASCII);
		fputc('\n', out);
	}
	return 0;
}

/* Up to what there was at first: a guest that writes without end is not followed. */
static bool more_dmesg(const json_t *first, const json_t *answer, json_t *request)
{
	const json_t *from = json_object_get(request, "from");
	uint64_t next = answer_number(answer, "next");

	if (!from || next <= (uint64_t)json_integer_value(from) ||
	    next >= answer_number(first, "end"))
		return false;
	json_object_set_new(request, "from", json_integer((json_int_t)next));
	return true;
}

static const struct device_command vm_commands[] = {
	{
		.name = "status",
		.operands = "",
		.summary = "show how long it has been running, and what its devices did",
		.settings = status_settings,
		.options_size = sizeof(struct status_options),
		.print = print_status,
	},
	{.name = "power-button", .operands = "", .summary = "press the guest's power button"},
	{.name = "stop", .operands = "", .summary = "end it by force"},
	{
		.name = "dmesg",
		.operands = "",
		.summary = "print its Linux kernel's log, read from its memory",
		.settings = dmesg_settings,
		.options_size = sizeof(struct dmesg_options),
		.ask = ask_dmesg,
		.print = print_dmesg,
		.more = more_dmesg,
	},
	{.name = NULL},
};

struct verb_table {
	struct cli_verb verb[33]; /* ends with name == NULL */
	const struct device_command *command[32];
	unsigned num;
};

static void add_verbs(struct verb_table *t, const struct device_command *c)
{
	for (; c && c->name; c++) {
		if (!c->summary)
			continue;
		assert(t->num < ARRAY_SIZE(t->command));
		t->command[t->num] = c;
		t->verb[t->num++] = (struct cli_verb){
			.name = c->name,
			.operands = c->operands,
			.summary = c->summary,
			.max_operands = c->max_operands,
			.settings = c->settings ? c->settings : help_settings,
		};
	}
}

static const struct verb_table *verbs(void)
{
	static struct verb_table table;

	if (table.num)
		return &table;
	add_verbs(&table, vm_commands);
	for (const struct device_type *const *type = device_types; *type; type++)
		add_verbs(&table, (*type)->commands);
	return &table;
}

const struct cli_verb *cli_control_verbs(void)
{
	return verbs()->verb;
}

static int take_words(struct control_call *call, const struct verb_words *w, struct error *e)
{
	const struct device_command *c = verbs()->command[w->verb - cli_control_verbs()];

	call->command = c;
	memcpy(call->words.operand, w->operand, sizeof(w->operand));
	call->request = json_pack("{s:s}", "command", c->name);
	if (!call->request)
		return error_set(e, -ENOMEM, "out of memory");
	return c->ask ? c->ask(&call->words, call->request, e) : 0;
}

/* Before the parser knows the command: its options have a struct of their own. */
static void set_defaults(struct control_call *call, const char *command)
{
	const struct verb_table *t = verbs();

	for (unsigned i = 0; i < t->num; i++)
		if (strcmp(t->verb[i].name, command) == 0 && t->command[i]->defaults)
			memcpy(call->options, t->command[i]->defaults, t->command[i]->options_size);
}

int cli_parse_control(int argc, char *const *argv, struct control_call *ret, struct error *e)
{
	struct verb_words w = {.command = "control", .usage = "control PATH", .call = ret->options};
	int r;

	*ret = (struct control_call){.words.options = ret->options};
	if (cli_asks_for_help(argc, argv))
		return -EHELP;
	if (argc < 2 || !cli_is_given(argv[0]))
		return error_set(e, -EINVAL, "a %s is missing: skep control PATH COMMAND",
				 argc > 0 && cli_is_given(argv[0]) ? "command" : "path");
	ret->vm = argv[0];
	set_defaults(ret, argv[1]);
	r = cli_parse_verb(&w, cli_control_verbs(), argc - 1, argv + 1, e);
	return r < 0 ? r : take_words(ret, &w, e);
}

void control_call_destroy(struct control_call *call)
{
	json_decref(call->request);
	call->request = NULL;
}

/* The call */

static int explain_connect(int err, struct error *e)
{
	switch (err) {
	case ENOENT:
		return error_set(e, -err,
				 "no such socket: a VM makes it when started with --control; nor "
				 "is there a VM of this name: 'skep ps' lists those that run");
	case ECONNREFUSED:
		return error_set(e, -err,
				 "nothing listens there: the VM has ended, or this is "
				 "not a control socket");
	case EACCES:
	case EPERM:
		return error_set(
			e, -err,
			"permission denied: only the VM's user and root may use the socket");
	default:
		return error_set(e, -err, "cannot connect: %m");
	}
}

/* Whether a process is stopped: the state follows its name, which may contain anything. */
static bool is_stopped(pid_t pid)
{
	char text[256];
	const char *state;

	read_text(text, sizeof(text), "/proc/%d/stat", (int)pid);
	state = strrchr(text, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

/* After PATIENCE_S without an answer: a message, or 0 to keep waiting. */
static int explain_silence(int fd, uint64_t since, struct error *e)
{
	struct ucred peer = {.pid = 0};
	socklen_t len = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (peer.pid > 0 && is_stopped(peer.pid))
		return error_set(e, -ETIMEDOUT,
				 "the VM's process %d is stopped: continue it with kill -CONT %d, "
				 "or fg in its shell",
				 (int)peer.pid, (int)peer.pid);
	if (now_ns() - since < MAX_SILENCE_NS)
		return 0;
	return error_set(e, -ETIMEDOUT,
			 "no answer for %u s: the VM hangs, or is busy with other clients",
			 (unsigned)(MAX_SILENCE_NS / NSEC_PER_SEC));
}

/* A stopped VM still gets up to CONTROL_MAX_CLIENTS connections, and no more. */
static int connect_to(int fd, const struct sockaddr_un *addr, struct error *e)
{
	uint64_t since = now_ns();

	while (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return explain_connect(errno, e);
		if (now_ns() - since >= MAX_SILENCE_NS)
			return error_set(
				e, -ETIMEDOUT,
				"the VM accepts no connections: it is stopped, or it hangs");
	}
	return 0;
}

static int open_socket(const char *path, struct error *e)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un addr;
	int fd, r = unix_address(&addr, path, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(e, -errno, "cannot create a socket: %m");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	r = connect_to(fd, &addr, e);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Descriptors go with the first byte. */
static ssize_t send_with(int fd, const char *text, size_t len, const int *files, unsigned num)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CONTROL_MAX_FILES * sizeof(int))];
	} passed = {.header = {.cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(num * sizeof(int))}};
	struct iovec data = {(char *)(uintptr_t)text, len};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};

	if (num) {
		memcpy(CMSG_DATA(&passed.header), files, num * sizeof(int));
		m.msg_control = &passed;
		m.msg_controllen = CMSG_SPACE(num * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int send_request(int fd, const json_t *request, const int *files, unsigned num,
			struct error *e)
{
	_cleanup_free_ char *text = json_dumps(request, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	uint64_t since = now_ns();

	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	text[len++] = '\n'; /* in the place of the NUL */
	for (size_t done = 0; done < len;) {
		ssize_t n = send_with(fd, text + done, len - done, files, done ? 0 : num);
		int r = n < 0 && errno == EAGAIN ? explain_silence(fd, since, e) : 0;

		if (r < 0)
			return r;
		/* Before it hung up it said why: there is an answer. */
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return error_set(e, -EIO, "cannot send: %s", strerror(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int read_answer(int fd, json_t **ret, struct error *e)
{
	_cleanup_free_ char *text = malloc(MAX_ANSWER);
	uint64_t since = now_ns();
	size_t len = 0;
	ssize_t n;
	int r;

	if (!text)
		return error_set(e, -ENOMEM, "out of memory");
	while (!memchr(text, '\n', len)) {
		n = len < MAX_ANSWER ? read(fd, text + len, MAX_ANSWER - len) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			r = explain_silence(fd, since, e);
			if (r < 0)
				return r;
			continue;
		}
		if (n <= 0)
			return error_set(e, -EIO, "the VM ended without an answer");
		len += (size_t)n;
	}
	*ret = json_loadb(text, len, 0, NULL);
	if (!json_is_object(*ret)) {
		json_decref(*ret);
		return error_set(e, -EIO, "the answer makes no sense: is this a control socket?");
	}
	return 0;
}

int control_ask(const char *vm, const json_t *request, const int *files, unsigned num, json_t **ret,
		struct error *e)
{
	_cleanup_free_ char *path = runtime_socket(vm);
	_cleanup_close_ int fd = -1;
	json_t *answer = NULL;
	const char *error;
	int r;

	if (!path)
		return error_set(e, -ENOMEM, "out of memory");
	r = fd = open_socket(path, e);
	if (r >= 0)
		r = send_request(fd, request, files, num, e);
	if (r >= 0)
		r = read_answer(fd, &answer, e);
	if (r < 0)
		return error_prefix(e, -EIO, "%s", vm);
	*ret = answer;
	error = json_string_value(json_object_get(answer, "error"));
	if (!error)
		return 0;
	r = error_set(e, -EIO, "%s", error);
	json_decref(answer);
	return r;
}

/* Asks, and where there is more of the answer asks for that. */
static int ask_all(const struct control_call *call, int file, FILE *out, struct error *e)
{
	const struct device_command *c = call->command;
	json_t *first = NULL, *answer = NULL;
	bool more = true;
	int r = 0;

	while (more) {
		r = control_ask(call->vm, call->request, &file, file >= 0, &answer, e);
		if (r < 0)
			break;
		if (!first)
			first = json_incref(answer);
		r = c->print ? c->print(&call->words, answer, out) : 0;
		more = r == 0 && c->more && c->more(first, answer, call->request);
		json_decref(answer);
	}
	json_decref(first);
	return r;
}

int control_call_run(const struct control_call *call, FILE *out, struct error *e)
{
	const char *path = call->words.operand[0];
	_cleanup_close_ int file = -1;
	bool is_new = false;
	int r;

	if (strcmp(call->command->operands, "FILE") == 0) {
		/* The VM opens nothing, as it is in its sandbox. */
		is_new = access(path, F_OK) < 0;
		file = output_open(path, O_APPEND, 0600, NULL, e);
		if (file < 0)
			return error_prefix(e, -EIO, "%s", path);
	}
	r = ask_all(call, file, out, e);
	if (r < 0 && is_new)
		unlink(path);
	return r;
}

/* The command */

static int run(int argc, char *const *argv, struct error *e)
{
	struct control_call call;
	int r = cli_parse_control(argc, argv, &call, e);

	r = r < 0 ? cli_parse_error(r) : control_call_run(&call, stdout, e);
	control_call_destroy(&call);
	return r;
}

static void help(FILE *out)
{
	fputs("Usage: skep control PATH COMMAND [OPTION...] [ARGUMENT...]\n\n"
	      "Controls a running virtual machine that was started with --control PATH. A SIZE\n"
	      "is like 512M or 4G; a bare number is MiB.\n",
	      out);
	help_verbs(out, cli_control_verbs());
}

static void complete(FILE *out, int n, char *const *words)
{
	if (n == 1)
		fputs(":files\n", out);
	else
		complete_verbs(out, cli_control_verbs(), false, n - 1, words + 1);
}

const struct command command_control = {
	.name = "control",
	.summary = "control a running virtual machine",
	.run = run,
	.help = help,
	.complete = complete,
};
